"""Low-level writes of records, lanes and the journal. Used by :mod:`panel.writer` and :mod:`panel.repairs` only.

Lock order everywhere: names (order ids, sorted), then lanes by id, then rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import structlog
from sqlalchemy import Connection, case, insert, literal, select, text, update
from sqlalchemy.dialects.postgresql import insert as pg_insert

from panel import tables
from panel.facts import Row

log = structlog.get_logger(__name__)

SETTLED_CHANNEL = "panel_settled"
"""NOTIFY here (payload: operation id) tells waiting calls that an operation is settled."""


def database_now(connection: Connection) -> datetime:
    """The database's clock, the only one that decides anything."""
    now: datetime = connection.scalar(text("SELECT clock_timestamp()"))
    return now


def lock_orders(connection: Connection, order_ids: Iterable[str | None]) -> None:
    """Hold these order ids to the end of the transaction, against creates that claim them."""
    names = sorted(f"order:{o}" for o in set(order_ids) if o is not None)
    for name in names:
        connection.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))"), {"name": name})


def lock_lanes(connection: Connection, ids: Iterable[int]) -> dict[int, Row]:
    """Lock the lanes of these ids, in id order."""
    lanes = tables.lanes
    rows = connection.execute(
        select(lanes).where(lanes.c.vps_id.in_(sorted(ids))).order_by(lanes.c.vps_id).with_for_update()
    )
    return {row.vps_id: dict(row._mapping) for row in rows}


def load_row(connection: Connection, vps_id: int) -> Row | None:
    """A record's row, or None."""
    found = connection.execute(select(tables.vps).where(tables.vps.c.id == vps_id)).one_or_none()
    return dict(found._mapping) if found else None


def store_new(connection: Connection, row: Row) -> None:
    """Insert a record."""
    connection.execute(insert(tables.vps).values(row))


def store_changed(connection: Connection, before: Row, after: Row) -> Row:
    """Write what differs, with the next version; the caller holds the lane."""
    changed = {k: v for k, v in after.items() if before[k] != v} | {"version": before["version"] + 1}
    connection.execute(update(tables.vps).where(tables.vps.c.id == before["id"]).values(changed))
    return {**after, "version": before["version"] + 1}


def advance_lane(connection: Connection, vps_id: int, applied_seq: int, **values: Any) -> None:  # noqa: ANN401
    """Note how far a lane is applied, and what a repair changed of its head."""
    lanes = tables.lanes
    connection.execute(update(lanes).where(lanes.c.vps_id == vps_id).values(applied_seq=applied_seq, **values))


def claim_order(connection: Connection, order_id: str, vps_id: int, operation_id: int) -> None:
    """Point an order's claim at a record; the caller holds the order's lock."""
    upsert = pg_insert(tables.claims).values(order_id=order_id, vps_id=vps_id, operation_id=operation_id)
    connection.execute(
        upsert.on_conflict_do_update(index_elements=["order_id"], set_={"vps_id": vps_id, "operation_id": operation_id})
    )


def settle(connection: Connection, operation_id: int, state: str, **values: Any) -> None:  # noqa: ANN401
    """Give a queued operation its final state and tell whoever waits for it."""
    operations = tables.operations
    connection.execute(
        update(operations)
        .where(operations.c.id == operation_id)
        .values(state=state, applied_at=text("clock_timestamp()"), publish_at=None, **values)
    )
    connection.execute(text("SELECT pg_notify(:channel, :id)"), {"channel": SETTLED_CHANNEL, "id": str(operation_id)})


def raise_finding(
    connection: Connection,
    class_: str,
    subject: str,
    reason: str,
    *,
    severity: str = "warning",
    **values: Any,  # noqa: ANN401
) -> None:
    """Open a finding or refresh the open one of the same class and subject; a new alarm is logged and told.

    One that has become an alarm is heard anew: what was acknowledged or snoozed was less.
    """
    findings = tables.findings
    louder = (findings.c.severity != "alarm") & (literal(severity) == "alarm")
    unheard = {
        name: case((louder, None), else_=findings.c[name])
        for name in ("acknowledged_by", "acknowledged_at", "snoozed_until")
    }
    upsert = pg_insert(findings).values(
        **{"class": class_}, subject=subject, reason=reason, severity=severity, **values
    )
    opened = connection.scalar(
        upsert.on_conflict_do_update(
            index_elements=["class", "subject"],
            index_where=text("resolved_at IS NULL"),
            set_={
                "reason": reason,
                "severity": severity,
                "last_seen_at": text("clock_timestamp()"),
                **unheard,
                **values,
            },
        ).returning(text("xmax = 0"))
    )
    if opened and severity == "alarm":
        log.warning("alarm_opened", finding_class=class_, subject=subject)
        connection.execute(TELL)


TELL = text("INSERT INTO nudges (task, subject) VALUES ('findings.tell', '') ON CONFLICT DO NOTHING")


JOURNALED = (
    "user_id", "name", "cpu", "ram_mb", "disk_gb", "os", "hypervisor", "ip_address", "order_id", "order_state",
    "power_state", "status", "cluster", "node", "vmid", "guest_type", "fingerprint", "link_state", "missing_since",
    "deleted_at", "deleted_reason", "merged_into", "version",
)  # fmt: skip


def difference(before: Row | None, after: Row) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """What the journal shows of a change: the columns that differ, before and after, JSON-ready."""

    def plain(value: object) -> object:
        return value.isoformat() if isinstance(value, datetime) else value

    if before is None:
        return None, {k: plain(after[k]) for k in JOURNALED if after.get(k) is not None}
    changed = [k for k in JOURNALED if before.get(k) != after.get(k)]
    return {k: plain(before.get(k)) for k in changed}, {k: plain(after.get(k)) for k in changed}


def summary(before: Row | None, after: Row) -> str:
    """One short line for task lists: statuses only, no personal data."""
    if after["deleted_at"] is not None:
        return "deleted" if after["merged_into"] is None else f"merged into vps={after['merged_into']}"
    if before is None:
        return f"created {after['status']}"
    if before["status"] != after["status"]:
        return f"{before['status']} -> {after['status']}"
    old, _ = difference(before, after)
    changed = sorted(set(old or {}) - {"version"})
    return "changed " + ", ".join(changed) if changed else f"unchanged {after['status']}"
