"""What a page shows of one VPS: its state in one word, and each fact with its age and source. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from api.client.record_view import LINKED, client_view


@dataclass(frozen=True, slots=True)
class Fact:
    """When something was last confirmed, and by what (``proxmox``, ``sync``, the name of a feed, ``operator``)."""

    as_of: datetime
    source: str


@dataclass(frozen=True, slots=True)
class ShownVps:
    """One VPS of the customer. ``state``: a status of the API; "unknown" where nothing confirms one now; "paused" where
    operators paused the VPS, so that nobody writes what is seen of it. ``now``: the time on the database's clock, for
    ages. ``view``: the record as the API answers it."""

    view: Mapping[str, Any]
    state: str
    power: Fact
    order: Fact
    created_at: datetime
    updated_at: datetime
    now: datetime

    @property
    def tells_age(self) -> bool:
        """Whether its state is shown with its age."""
        return self.state in {"unknown", "paused"}


def shown(row: Mapping[str, Any], *, paused: bool = False) -> ShownVps:
    """What a page shows of a row of ``records_query``. ``paused``: it is one of ``paused_among``."""
    view = client_view(row)
    state = view["status"]
    if _says_how_it_runs(row) and row["link_state"] in LINKED:
        state = "paused" if paused else "unknown" if view["stale"] else state
    return ShownVps(
        view=view,
        state=state,
        power=Fact(row["as_of"], view["source"]),
        order=Fact(row["order_as_of"], row["order_source"]),
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        now=row["read_at"],
    )


def _says_how_it_runs(row: Mapping[str, Any]) -> bool:
    """Whether the status comes of the power state, which ages. Others come of the order, or of a proof that the machine
    is gone."""
    if row["order_state"] in {"suspended", "pending"}:
        return False
    return row["power_state"] in {row["status"], "unknown"}
