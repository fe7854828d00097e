"""Writes what was decided about a set: one statement for each table."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, text

from domain.identity_doubts import Doubt
from domain.record_columns import COLUMNS
from panel.journal.call_sets.decision import QueueOutcome
from panel.journal.rows import FINISHED_CHANNEL, RECORDS, as_json, update_of_records
from panel.observations.identity_doubts import doubt_guests


def write(connection: Connection, outcomes: Sequence[QueueOutcome]) -> None:
    """Write records, journal, queues and claims, and tell the calls that wait. The caller has locked the queues."""
    outcomes = [outcome for outcome in outcomes if outcome.ended]
    if not outcomes:
        return
    doubt_guests(connection, sorted(set().union(*(o.doubted for o in outcomes))), Doubt.CALL)
    new = [o.row for o in outcomes if o.before is None and o.row is not None]
    changed = [o.row for o in outcomes if o.before is not None and o.row is not None and o.row is not o.before]
    # A record that gives an order or a guest up is written before one that may take it.
    for statement, records in ((UPDATE_RECORDS, changed), (INSERT_RECORDS, new)):
        if records:
            connection.execute(statement, {"records": as_json(records)})
    ended = [
        {"n": n, "id": e.id, "state": e.state, "result": e.result, "reason": e.reason, "old": e.old, "new": e.new}
        for n, e in enumerate(e for o in outcomes for e in o.ended)
    ]
    connection.execute(END_CALLS, {"ended": as_json(ended)})
    queues = {
        "vps_ids": [o.vps_id for o in outcomes],
        "seqs": [o.applied_seq for o in outcomes],
        "gone": [o.is_deleted for o in outcomes],
    }
    connection.execute(ADVANCE_QUEUES, queues)
    claims = sorted((order, o.vps_id, operation) for o in outcomes for order, operation in o.claims.items())
    if claims:
        orders, vps_ids, operations = zip(*claims, strict=True)
        values = {"orders": list(orders), "vps_ids": list(vps_ids), "operations": list(operations)}
        connection.execute(CLAIM_ORDERS, values)
    connection.execute(TELL, {"channel": FINISHED_CHANNEL, "ids": [e["id"] for e in ended]})


_COLUMNS = ", ".join(f'"{column.name}"' for column in COLUMNS)
_SAID = ", ".join(f'r."{column.name}"' for column in COLUMNS)
INSERT_RECORDS = text(f"INSERT INTO vps ({_COLUMNS}) SELECT {_SAID} FROM {RECORDS}")  # noqa: S608 - own text
# No call changes this mark. A run's report sets it meanwhile, without the locks of the queues.
UPDATE_RECORDS = update_of_records(but=("power_unconfirmed_since",))
# Each call has a time of its own, in the order of the queues: the statement itself goes through them in any order.
# The journal keeps "no record before" as JSON's null, and a call that changed nothing has neither before nor after.
END_CALLS = text(
    "UPDATE operations o SET state = e.state, applied_at = e.at, publish_at = NULL, result = e.result,"
    " reason = coalesce(e.reason, o.reason), error = NULL,"
    " before = CASE WHEN e.state = 'applied' THEN coalesce(e.old, CAST('null' AS jsonb)) ELSE o.before END,"
    " after = CASE WHEN e.state = 'applied' THEN e.new ELSE o.after END"
    " FROM (SELECT r.*, now.at - (count(*) OVER () - r.n) * interval '1 microsecond' AS at"
    " FROM (SELECT clock_timestamp() AS at) AS now, jsonb_to_recordset(CAST(:ended AS jsonb))"
    " AS r(n int, id bigint, state text, result text, reason text, old jsonb, new jsonb)) AS e WHERE o.id = e.id"
)
ADVANCE_QUEUES = text(
    "UPDATE vps_queues q SET applied_seq = n.seq,"
    " queue_state = CASE WHEN n.gone THEN 'deleted' ELSE q.queue_state END"
    " FROM unnest(CAST(:vps_ids AS bigint[]), CAST(:seqs AS bigint[]), CAST(:gone AS boolean[]))"
    " AS n(vps_id, seq, gone) WHERE q.vps_id = n.vps_id"
)
CLAIM_ORDERS = text(
    "INSERT INTO order_claims (order_id, vps_id, operation_id)"
    " SELECT * FROM unnest(CAST(:orders AS text[]), CAST(:vps_ids AS bigint[]), CAST(:operations AS bigint[]))"
    " ON CONFLICT (order_id) DO UPDATE SET vps_id = excluded.vps_id, operation_id = excluded.operation_id"
)
TELL = text("SELECT pg_notify(:channel, CAST(n AS text)) FROM unnest(CAST(:ids AS bigint[])) AS t(n)")
