"""What the gate compares a plan with: the fleet's size, recent repairs, and operators' decisions."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, text

from panel.journal import rows
from panel.operators.approvals.stored_words import Standings, decided_items, refused_questions
from panel.operators.first_filling import begin_filling, filling_since, first_word_given
from panel.runs.source_states import remember_source


def load_gate_context(connection: Connection, said: Standings, second_above: int | None) -> dict[str, Any]:
    """The fields of the gate's context: live records in all and by node, customer and cluster; recent repairs; open
    held sets of power states; operators' decisions. ``said``: what they said of the items that the gate measures.
    ``second_above``: SECOND_APPROVAL_ABOVE."""
    totals = connection.execute(text(TOTALS)).one()
    nodes = connection.execute(text(PER_NODE))
    users = connection.execute(text(PER_USER))
    counts: dict[str, Any] = {
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
    approvers, rejected = decided_items(said)
    open_flips = connection.execute(text(OPEN_FLIPS))
    return counts | {
        "per_node": per_node,
        "per_cluster": per_cluster,
        "waited": frozenset(row.scope for row in open_flips),
        "approved": frozenset(approvers),
        "approvers": approvers,
        "rejected": rejected,
        "refused": refused_questions(connection, second_above),
        "filling": filling_since(connection),
    }


def _empty(connection: Connection) -> bool:
    return connection.scalar(text("SELECT 1 FROM vps WHERE deleted_at IS NULL LIMIT 1")) is None


PLAN_SEEN = "You have seen the first plan: from now on runs make missing records, and delete within their limits."


def acknowledge_first_plan(connection: Connection) -> None:
    """Note that an operator has seen a plan. From now on deletes and bulk creates need no first-run word.

    The word also covers the creates of all orders that are known now, if it is the first one, or the panel is still
    being filled, or it has no live record.
    """
    if not first_word_given(connection) or filling_since(connection) is not None or _empty(connection):
        begin_filling(connection)
    remember_source(connection, "panel", acknowledged_at=rows.database_now(connection))


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
