"""What matters to a decision of what a run did not load. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from domain.guests import Guest, GuestType


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What matters to a world of what is not in it, since there was more to think about than a run loads.

    ``partners``: by order, an unlinked record of its customer that may be its own by plan and time. ``homeless``: when
    the last going order that names no guest and has none was made, by the type of guest it sold (None: it does not
    say). ``unnamed``: guests that no order and no verified record names; None: they may be any. ``disputed``: whether
    a record may have the address that a call named for it, and somebody else has.
    """

    partners: Mapping[str, int] = field(default_factory=dict)
    homeless: Mapping[GuestType | None, datetime] = field(default_factory=dict)
    unnamed: tuple[Guest, ...] | None = ()
    disputed: bool = False
