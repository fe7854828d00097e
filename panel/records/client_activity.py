"""The journal of a VPS as its customer may see it.

The view ``client_activity`` (migration 0024) is the guard. Under the client's role it shows the present owner's time
only, and of each operation the columns that customers see: no operator, reason, evidence, cluster, node or VMID.
"""

from __future__ import annotations

from panel.clients.round_trips import Query, Statement


def activity_query(vps_id: int, *, limit: int) -> Query:
    """The latest operations of one of the client's VPS that changed something which customers see, newest first. To be
    read as the client.

    Columns: ``kind action source applied_at became_theirs before after``. ``before`` and ``after`` hold the columns
    that changed, or are None. Nothing of another user's VPS.
    """
    return Query(ACTIVITY, (str(vps_id), str(limit)))


ACTIVITY = Statement(
    "SELECT kind, action, source, applied_at, became_theirs, before, after FROM client_activity"
    " WHERE vps_id = $1::bigint AND (became_theirs OR after IS NOT NULL OR action IN ('create', 'restore'))"
    " ORDER BY seq DESC LIMIT $2::bigint"
)
