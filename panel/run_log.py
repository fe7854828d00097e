"""Runs, what they found, and what the gate measures them against."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, func, insert, select, text, update
from sqlalchemy.dialects.postgresql import insert as pg_insert

from panel import rows, tables
from panel.filling import begin_filling, filling_since, first_word_given
from panel.holds import decided_items, refused_questions
from panel.operators import OperatorError
from panel.resolving import Reach, resolve_findings
from panel.source_tables import source_states


def begin_run(engine: Engine, kind: str, trigger: str, epoch: int) -> tuple[int, datetime]:
    """Open a run; earlier ones that never ended were killed: they are marked abandoned."""
    runs = tables.runs
    with engine.begin() as connection:
        connection.execute(
            update(runs)
            .where(runs.c.state == "running", runs.c.epoch < epoch)
            .values(state="abandoned", finished_at=text("clock_timestamp()"))
        )
        row = connection.execute(
            insert(runs)
            .values(kind=kind, trigger=trigger, epoch=epoch, state="running")
            .returning(runs.c.id, runs.c.started_at)
        ).one()
    return row.id, row.started_at


def end_run(
    engine: Engine,
    run_id: int,
    state: str,
    counts: Mapping[str, Any],
    problems: Sequence[str],
    plan_hash: str | None = None,
    error: str | None = None,
) -> None:
    """Close a run with what it counted. One that another run marked abandoned meanwhile stays so."""
    runs = tables.runs
    with engine.begin() as connection:
        connection.execute(
            update(runs)
            .where(runs.c.id == run_id, runs.c.state == "running")
            .values(
                state=state,
                finished_at=text("clock_timestamp()"),
                counts=dict(counts),
                problems=list(problems),
                plan_hash=plan_hash,
                error=error,
            )
        )


def report_findings(
    connection: Connection, run_id: int, found: Iterable[Any], reach: Reach | None = None, left_out: Iterable[str] = ()
) -> int:
    """Open or refresh findings; within ``reach``, if given, resolve those that were not found again.

    ``found``: values with class_, subject, reason, severity and ids. ``left_out``: subjects (``vps:12``) that the run
    said nothing about. Returns how many are open.
    """
    raised = [
        rows.Raised(f.class_, f.subject, f.reason, f.severity, f.vps_id, f.order_id, f.cluster, f.vmid, run_id)
        for f in found
    ]
    rows.raise_findings(connection, raised)
    if reach is not None:
        resolve_findings(connection, {(one.class_, one.subject) for one in raised}, reach, left_out)
    return connection.scalar(text("SELECT count(*) FROM findings WHERE resolved_at IS NULL")) or 0


def standing(connection: Connection) -> dict[str, Any]:
    """The gate's measures: live records in all and by node, customer and cluster; recent repairs."""
    totals = connection.execute(text(TOTALS)).one()
    nodes = connection.execute(text(PER_NODE))
    users = connection.execute(text(PER_USER))
    found: dict[str, Any] = {
        "live": totals.live,
        "deletes_last_hour": totals.deletes_hour,
        "deletes_last_day": totals.deletes_day,
        "owners_last_day": totals.owners_day,
        "merges_last_day": totals.merges_day,
        "per_user": {row.user_id: row.live for row in users},
    }
    per_node = {(row.cluster, row.node): row.live for row in nodes}
    per_cluster: dict[str, int] = {}
    for (cluster, _), count in per_node.items():
        per_cluster[cluster] = per_cluster.get(cluster, 0) + int(count)
    approved, rejected = decided_items(connection)
    open_flips = connection.execute(text(OPEN_FLIPS))
    return found | {
        "per_node": per_node,
        "per_cluster": per_cluster,
        "waited": frozenset(row.scope for row in open_flips),
        "approved": approved,
        "rejected": rejected,
        "refused": refused_questions(connection),
        "filling": filling_since(connection),
    }


def unconfirmed_subjects(connection: Connection) -> frozenset[str]:
    """What earlier runs wanted to change and could not confirm, or found contradicted, and no run has settled since."""
    return frozenset(row.subject for row in connection.execute(text(UNCONFIRMED)))


def pushed_deletes(connection: Connection) -> int:
    """How many records the main site's own calls deleted within the last hour."""
    return connection.scalar(text(PUSHED_DELETES)) or 0


def source_state(connection: Connection, source: str) -> dict[str, Any]:
    """What is remembered of a source; an empty mapping for a new one."""
    row = connection.execute(select(source_states).where(source_states.c.source == source)).one_or_none()
    return dict(row._mapping) if row is not None else {}


def users_imported(connection: Connection) -> bool:
    """Whether the main site's users were ever read completely."""
    return connection.scalar(text("SELECT max(last_users_at) FROM source_states")) is not None


def _empty(connection: Connection) -> bool:
    return connection.scalar(text("SELECT 1 FROM vps WHERE deleted_at IS NULL LIMIT 1")) is None


def remember_source(connection: Connection, source: str, **values: Any) -> None:  # noqa: ANN401 - columns
    """Keep something about a source."""
    names = ", ".join(values)
    marks = ", ".join(f":{name}" for name in values)
    changes = ", ".join(f"{name} = excluded.{name}" for name in values)
    connection.execute(
        text(
            f"INSERT INTO source_states (source, {names}) VALUES (:source, {marks}) "  # noqa: S608 - own column names
            f"ON CONFLICT (source) DO UPDATE SET {changes}"
        ),
        {"source": source, **values},
    )


def acknowledge_source(connection: Connection, source: str) -> str:
    """An operator says that a source which lost much at once is right: what is missing now, and no more. Returns the
    sentence that was acknowledged. Raises OperatorError."""
    state = source_state(connection, source)
    if state.get("degraded_since") is None:
        raise OperatorError("conflict", f"{source} is not degraded; `panel-sync sources` lists what is")
    remember_source(connection, source, acknowledged_at=rows.database_now(connection))
    return str(state["degraded_reason"])


PLAN_SEEN = "You have seen the first plan: from now on runs make missing records, and delete within their limits."


def acknowledged_in_words(source: str, confirmed: str) -> str:
    """What an acknowledgement means, for whoever gave it. ``confirmed``: what ``acknowledge_source`` returned."""
    return (
        f"{source} is believed again. You said that this is right: {confirmed.partition(';')[0]}. They count as "
        "missing from the next read on. A record is deleted only after the whole proof of absence, and within the "
        "limits. If much more goes missing, you are asked again."
    )


def acknowledge_first_plan(connection: Connection) -> None:
    """An operator has seen a plan: deletes and bulk creates need no further first-run word.

    The first such word, and one that is given while the panel is still being filled, covers the creates of all orders
    that are known now.
    """
    if not first_word_given(connection) or filling_since(connection) is not None or _empty(connection):
        begin_filling(connection)
    remember_source(connection, "panel", acknowledged_at=rows.database_now(connection))


PUSHED_DELETES = (
    "SELECT count(*) FROM operations WHERE kind = 'sync' AND action = 'delete' AND state = 'applied'"
    " AND applied_at > statement_timestamp() - interval '1 hour'"
)
"""The statement's own clock: an index cannot be asked by one that moves on from row to row."""

UNCONFIRMED = "SELECT subject FROM findings WHERE class = 'not-confirmed' AND resolved_at IS NULL"
OPEN_FLIPS = "SELECT scope FROM holds WHERE decision IS NULL AND (scope LIKE 'flips:%' OR scope LIKE 'order-flips:%')"
TOTALS = """
SELECT (SELECT count(*) FROM vps WHERE deleted_at IS NULL) AS live,
  count(*) FILTER (WHERE action = 'delete' AND applied_at > clock_timestamp() - interval '1 hour') AS deletes_hour,
  count(*) FILTER (WHERE action = 'delete') AS deletes_day,
  count(*) FILTER (WHERE after ? 'user_id' AND action = 'update') AS owners_day,
  count(*) FILTER (WHERE action = 'merge') AS merges_day
FROM operations WHERE kind = 'repair' AND applied_at > statement_timestamp() - interval '1 day'
"""
PER_NODE = """
SELECT cluster, node, count(*) AS live FROM vps
WHERE deleted_at IS NULL AND cluster IS NOT NULL AND node IS NOT NULL GROUP BY cluster, node
"""
PER_USER = """
SELECT user_id, count(*) AS live FROM vps
WHERE deleted_at IS NULL GROUP BY user_id HAVING count(*) > 5
"""


def remember_circuit(connection: Connection, source: str, circuit: Mapping[str, Any]) -> None:
    """Keep what is named of a source's circuit breaker for the next process; what is not named stays."""
    states = source_states
    upsert = pg_insert(states).values(source=source, circuit=dict(circuit))
    kept = func.coalesce(states.c.circuit, text("'{}'::jsonb")).op("||")(upsert.excluded.circuit)
    connection.execute(upsert.on_conflict_do_update(index_elements=["source"], set_={"circuit": kept}))
