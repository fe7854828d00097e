"""What the gate held, and what operators decided about it.

A decision is for the items of a set, each by the hash of its identity (action, record, version, verdict, kind of
evidence). An item that changed since drops out of the decision and is asked about anew; the rest stays decided.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Row, insert, select, text

from panel import tables
from panel.operators import OperatorError, nudge_run
from reconcile.changes import plan_hash

SHORTEST_PREFIX = 8


class Decision(StrEnum):
    """What an operator says of a held set."""

    APPROVED = "approved"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class HeldSet:
    """One held set. ``items``: each with its identity, its reason and its hash. ``decision``: None while it is open;
    ``expired`` once the set was held no more, or not as it was."""

    hash: str
    scope: str
    reason: str
    items: tuple[dict[str, Any], ...]
    run_id: int
    created_at: datetime
    decision: str | None
    decided_by: str | None
    decided_at: datetime | None


def keep_holds(connection: Connection, run_id: int, held: Iterable[Any]) -> None:
    """Keep what the gate held, one open set per scope; a set that is not held any more expires."""
    holds = tables.holds
    scopes = set()
    for one in held:
        scopes.add(one.scope)
        items = [c.identity() | {"reason": c.reason, "hash": plan_hash((c,))} for c in one.changes]
        current = connection.execute(
            select(holds.c.id, holds.c.plan_hash).where(holds.c.scope == one.scope, holds.c.decision.is_(None))
        ).one_or_none()
        if current is not None and current.plan_hash == one.hash:
            continue
        connection.execute(EXPIRE, {"scope": one.scope})
        connection.execute(
            insert(holds).values(plan_hash=one.hash, scope=one.scope, reason=one.reason, items=items, run_id=run_id)
        )
    connection.execute(EXPIRE_OTHERS, {"scopes": sorted(scopes)})


def list_holds(connection: Connection, *, decided: bool = False, limit: int = 100) -> list[HeldSet]:
    """The open sets, newest first; with ``decided`` those of the last 30 days too."""
    rows = connection.execute(LIST_ALL if decided else LIST_OPEN, {"limit": limit})
    return [_held(row) for row in rows]


def decide_hold(connection: Connection, prefix: str, decision: Decision, by: str) -> HeldSet:
    """Approve or reject the set whose hash begins with ``prefix`` (at least 8 characters), and ask for a run.

    A set that the next run put together differently may still be decided, for 24 hours: what did not change in it
    counts. The opposite may be decided later. Raises OperatorError.
    """
    if not re.fullmatch(rf"[0-9a-f]{{{SHORTEST_PREFIX},64}}", prefix):
        raise OperatorError("invalid", f"a hash is {SHORTEST_PREFIX} to 64 characters out of 0-9 and a-f")
    found = connection.execute(DECIDABLE, {"prefix": prefix}).all()
    if not found:
        raise OperatorError("unknown", f"no held set begins with {prefix}; `panel-sync held` lists them")
    if len({row.plan_hash for row in found}) > 1:
        raise OperatorError("conflict", f"several held sets begin with {prefix}; give more of the hash")
    if found[0].decision == decision.value:
        raise OperatorError("conflict", f"{found[0].plan_hash[:12]} is {decision.value} already")
    row = connection.execute(DECIDE, {"id": found[0].id, "decision": decision.value, "by": by}).one()
    nudge_run(connection)
    return _held(row)


def decided_items(connection: Connection) -> tuple[frozenset[str], frozenset[str]]:
    """(approved, rejected) hashes of single items in force: the last word on each counts.

    An approval holds for 24 hours, a rejection for 30 days.
    """
    rows = connection.execute(IN_FORCE).all()
    approved = frozenset(row.hash for row in rows if row.decision == Decision.APPROVED.value and row.fresh)
    return approved, frozenset(row.hash for row in rows if row.decision == Decision.REJECTED.value)


def _held(row: Row[Any]) -> HeldSet:
    return HeldSet(
        row.plan_hash,
        row.scope,
        row.reason,
        tuple(row.items),
        row.run_id,
        row.created_at,
        row.decision,
        row.decided_by,
        row.decided_at,
    )


EXPIRE = text(
    "UPDATE holds SET decision = 'expired', decided_at = clock_timestamp() WHERE scope = :scope AND decision IS NULL"
)
EXPIRE_OTHERS = text(
    "UPDATE holds SET decision = 'expired', decided_at = clock_timestamp() "
    "WHERE decision IS NULL AND NOT scope = ANY(CAST(:scopes AS text[]))"
)
LIST_OPEN = text("SELECT h.* FROM holds h WHERE h.decision IS NULL ORDER BY h.id DESC LIMIT :limit")
LIST_ALL = text(
    "SELECT h.* FROM holds h WHERE h.decision IS NULL OR h.decided_at > clock_timestamp() - interval '30 days' "
    "ORDER BY h.id DESC LIMIT :limit"
)
DECIDABLE = text(
    "SELECT id, plan_hash, decision FROM holds WHERE starts_with(plan_hash, :prefix)"
    " AND (decision IS NULL OR decided_at > clock_timestamp() - interval '24 hours' OR decision = 'rejected')"
    " ORDER BY id DESC FOR UPDATE"
)
DECIDE = text(
    "UPDATE holds SET decision = :decision, decided_by = :by, decided_at = clock_timestamp() WHERE id = :id RETURNING *"
)
IN_FORCE = text(
    "SELECT DISTINCT ON (item ->> 'hash') item ->> 'hash' AS hash, h.decision,"
    " h.decided_at > clock_timestamp() - interval '24 hours' AS fresh"
    " FROM holds h, jsonb_array_elements(h.items) AS item"
    " WHERE h.decision IN ('approved', 'rejected') AND h.decided_at > clock_timestamp() - interval '30 days'"
    " ORDER BY item ->> 'hash', h.decided_at DESC"
)
