"""The deleted records of the last 7 days, which an operator may bring back, with the reason of each delete."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Annotated, Any

from pydantic import Field
from sqlalchemy import Connection, text

from panel.api_answer import api_answer
from panel.journal.restore import RESTORABLE, RestoreHindrance, restore_hindrances


@api_answer
@dataclass(frozen=True, slots=True)
class DeletedVps:
    """A deleted record that can be restored, unless something stands against it (``taken``)."""

    vps_id: int
    name: str
    user_id: int
    username: str
    order_id: str | None
    cluster: str | None
    vmid: int | None
    deleted_at: datetime
    restorable_until: datetime
    deleted_by: Annotated[str | None, Field(description="`sync`: a call of the main site; `repair`: a run")]
    reason: Annotated[str, Field(description="Why it was deleted, as the journal says")]
    evidence: Annotated[dict[str, Any] | None, Field(description="What a run's delete rests on")]
    run_id: int | None
    taken: Annotated[
        str | None, Field(description="Why it cannot be restored now, in the words of the restore; null if it can")
    ] = None
    taken_by: Annotated[int | None, Field(description="The record that is in the way")] = None


@dataclass(frozen=True, slots=True)
class DeletedFilter:
    """Which ones. ``user``: the panel's id of a customer. ``day``: deleted on this day (UTC)."""

    user: int | None = None
    day: date | None = None


def list_deleted(connection: Connection, wanted: DeletedFilter, *, limit: int, offset: int = 0) -> Sequence[DeletedVps]:
    """The records that were deleted within RESTORABLE and not merged, the latest first."""
    values = {"restorable": RESTORABLE, "user": wanted.user, "day": wanted.day, "limit": limit, "offset": offset}
    rows = connection.execute(LIST, values).all()
    hindrances = restore_hindrances(connection, [row.vps_id for row in rows])
    return [_judged(DeletedVps(**row._mapping), hindrances.get(row.vps_id)) for row in rows]


def _judged(deleted: DeletedVps, hindrance: RestoreHindrance | None) -> DeletedVps:
    return deleted if hindrance is None else replace(deleted, taken=hindrance.why, taken_by=hindrance.vps_id)


LIST = text("""
SELECT r.id AS vps_id, r.name, r.user_id, u.username, r.order_id, r.cluster, r.vmid, r.deleted_at,
  r.deleted_at + CAST(:restorable AS interval) AS restorable_until, d.kind AS deleted_by,
  coalesce(d.reason, r.deleted_reason) AS reason, d.evidence, d.run_id
FROM vps r JOIN users u ON u.id = r.user_id
LEFT JOIN LATERAL (SELECT p.kind, p.reason, p.evidence, p.run_id FROM operations p
  WHERE p.vps_id = r.id AND p.action = 'delete' AND p.state = 'applied' ORDER BY p.seq DESC LIMIT 1) d ON true
WHERE r.deleted_at > statement_timestamp() - CAST(:restorable AS interval) AND r.merged_into IS NULL
  AND (CAST(:user AS bigint) IS NULL OR r.user_id = :user)
  AND (CAST(:day AS date) IS NULL OR CAST(r.deleted_at AT TIME ZONE 'UTC' AS date) = CAST(:day AS date))
ORDER BY r.deleted_at DESC, r.id DESC LIMIT :limit OFFSET :offset
""")
