"""What a run did not load but its decisions need. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from domain.guests import Guest, GuestType


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What a world's decisions depend on although it is not in that world: there was more than a run loads.

    ``partners``: by order, an unlinked record of the same customer that may belong to the order by plan and time.
    ``guestless_orders``: by the type of guest sold (None: the order does not say), when the newest order was made that
    has not ended, may be on Proxmox and has no guest, neither named nor linked; None: nobody knows when one of them was
    made. ``unnamed``: guests that no order and no verified record
    names; None: there may be any.
    ``disputed``: some record may have a right to an address that a call named for it and another record holds, or
    some order that has no guest was not looked at.
    """

    partners: Mapping[str, int] = field(default_factory=dict)
    guestless_orders: Mapping[GuestType | None, datetime | None] = field(default_factory=dict)
    unnamed: tuple[Guest, ...] | None = ()
    disputed: bool = False
