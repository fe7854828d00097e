"""What the gate held, and what operators decided about it.

A decision is for the items of a set, each by the hash of its identity (action, record, version, verdict with every
value that is written, kind of evidence). An item that changed since drops out of the decision and is asked about anew;
the rest stays decided.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Row, insert, select, text

from domain.changes import identities_hash, plan_hash
from panel.operator_error import OperatorError
from panel.operators.first_filling import begin_filling, first_word_given
from panel.runs.run_requests import request_run
from panel.schema import tables

SHORTEST_PREFIX = 8
CREATES = "creates"
"""The gate's scope of records to be made. The first such set of a panel is a part of its filling."""


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

    @property
    def by_approval(self) -> bool:
        """Whether it waits for a word of its own, maybe for good, and exceeds no limit."""
        return self.scope.startswith("by-approval:")


def keep_holds(connection: Connection, run_id: int, held: Iterable[Any], left_out: Iterable[str] = ()) -> None:
    """Keep what a full run's gate held, one open set per scope; a set that is not held any more expires. What waits for
    a word of its own waits on while its subject is ``left_out``: the run said nothing of it."""
    scopes = {f"by-approval:{subject}" for subject in left_out}
    current = {row.scope: row.plan_hash for row in connection.execute(OPEN)}
    for one in held:
        scopes.add(one.scope)
        if current.get(one.scope) != one.hash:
            _replace(connection, run_id, one.scope, one.reason, one.hash, _items(one))
    connection.execute(EXPIRE_OTHERS, {"scopes": sorted(scopes)})
    connection.execute(RESOLVE_HELD)


def keep_fast_holds(connection: Connection, run_id: int, held: Iterable[Any], clusters: Iterable[str]) -> None:
    """Keep what the fast lane's gate held. It sees power states only, so it adds to a full run's sets and ends none
    but those of ``clusters``' power states turning the same way, which it read."""
    scopes = set()
    for one in held:
        scopes.add(one.scope)
        new, current = _items(one), _open(connection, one.scope)
        known: list[dict[str, Any]] = list(current.items) if current is not None else []
        if {item["hash"] for item in new} <= {item["hash"] for item in known}:
            continue
        newer = {_about(item) for item in new}
        items = [item for item in known if _about(item) not in newer] + new
        hash_ = identities_hash({k: v for k, v in item.items() if k not in NO_IDENTITY} for item in items)
        _replace(connection, run_id, one.scope, one.reason, hash_, items)
    connection.execute(EXPIRE_FLIPS, {"scopes": sorted(scopes), "clusters": sorted(clusters)})
    connection.execute(RESOLVE_HELD)


NO_IDENTITY = ("reason", "hash")
"""What an item has besides its change's identity."""


def _items(held: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - the gate's Held
    return [c.identity() | {"reason": c.reason, "hash": plan_hash((c,))} for c in held.changes]


def _about(item: Mapping[str, Any]) -> tuple[Any, ...]:
    """Which question an item is: what the order says of a record, and what its guest shows, are two."""
    return item["subject"], item["kind"], *sorted({"order_id", "order_state"} & set(item.get("values", ())))


def _open(connection: Connection, scope: str) -> Row[Any] | None:
    holds = tables.holds
    return connection.execute(select(holds).where(holds.c.scope == scope, holds.c.decision.is_(None))).one_or_none()


def _replace(
    connection: Connection, run_id: int, scope: str, reason: str, hash_: str, items: list[dict[str, Any]]
) -> None:
    connection.execute(EXPIRE, {"scope": scope})
    values = {"plan_hash": hash_, "scope": scope, "reason": reason, "items": items, "run_id": run_id}
    connection.execute(insert(tables.holds).values(values))


def list_holds(connection: Connection, *, decided: bool = False, limit: int = 100, offset: int = 0) -> list[HeldSet]:
    """The open sets, newest first; with ``decided`` those of the last 30 days too."""
    rows = connection.execute(LIST_ALL if decided else LIST_OPEN, {"limit": limit, "offset": offset})
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
    connection.execute(RESOLVE_HELD)
    if decision is Decision.APPROVED and row.scope == CREATES and not first_word_given(connection):
        begin_filling(connection)
    request_run(connection)
    return _held(row)


def decided_items(connection: Connection) -> tuple[frozenset[str], frozenset[str]]:
    """(approved, rejected) hashes of single items in force: the last word on each counts.

    An approval holds for 24 hours, a rejection for 30 days; after that it is asked about again.
    """
    rows = connection.execute(IN_FORCE).all()
    approved = frozenset(row.hash for row in rows if row.decision == Decision.APPROVED.value and row.fresh)
    return approved, frozenset(row.hash for row in rows if row.decision == Decision.REJECTED.value)


def refused_questions(connection: Connection) -> frozenset[str]:
    """The questions (``Change.question``) to which an operator's last answer, however long ago, was a refusal."""
    return frozenset(row.question for row in connection.execute(REFUSED))


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
EXPIRE_FLIPS = text(
    "UPDATE holds SET decision = 'expired', decided_at = clock_timestamp() "
    "WHERE decision IS NULL AND scope LIKE 'flips:%' AND split_part(scope, ':', 2) = ANY(CAST(:clusters AS text[])) "
    "AND NOT scope = ANY(CAST(:scopes AS text[]))"
)
# A finding about a held set goes together with the set, whatever the sources let a run see.
RESOLVE_HELD = text(
    "UPDATE findings f SET resolved_at = clock_timestamp() WHERE f.class = 'held' AND f.resolved_at IS NULL"
    " AND NOT EXISTS (SELECT 1 FROM holds h WHERE h.decision IS NULL AND 'scope:' || h.scope = f.subject)"
)
OPEN = text("SELECT scope, plan_hash FROM holds WHERE decision IS NULL")
# What waits for a word of its own, maybe for good, must not crowd out what exceeds a limit.
LIST_OPEN = text(
    "SELECT h.* FROM holds h WHERE h.decision IS NULL"
    " ORDER BY starts_with(h.scope, 'by-approval:'), h.id DESC LIMIT :limit OFFSET :offset"
)
LIST_ALL = text(
    "SELECT h.* FROM holds h WHERE h.decision IS NULL OR h.decided_at > statement_timestamp() - interval '30 days' "
    "ORDER BY h.id DESC LIMIT :limit OFFSET :offset"
)
DECIDABLE = text(
    "SELECT id, plan_hash, decision FROM holds WHERE starts_with(plan_hash, :prefix)"
    " AND (decision IS NULL OR decided_at > statement_timestamp() - interval '24 hours' OR decision = 'rejected')"
    " ORDER BY id DESC FOR UPDATE"
)
DECIDE = text(
    "UPDATE holds SET decision = :decision, decided_by = :by, decided_at = clock_timestamp() WHERE id = :id RETURNING *"
)
IN_FORCE = text(
    "SELECT DISTINCT ON (item ->> 'hash') item ->> 'hash' AS hash, h.decision,"
    " h.decided_at > clock_timestamp() - interval '24 hours' AS fresh"
    " FROM holds h, jsonb_array_elements(h.items) AS item"
    " WHERE h.decision IN ('approved', 'rejected') AND h.decided_at > statement_timestamp() - interval '30 days'"
    " ORDER BY item ->> 'hash', h.decided_at DESC"
)
REFUSED = text(
    "SELECT question FROM (SELECT DISTINCT ON (question) question, decision FROM ("
    " SELECT CASE item ->> 'action' WHEN 'delete' THEN 'delete' ELSE item ->> 'kind' END || ' ' || (item ->> 'subject')"
    " AS question, h.decision, h.decided_at FROM holds h, jsonb_array_elements(h.items) AS item"
    " WHERE h.decision IN ('approved', 'rejected')) answers"
    " ORDER BY question, decided_at DESC) last WHERE decision = 'rejected'"
)
