"""One VPS as its order, its record and its guest say it, line by line, and where they differ. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from domain.record_columns import DRIFTING

CONFIGURED = {"cpu": "cores", "ram_mb": "memory_mb", "disk_gb": "disk_gb"}
"""Columns of a record whose value a guest's configuration has, too, and its name there."""


@dataclass(frozen=True, slots=True)
class Line:
    """One fact. ``name``: a column of the record, or "state", "place", "changed", "read". A value is None where its
    side does not say it: that is no difference. ``order_differs``, ``guest_differs``: from what the panel says."""

    name: str
    order: Any = None
    panel: Any = None
    guest: Any = None
    order_differs: bool = False
    guest_differs: bool = False

    @property
    def differs(self) -> bool:
        return self.order_differs or self.guest_differs


def compare(
    record: Mapping[str, Any],
    order: Mapping[str, Any],
    guest: Mapping[str, Any],
    config: Mapping[str, Any],
    owner: int | None,
    *,
    names: bool,
) -> list[Line]:
    """The lines, for a live record and for a deleted one, in which nothing counts as a difference.

    ``order``, ``guest``: rows of the database, empty if there is none. ``config``: the sizes of this very guest, from
    its own configuration. ``owner``: the panel's id of the order's customer, None if not known. ``names``: whether the
    feed's names count.
    """
    lines = [
        _order_line("state", order.get("state"), record["order_state"], unknown="unknown"),
        _owner_line(record, order, owner),
        *(_plan_line(column.name, record, order, guest, config, counts=names or not column.feed_names_only)
          for column in DRIFTING),
        _guest_line("power_state", record["power_state"], guest.get("power"), unknown="unknown"),
        _place_line(record, order, guest),
        _guest_line("node", record["node"], guest.get("node"), order.get("node")),
        _guest_line("guest_type", record["guest_type"], guest.get("guest_type"), order.get("guest_type")),
        _guest_line("fingerprint", record["fingerprint"], guest.get("fingerprint")),
        Line("link_state", panel=record["link_state"]),
        Line("changed", order.get("changed_at"), record["updated_at"], guest.get("changed_at")),
        Line("read", order.get("effective_at"), record["power_as_of"], guest.get("read_at")),
    ]  # fmt: skip
    if record["deleted_at"] is None:
        return lines
    return [Line(line.name, line.order, line.panel, line.guest) for line in lines]


def _order_line(name: str, order: Any, panel: Any, *, unknown: str) -> Line:  # noqa: ANN401 - values of columns
    return Line(name, order, panel, order_differs=order not in (None, unknown, panel))


def _guest_line(name: str, panel: Any, guest: Any, order: Any = None, *, unknown: str = "") -> Line:  # noqa: ANN401 - values of columns
    differs = panel is not None and guest not in (None, unknown, panel)
    return Line(name, order, panel, guest, guest_differs=differs)


def _owner_line(record: Mapping[str, Any], order: Mapping[str, Any], owner: int | None) -> Line:
    said = order.get("owner")
    told = None if said is None else f"site {said}, panel {owner if owner is not None else '?'}"
    return Line("user_id", told, record["user_id"], order_differs=said is not None and owner != record["user_id"])


def _plan_line(
    name: str,
    record: Mapping[str, Any],
    order: Mapping[str, Any],
    guest: Mapping[str, Any],
    config: Mapping[str, Any],
    *,
    counts: bool,
) -> Line:
    sold, kept = order.get(name), record[name]
    configured = CONFIGURED.get(name)
    has = config.get(configured) if configured is not None else guest.get(name)
    return Line(
        name,
        sold,
        kept,
        has,
        order_differs=counts and sold not in (None, kept),
        guest_differs=configured is not None and has not in (None, kept),
    )


def _place_line(record: Mapping[str, Any], order: Mapping[str, Any], guest: Mapping[str, Any]) -> Line:
    named, kept, there = place_of(order), place_of(record), place_of(guest)
    differs = named not in (None, kept) and order.get("state") != "ended"
    return Line("place", named, kept, there, order_differs=differs)


def place_of(row: Mapping[str, Any]) -> str | None:
    """The guest that a row of an order, a record or a guest names, as ``cluster/vmid``."""
    if row.get("cluster") is None or row.get("vmid") is None:
        return None
    return f"{row['cluster']}/{row['vmid']}"
