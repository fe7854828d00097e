"""What a page says of one change of a VPS: what happened, what changed, and why. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from api.pages.shown_power import ShownAction, shown_action

What = Literal["created", "became-theirs", "restored", "changed", "asked"]
Why = Literal["site", "order", "server", "staff", "you"]

ORDER = ("status", "name", "cpu", "ram_mb", "disk_gb", "os", "ip_address", "ip6_address")
"""The columns in the order in which a page names them."""


@dataclass(frozen=True, slots=True)
class Changed:
    """One column that changed. ``before`` is None if there was no value."""

    column: str
    before: Any
    after: Any


@dataclass(frozen=True, slots=True)
class ShownChange:
    """One change, or a power action of the customer (``asked``). ``why``: the site said so, the order says so, it was
    seen on the server, staff did it, or the customer asked for it."""

    at: datetime
    what: What
    why: Why
    changed: tuple[Changed, ...] = ()
    asked: ShownAction | None = None


def happened(
    changes: Iterable[Mapping[str, Any]], actions: Iterable[Mapping[str, Any]], most: int
) -> list[ShownChange]:
    """The latest ``most`` of the rows of ``client_activity`` and of those power actions that are over, newest first. An
    action stands at the time at which it was asked for, so what came of it follows it."""
    told = [shown_change(row) for row in changes]
    over = (shown_action(row) for row in actions if row["ended_at"] is not None)
    told += [ShownChange(one.asked_at, "asked", "you", asked=one) for one in over]
    return sorted(told, key=lambda one: one.at, reverse=True)[:most]


def shown_change(row: Mapping[str, Any]) -> ShownChange:
    """What a page says of a row of ``client_activity``."""
    before, after = row["before"] or {}, row["after"] or {}
    changed = tuple(Changed(column, before.get(column), after[column]) for column in ORDER if column in after)
    what = _what(row)
    if what in {"became-theirs", "restored"}:
        changed = tuple(one for one in changed if one.column == "status")
    return ShownChange(row["applied_at"], what, _why(row), changed)


def _what(row: Mapping[str, Any]) -> What:
    if row["action"] == "create":
        return "created"
    if row["became_theirs"]:
        return "became-theirs"
    return "restored" if row["action"] == "restore" else "changed"


def _why(row: Mapping[str, Any]) -> Why:
    if row["kind"] == "operator" or row["source"] == "operator":
        return "staff"
    if row["kind"] == "sync":
        return "site"
    return "server" if row["source"] == "proxmox" else "order"
