"""Low-level writes of records, VPS queues, the journal and findings.

The writer, repairs and an operator's restore write records through this module. Only the mark of an unconfirmed power
state is written elsewhere, for many records at once (:mod:`panel.journal.repairs`).

Lock order everywhere: names (order ids, sorted), then VPS queues by id, then rows.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

import structlog
from sqlalchemy import Connection, TextClause, insert, select, text, update
from sqlalchemy.dialects.postgresql import insert as pg_insert

from domain.changes import Finding
from domain.record_columns import COLUMNS, Reader, names, seen_by
from panel.records.projection import Row
from panel.schema import tables
from panel.webhooks.events import Cause, RecordChange, note_changes

log = structlog.get_logger(__name__)

FINISHED_CHANNEL = "panel_settled"
"""A NOTIFY on this channel (payload: operation id) tells waiting calls that an operation is finished. The channel keeps
its first name, because processes of an older version use it, too."""


def database_now(connection: Connection) -> datetime:
    """The time on the database's clock, the only clock that decisions use."""
    now: datetime = connection.scalar(text("SELECT clock_timestamp()"))
    return now


def lock_orders(connection: Connection, order_ids: Iterable[str | None]) -> None:
    """Lock these order ids to the end of the transaction, so that no create claims them meanwhile."""
    names = sorted(f"order:{o}" for o in set(order_ids) if o is not None)
    for name in names:
        connection.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))"), {"name": name})


def lock_vps_queues(connection: Connection, ids: Iterable[int]) -> dict[int, Row]:
    """Lock the VPS queues of these ids, in id order."""
    vps_queues = tables.vps_queues
    rows = connection.execute(
        select(vps_queues).where(vps_queues.c.vps_id.in_(sorted(ids))).order_by(vps_queues.c.vps_id).with_for_update()
    )
    return {row.vps_id: dict(row._mapping) for row in rows}


def load_row(connection: Connection, vps_id: int) -> Row | None:
    """A record's row, or None."""
    return load_rows(connection, [vps_id]).get(vps_id)


def load_rows(connection: Connection, ids: Iterable[int]) -> dict[int, Row]:
    """The rows of these records, by id."""
    rows = connection.execute(select(tables.vps).where(tables.vps.c.id.in_(list(ids))))
    return {row.id: dict(row._mapping) for row in rows}


def store_new(connection: Connection, row: Row) -> None:
    """Insert a record."""
    connection.execute(insert(tables.vps).values(row))


def store_changed(connection: Connection, before: Row, after: Row) -> Row:
    """Write the columns that differ, with the next version. Returns the new row. The caller has locked the queue."""
    changed = {k: v for k, v in after.items() if before[k] != v} | {"version": before["version"] + 1}
    connection.execute(update(tables.vps).where(tables.vps.c.id == before["id"]).values(changed))
    return {**after, "version": before["version"] + 1}


def store_repaired(connection: Connection, records: Sequence[Row]) -> None:
    """Write changed records with all their columns, and let their queues end with the changes. The caller has locked
    the queues, in which no call waits, and has the lease, without which no run may write these records."""
    connection.execute(UPDATE_RECORDS, {"records": as_json(records)})
    queues = [{"vps_id": r["id"], "seq": r["applied_seq"], "gone": r["deleted_at"] is not None} for r in records]
    connection.execute(END_QUEUES, {"queues": as_json(queues)})


def advance_vps_queue(connection: Connection, vps_id: int, applied_seq: int, **values: Any) -> None:  # noqa: ANN401
    """Note how far a queue is applied. ``values``: other columns of the queue that change."""
    vps_queues = tables.vps_queues
    connection.execute(
        update(vps_queues).where(vps_queues.c.vps_id == vps_id).values(applied_seq=applied_seq, **values)
    )


def claim_order(connection: Connection, order_id: str, vps_id: int, operation_id: int) -> None:
    """Let an order's claim point to a record. The caller has locked the order."""
    upsert = pg_insert(tables.order_claims).values(order_id=order_id, vps_id=vps_id, operation_id=operation_id)
    connection.execute(
        upsert.on_conflict_do_update(index_elements=["order_id"], set_={"vps_id": vps_id, "operation_id": operation_id})
    )


def journal(connection: Connection, **values: Any) -> int:  # noqa: ANN401
    """Insert an operation. Returns its id."""
    operation_id = connection.scalar(insert(tables.operations).values(**values).returning(tables.operations.c.id))
    if operation_id is None:
        raise RuntimeError("the journal returned no id")
    return int(operation_id)


def journal_applied(connection: Connection, before: Row | None, after: Row, **values: Any) -> int:  # noqa: ANN401
    """As ``journal_all_applied``, for a single change."""
    (operation_id,) = journal_all_applied(connection, [(before, after, values)])
    return operation_id


def journal_all_applied(connection: Connection, written: Sequence[tuple[Row | None, Row, dict[str, Any]]]) -> list[int]:
    """Insert the operations of changes that are written (the record before, the record after, other columns of the
    journal), with the columns that differ, and the events that tell the main site of them. Returns their ids."""
    changed = [difference(before, after) for before, after, _ in written]
    operations = tables.operations
    as_applied = insert(operations).values(
        payload={}, state="applied", applied_at=text("clock_timestamp()"), publish_at=None
    )
    ids = connection.scalars(
        as_applied.returning(operations.c.id, sort_by_parameter_order=True),
        [{"before": old, "after": new, **values} for (old, new), (*_, values) in zip(changed, written, strict=True)],
    ).all()
    note_changes(
        connection,
        [
            RecordChange(before, after, old, new, _cause(operation_id, values))
            for operation_id, (before, after, values), (old, new) in zip(ids, written, changed, strict=True)
        ],
    )
    return list(ids)


def _cause(operation_id: int, values: Mapping[str, Any]) -> Cause:
    told = {name: values.get(name) for name in ("reason", "evidence", "run_id")}
    return Cause(values["kind"], values["source"], operation_id=operation_id, **told)


def finish(connection: Connection, operation_id: int, state: str, **values: Any) -> None:  # noqa: ANN401
    """Give a queued operation its final state and notify the calls that wait for it."""
    operations = tables.operations
    connection.execute(
        update(operations)
        .where(operations.c.id == operation_id)
        .values(state=state, applied_at=text("clock_timestamp()"), publish_at=None, **values)
    )
    connection.execute(text("SELECT pg_notify(:channel, :id)"), {"channel": FINISHED_CHANNEL, "id": str(operation_id)})


def raise_findings(connection: Connection, found: Sequence[Finding], run_id: int) -> None:
    """Open a run's findings, or renew the open ones of the same class and subject. New alarms are logged and sent on.

    A finding that did not change is not written, except ``last_seen_at`` once a day. When a finding becomes an alarm,
    or an alarm gets another cause, it is a new alarm: its acknowledgement and its snooze end, because the operator gave
    them for something else, and it is logged and sent, also if it was before.
    """
    _raise(connection, found, run_id, overwrite=True)


def raise_finding(
    connection: Connection,
    class_: str,
    subject: str,
    reason: str,
    *,
    severity: str = "warning",
    last_run_id: int | None = None,
    cause: str | None = None,
    **values: Any,  # noqa: ANN401
) -> None:
    """Open or renew a single finding. An id that is not given (``vps_id``, ``order_id`` and so on) stays as it was.

    ``cause``: by which two alarms of one class and subject differ, if they can. The reason may change within a cause.
    """
    _raise(connection, [Finding(class_, subject, reason, severity, **values)], last_run_id, cause, overwrite=False)


def _raise(
    connection: Connection, found: Sequence[Finding], run_id: int | None, cause: str | None = None, *, overwrite: bool
) -> None:
    if not found:
        return
    numbered = [{"n": n, "run_id": run_id, "cause": cause, **asdict(finding)} for n, finding in enumerate(found)]
    alarms = connection.execute(RAISE, {"raised": json.dumps(numbered), "overwrite": overwrite}).all()
    for row in alarms:
        log.warning("alarm_opened", finding_class=row.finding_class, subject=row.subject)
    if alarms:
        connection.execute(SEND_ALARMS)


# Whether a finding that is open (f) becomes a new alarm.
_NEW_ALARM = "({new}.severity = 'alarm' AND (f.severity <> 'alarm' OR f.detail ->> 'cause' <> {new_cause}))"
_ALARM = _NEW_ALARM.format(new="excluded", new_cause="excluded.detail ->> 'cause'")

# If the same finding is raised twice at once, the last one counts. Unchanged findings are left out before the INSERT:
# ON CONFLICT locks every conflicting row, and a lock is a write. It returns the new alarms. ``detail`` holds the cause,
# how often the open finding became a new alarm (``new_alarms``), and when the webhook refused that (``refused_at``).
RAISE = text(f"""
WITH raised AS (
  SELECT DISTINCT ON (t.class_, t.subject) t.* FROM jsonb_to_recordset(CAST(:raised AS jsonb)) AS t(
    n int, class_ text, subject text, reason text, severity text, vps_id bigint, order_id text, cluster text,
    vmid int, run_id bigint, cause text)
  ORDER BY t.class_, t.subject, t.n DESC),
news AS (
  SELECT r.*,
    coalesce(r.severity = 'alarm' AND f.id IS NULL OR {_NEW_ALARM.format(new="r", new_cause="r.cause")}, false) AS alarm
  FROM raised r
  LEFT JOIN findings f ON f.class = r.class_ AND f.subject = r.subject AND f.resolved_at IS NULL
  WHERE f.id IS NULL OR f.last_seen_at < clock_timestamp() - interval '1 day'
    OR (f.reason, f.severity) IS DISTINCT FROM (r.reason, r.severity)
    OR (r.cause IS NOT NULL AND f.detail ->> 'cause' IS DISTINCT FROM r.cause)
    OR ((CAST(:overwrite AS boolean) OR r.vps_id IS NOT NULL) AND f.vps_id IS DISTINCT FROM r.vps_id)
    OR ((:overwrite OR r.order_id IS NOT NULL) AND f.order_id IS DISTINCT FROM r.order_id)
    OR ((:overwrite OR r.cluster IS NOT NULL) AND f.cluster IS DISTINCT FROM r.cluster)
    OR ((:overwrite OR r.vmid IS NOT NULL) AND f.vmid IS DISTINCT FROM r.vmid)),
written AS (
  INSERT INTO findings AS f (class, subject, reason, severity, vps_id, order_id, cluster, vmid, last_run_id, detail)
  SELECT class_, subject, reason, severity, vps_id, order_id, cluster, vmid, run_id,
    jsonb_strip_nulls(jsonb_build_object('cause', cause)) FROM news ORDER BY n
  ON CONFLICT (class, subject) WHERE resolved_at IS NULL DO UPDATE SET
    reason = excluded.reason, severity = excluded.severity, last_seen_at = clock_timestamp(),
    vps_id = CASE WHEN :overwrite THEN excluded.vps_id ELSE coalesce(excluded.vps_id, f.vps_id) END,
    order_id = CASE WHEN :overwrite THEN excluded.order_id ELSE coalesce(excluded.order_id, f.order_id) END,
    cluster = CASE WHEN :overwrite THEN excluded.cluster ELSE coalesce(excluded.cluster, f.cluster) END,
    vmid = CASE WHEN :overwrite THEN excluded.vmid ELSE coalesce(excluded.vmid, f.vmid) END,
    last_run_id = coalesce(excluded.last_run_id, f.last_run_id),
    acknowledged_by = CASE WHEN {_ALARM} THEN NULL ELSE f.acknowledged_by END,
    acknowledged_at = CASE WHEN {_ALARM} THEN NULL ELSE f.acknowledged_at END,
    snoozed_until = CASE WHEN {_ALARM} THEN NULL ELSE f.snoozed_until END,
    notified_at = CASE WHEN {_ALARM} THEN NULL ELSE f.notified_at END,
    detail = CASE WHEN {_ALARM} THEN f.detail - 'refused_at' ELSE f.detail END || excluded.detail || CASE WHEN {_ALARM}
      THEN jsonb_build_object('new_alarms', coalesce(CAST(f.detail ->> 'new_alarms' AS int), 0) + 1)
      ELSE CAST('{{}}' AS jsonb) END
  RETURNING f.class AS finding_class, f.subject)
SELECT w.finding_class, w.subject FROM written w
JOIN news n ON n.class_ = w.finding_class AND n.subject = w.subject WHERE n.alarm ORDER BY n.n
""")  # noqa: S608 - own text
SEND_ALARMS = text("INSERT INTO task_requests (task, subject) VALUES ('findings.tell', '') ON CONFLICT DO NOTHING")


def as_json(records: Sequence[Row]) -> str:
    """Records for a statement that takes them all at once."""
    return json.dumps(records, default=_plain, separators=(",", ":"))


def update_of_records(but: Collection[str] = ()) -> TextClause:
    """The statement that writes the columns of changed ``:records`` (``as_json``), ``but`` some."""
    said = (column.name for column in COLUMNS if column.name != "id" and column.name not in but)
    changes = ", ".join(f'"{name}" = r."{name}"' for name in said)
    return text(f"UPDATE vps SET {changes} FROM {RECORDS} WHERE vps.id = r.id")  # noqa: S608 - own text


RECORDS = "jsonb_populate_recordset(CAST(NULL AS vps), CAST(:records AS jsonb)) AS r"
UPDATE_RECORDS = update_of_records()
END_QUEUES = text(
    "UPDATE vps_queues q SET last_seq = n.seq, applied_seq = n.seq,"
    " queue_state = CASE WHEN n.gone THEN 'deleted' ELSE q.queue_state END"
    " FROM jsonb_to_recordset(CAST(:queues AS jsonb)) AS n(vps_id bigint, seq bigint, gone boolean)"
    " WHERE q.vps_id = n.vps_id"
)
JOURNALED = names(seen_by(Reader.OPERATOR))


def difference(before: Row | None, after: Row) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """The part of a change that the journal shows: the columns that differ, before and after, ready for JSON."""

    def plain(value: object) -> object:
        return value.isoformat() if isinstance(value, datetime) else value

    if before is None:
        return None, {k: plain(after[k]) for k in JOURNALED if after.get(k) is not None}
    changed = [k for k in JOURNALED if before.get(k) != after.get(k)]
    return {k: plain(before.get(k)) for k in changed}, {k: plain(after.get(k)) for k in changed}


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(type(value).__name__)


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
