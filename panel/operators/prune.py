"""Deletes rows that are old enough. docs/reliability.md says how long each table's rows are kept, and why.

Every task goes through its table in windows of the table's key. One statement looks at no more than one window, however
large the table is, and stores in the same transaction how far it came. A task that does not reach the end of its table
in its time continues there the next time.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import structlog
from sqlalchemy import Connection, Engine, TextClause, text
from sqlalchemy.exc import DBAPIError

from panel.observations.proof import PROVEN, Proof

log = structlog.get_logger(__name__)

WINDOW = 1_000
"""Rows that one statement looks at. That takes milliseconds, so no lock is held for long."""

FOR_S = 60.0
"""Seconds for all tasks together. Each task gets an equal share of the time that is left."""


@dataclass(frozen=True, slots=True)
class Step:
    """What one statement did. ``gone``: how many rows it deleted. ``more``: the table does not end at ``reached``."""

    gone: int
    reached: str
    more: bool


@dataclass(frozen=True, slots=True)
class Task:
    """How one table is pruned. ``begin``: the position before its first row. ``again``: after the end of the table, go
    on at its beginning, because a row that had to stay in one pass may go in a later one."""

    name: str
    statement: TextClause
    begin: str = "0"
    again: bool = True


def prune(engine: Engine, journal_days: int, proof: Proof, *, for_s: float = FOR_S) -> dict[str, int]:
    """Delete what is old enough, for at most ``for_s`` seconds. Returns the number of deleted rows per table.

    ``journal_days``: how long the journal is kept whole. ``proof``: what proves that a guest or an order is gone. If
    the database refuses a task, the others still have their turn, and then its error is raised.
    """
    until, refused = time.monotonic() + for_s, None
    counts: dict[str, int] = {}
    for left, task in zip(range(len(TASKS), 0, -1), TASKS, strict=True):
        share = max(0.0, until - time.monotonic()) / left
        values = {"days": journal_days, "most": WINDOW} | asdict(proof)
        try:
            counts[task.name] = _work(engine, task, values, time.monotonic() + share)
        except DBAPIError as error:
            log.warning("prune_failed", task=task.name, sqlstate=getattr(error.orig, "sqlstate", None))
            refused = refused or error
    if refused is not None:
        raise refused
    return counts


def _work(engine: Engine, task: Task, values: Mapping[str, Any], until: float) -> int:
    """Prune one window at least, then more while there is time and the table goes on."""
    total = 0
    while True:
        with engine.begin() as connection:
            step = _step(connection, task, values)
        total += step.gone
        if not step.more or time.monotonic() >= until:
            return total


def _step(connection: Connection, task: Task, values: Mapping[str, Any]) -> Step:
    after = connection.scalar(REACHED, {"task": task.name}) or task.begin
    row = connection.execute(task.statement, {**values, "after": after}).one()
    step = Step(row.gone, str(row.reached), row.more)
    reached = step.reached if step.more or not task.again else task.begin
    if reached != after:
        connection.execute(REACH, {"task": task.name, "reached": reached})
    return step


REACHED = text("SELECT reached FROM prunings WHERE task = :task")
REACH = text(
    "INSERT INTO prunings (task, reached) VALUES (:task, :reached)"
    " ON CONFLICT (task) DO UPDATE SET reached = excluded.reached, at = clock_timestamp()"
)

# Every old row goes, so no position is kept: the oldest rows are always next.
_OLDEST = """
WITH gone AS (DELETE FROM {table} WHERE ctid = ANY(ARRAY(
  SELECT t.ctid FROM {table} t WHERE {old} ORDER BY {by} LIMIT :most)) RETURNING 1)
SELECT count(*) AS gone, '0' AS reached, count(*) = :most AS more FROM gone
"""

# Ids follow time, so a window ends before the first row that is too young. A row from the future was written while the
# database's clock was ahead. It says nothing about the rows behind it, so the window goes on; it stays until it is old.
_IN_TIME = """
WITH seen AS (SELECT t.id, t.{at} FROM {table} t WHERE t.id > CAST(:after AS bigint) ORDER BY t.id LIMIT :most),
young AS (
  SELECT min(id) AS id FROM seen
  WHERE coalesce({at} BETWEEN statement_timestamp() - interval '{age}' AND statement_timestamp(), true)),
gone AS (
  DELETE FROM {table} t WHERE {free}
    AND t.id = ANY(ARRAY(SELECT seen.id FROM seen, young WHERE coalesce(seen.id < young.id, true)
                         AND seen.{at} < statement_timestamp() - interval '{age}'))
  RETURNING 1)
SELECT (SELECT count(*) FROM gone) AS gone, coalesce((SELECT max(id) FROM seen), 0) AS reached,
  (SELECT count(*) FROM seen) = :most AND (SELECT id FROM young) IS NULL AS more
"""

# A guest or an order stays while a record refers to it. A deleted record counts for 8 days: it can be restored for 7.
_ALIVE = "(r.deleted_at IS NULL OR r.deleted_at > statement_timestamp() - interval '8 days')"
_LONG_GONE = "statement_timestamp() - interval '90 days'"

GUESTS = f"""
WITH seen AS (
  SELECT g.cluster, g.vmid FROM guests g
  WHERE (g.cluster, g.vmid) > (split_part(:after, '/', 1), CAST(split_part(:after, '/', 2) AS int))
  ORDER BY g.cluster, g.vmid LIMIT :most),
over AS (
  SELECT g.cluster, g.vmid FROM seen JOIN guests g ON g.cluster = seen.cluster AND g.vmid = seen.vmid
  LEFT JOIN absences a ON a.kind = 'guest' AND a.subject = g.cluster || '/' || g.vmid
  WHERE g.unlisted_since < {_LONG_GONE} AND coalesce(a.absent_since < {_LONG_GONE}, true)
    -- A guest whose identity is not known stays until its absence is proven, because it may be a record's machine.
    AND (coalesce({PROVEN}, false) OR g.template OR (g.fingerprint_state = 'read' AND g.fingerprint IS NOT NULL))
    AND NOT EXISTS (SELECT 1 FROM vps r WHERE r.cluster = g.cluster AND r.vmid = g.vmid AND {_ALIVE})
    AND NOT EXISTS (SELECT 1 FROM vps r WHERE r.fingerprint IN (g.fingerprint, g.previous_fingerprint) AND {_ALIVE})
    AND NOT EXISTS (SELECT 1 FROM orders_seen o WHERE o.cluster = g.cluster AND o.vmid = g.vmid AND o.state <> 'ended'
                    AND o.unlisted_since IS NULL)),
missed AS (
  DELETE FROM absences a USING over WHERE a.kind = 'guest' AND a.subject = over.cluster || '/' || over.vmid),
ignored AS (DELETE FROM ignored_guests i USING over WHERE i.cluster = over.cluster AND i.vmid = over.vmid),
gone AS (DELETE FROM guests g USING over WHERE g.cluster = over.cluster AND g.vmid = over.vmid RETURNING 1)
SELECT (SELECT count(*) FROM gone) AS gone, (SELECT count(*) FROM seen) = :most AS more,
  coalesce((SELECT cluster || '/' || vmid FROM seen ORDER BY cluster DESC, vmid DESC LIMIT 1), '/0') AS reached
"""

ORDERS = f"""
WITH seen AS (SELECT o.order_id FROM orders_seen o WHERE o.order_id > :after ORDER BY o.order_id LIMIT :most),
over AS (
  SELECT o.order_id FROM seen JOIN orders_seen o ON o.order_id = seen.order_id
  WHERE o.unlisted_since < {_LONG_GONE}
    AND (o.state = 'ended' OR EXISTS (SELECT 1 FROM absences a WHERE a.kind = 'order' AND a.subject = o.order_id
                                      AND a.absent_since < {_LONG_GONE} AND {PROVEN}))
    AND NOT EXISTS (SELECT 1 FROM vps r WHERE r.order_id = o.order_id AND {_ALIVE})
    AND NOT EXISTS (SELECT 1 FROM vps r WHERE r.id = o.panel_vps_id AND {_ALIVE})),
missed AS (DELETE FROM absences a USING over WHERE a.kind = 'order' AND a.subject = over.order_id),
gone AS (DELETE FROM orders_seen o USING over WHERE o.order_id = over.order_id RETURNING 1)
SELECT (SELECT count(*) FROM gone) AS gone, (SELECT count(*) FROM seen) = :most AS more,
  coalesce((SELECT max(order_id) FROM seen), '') AS reached
"""

# A decision stays as long as the objects it is about: an old rejection still counts for the VPS that it was about.
DECISIONS = """
WITH seen AS (SELECT h.* FROM holds h WHERE h.id > CAST(:after AS bigint) ORDER BY h.id LIMIT :most),
over AS (
  SELECT h.id FROM seen h
  WHERE h.decision IN ('approved', 'rejected') AND h.decided_at < statement_timestamp() - interval '400 days'
    AND NOT EXISTS (
      SELECT 1 FROM jsonb_array_elements(h.items) AS item WHERE CASE split_part(item ->> 'subject', ':', 1)
        WHEN 'vps' THEN EXISTS (
          SELECT 1 FROM vps r WHERE r.id = CAST(split_part(item ->> 'subject', ':', 2) AS bigint))
        WHEN 'order' THEN EXISTS (
          SELECT 1 FROM orders_seen o WHERE o.order_id = substr(item ->> 'subject', 7))
        ELSE EXISTS (
          SELECT 1 FROM guests g WHERE g.cluster = split_part(substr(item ->> 'subject', 7), '/', 1)
            AND g.vmid = CAST(nullif(split_part(item ->> 'subject', '/', 2), '') AS int)) END)),
gone AS (DELETE FROM holds h USING over WHERE h.id = over.id RETURNING 1)
SELECT (SELECT count(*) FROM gone) AS gone, (SELECT count(*) FROM seen) = :most AS more,
  coalesce((SELECT max(id) FROM seen), 0) AS reached
"""

_BY_FUNCTION = "SELECT n AS gone, '0' AS reached, n >= :most AS more FROM public.{call} AS n"
_JOURNAL = "SELECT gone, reached, more FROM public.{function}(:days, CAST(:after AS bigint), :most)"
_SCOPE_OVER = f"""t.began_at < {_LONG_GONE}
  AND NOT EXISTS (SELECT 1 FROM guests g WHERE t.source = 'proxmox:' || g.cluster AND t.scope IN (g.node, 'all'))
  AND NOT EXISTS (SELECT 1 FROM orders_seen o WHERE t.scope = 'user:' || o.owner)"""
_SNAPSHOT_FREE = """NOT EXISTS (SELECT 1 FROM absences a WHERE a.evidence @> ARRAY[t.id])
  AND NOT EXISTS (SELECT 1 FROM scopes s WHERE s.snapshot_id = t.id)"""
_RUN_FREE = " AND ".join(
    f"NOT EXISTS (SELECT 1 FROM {table} x WHERE x.{column} = t.id)"
    for table, column in (
        ("snapshots", "run_id"), ("operations", "run_id"), ("findings", "last_run_id"), ("absences", "last_run_id"),
        ("holds", "run_id"), ("quarantine", "last_run_id"),
    )
)  # fmt: skip


def _audit(table: str) -> Task:
    return Task(table, text(_BY_FUNCTION.format(call=f"prune_audit('{table}', :most)")))


def _oldest(table: str, old: str, by: str) -> Task:
    return Task(table, text(_OLDEST.format(table=table, old=old, by=by)))


def _in_time(table: str, at: str, age: str, free: str) -> Task:
    return Task(table, text(_IN_TIME.format(table=table, at=at, age=age, free=free)))


TASKS = (
    _audit("refused_calls"),
    _audit("access_counts"),
    _audit("operator_actions"),
    # An hour later than they expired: a link must not work again because it was pruned while it was checked.
    _oldest("used_sign_in_links", "t.expires_at < statement_timestamp() - interval '1 hour'", "t.expires_at"),
    _oldest("client_sessions", "t.expires_at < statement_timestamp()", "t.expires_at"),
    _oldest("operator_sessions", "t.expires_at < statement_timestamp()", "t.expires_at"),
    _oldest("vps_statistics", "t.asked_at < statement_timestamp() - interval '1 hour'", "t.asked_at"),
    _oldest("adoptions", "t.ended_at < statement_timestamp() - interval '90 days'", "t.ended_at"),
    _oldest("idempotency_keys", "t.created_at < statement_timestamp() - interval '48 hours'", "t.created_at"),
    Task("findings", text(_BY_FUNCTION.format(call="prune_findings(:most)"))),
    # A held set that changes leaves an expired row with every run, so these rows go early.
    _oldest(
        "holds", "t.decision = 'expired' AND t.decided_at < statement_timestamp() - interval '14 days'", "t.decided_at"
    ),
    Task("decisions", text(DECISIONS)),
    Task("operations", text(_JOURNAL.format(function="prune_journal")), again=False),
    Task("vps", text(_JOURNAL.format(function="prune_tombstones"))),
    Task("power_actions", text(_BY_FUNCTION.format(call="prune_power_actions(:days, :most)"))),
    _oldest("what_ifs", "t.asked_at < statement_timestamp() - interval '14 days'", "t.asked_at"),
    _oldest("webhook_events", "t.created_at < statement_timestamp() - interval '30 days'", "t.created_at"),
    Task("guests", text(GUESTS), begin="/0"),
    Task("orders_seen", text(ORDERS), begin=""),
    _oldest("scopes", _SCOPE_OVER, "t.began_at"),
    _in_time("snapshots", "finished_at", "2 days", _SNAPSHOT_FREE),
    _in_time("runs", "started_at", "14 days", _RUN_FREE),
)
"""In this order, because a row goes only after the rows that refer to it."""
