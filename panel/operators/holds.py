"""What the gate held, and what operators decided about it.

A decision covers the items of a set one by one. Each item is known by the hash of its identity: action, record,
version, verdict with every value that is written, and kind of evidence. If an item changed since, the decision does not
cover it any more and the operator is asked about it again. The other items stay decided.

A set above SECOND_APPROVAL_ABOVE needs the approval of two operators. After the first one it stays open
(:mod:`panel.operators.approvals`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field
from sqlalchemy import Connection, Row, insert, select, text

from domain.changes import identities_hash, plan_hash
from panel.api_answer import api_answer
from panel.operator_error import OperatorError
from panel.operators.approvals.second_operator import proven_name
from panel.operators.approvals.stored_words import Standings, load_standings
from panel.schema import tables

CREATES = "creates"
"""The gate's scope of creates. The approval of a panel's first such set begins its first filling."""


class Decision(StrEnum):
    """What an operator decided about a held set."""

    APPROVED = "approved"
    REJECTED = "rejected"


@api_answer
@dataclass(frozen=True, slots=True)
class Approval:
    """One operator's approval that is in force."""

    by: Annotated[str, Field(description='"api:ann": on a page or by HTTP; "cli:ann": by command')]
    at: datetime
    items: Annotated[int, Field(description="How many of the set's items it covers")]


@dataclass(frozen=True, slots=True)
class HeldSet:
    """One held set. ``items``: each with its identity, its reason and its hash. ``decision``: None while the set is
    open; ``expired`` once a run does not hold the set any more, or holds it with other items. ``needs_second``: whether
    it takes two operators to approve it. ``approvals``: those in force, the oldest first, also of the set that this one
    replaced, as far as the items are the same. ``released``: how many items a run may write by them
    (``with_approvals``)."""

    hash: str
    scope: str
    reason: str
    items: tuple[dict[str, Any], ...]
    run_id: int
    created_at: datetime
    decision: str | None
    decided_by: str | None
    decided_at: datetime | None
    needs_second: bool = False
    approvals: tuple[Approval, ...] = ()
    released: int = 0

    @property
    def waits_for_second(self) -> bool:
        """Whether an operator approved items of it, and another one must."""
        return self.needs_second and bool(self.approvals) and self.released < len(self.items)

    def wholly_approved_by(self, by: str) -> bool:
        """Whether this operator's approval covers every item."""
        name = proven_name(by)
        return name is not None and any(
            proven_name(one.by) == name and one.items == len(self.items) for one in self.approvals
        )

    @property
    def by_approval(self) -> bool:
        """Whether the set waits for an approval of its own. It exceeds no limit and may stay open for good."""
        return self.scope.startswith("by-approval:")


def keep_holds(connection: Connection, run_id: int, held: Iterable[Any], left_out: Iterable[str] = ()) -> None:
    """Keep what a full run's gate held, one open set per scope. A set that is not held any more expires.

    ``left_out``: the subjects that the run decided nothing about. Their changes by approval stay open.
    """
    scopes = {f"by-approval:{subject}" for subject in left_out}
    current = {row.scope: row.plan_hash for row in connection.execute(OPEN)}
    for held_set in held:
        scopes.add(held_set.scope)
        if current.get(held_set.scope) != held_set.hash:
            _replace(connection, run_id, held_set.scope, held_set.reason, held_set.hash, _items(held_set))
    connection.execute(EXPIRE_OTHERS, {"scopes": sorted(scopes)})
    connection.execute(RESOLVE_HELD)


def keep_fast_holds(connection: Connection, run_id: int, held: Iterable[Any], clusters: Iterable[str]) -> None:
    """Keep what the fast lane's gate held. ``clusters``: the clusters that the fast lane read.

    The fast lane sees power states only. So it adds its items to the sets of full runs, and it expires only sets of
    power states (``flips:``) of these clusters.
    """
    scopes = set()
    for held_set in held:
        scopes.add(held_set.scope)
        new, current = _items(held_set), _open(connection, held_set.scope)
        known: list[dict[str, Any]] = list(current.items) if current is not None else []
        if {item["hash"] for item in new} <= {item["hash"] for item in known}:
            continue
        newer = {_about(item) for item in new}
        items = [item for item in known if _about(item) not in newer] + new
        hash_ = identities_hash({k: v for k, v in item.items() if k not in NO_IDENTITY} for item in items)
        _replace(connection, run_id, held_set.scope, held_set.reason, hash_, items)
    connection.execute(EXPIRE_FLIPS, {"scopes": sorted(scopes), "clusters": sorted(clusters)})
    connection.execute(RESOLVE_HELD)


NO_IDENTITY = ("reason", "hash")
"""The fields of an item that are not part of its change's identity."""


def _items(held: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - the gate's Held
    return [c.identity() | {"reason": c.reason, "hash": plan_hash((c,))} for c in held.changes]


def _about(item: Mapping[str, Any]) -> tuple[Any, ...]:
    """Which question an item asks. One record may have two: about its order's state, and about its guest's."""
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


@dataclass(frozen=True, slots=True)
class HeldFilter:
    """Which items to show. ``user``: the panel's id of a customer."""

    class_: str | None = None
    cluster: str | None = None
    user: int | None = None

    def matches(self, item: Mapping[str, Any]) -> bool:
        """Whether an item (:func:`panel.records.labels.with_label`) is one of these."""
        return (
            self.class_ in (None, item["kind"])
            and (self.cluster is None or self.cluster in item["clusters"])
            and self.user in (None, item["user_id"])
        )


def list_holds(
    connection: Connection,
    wanted: HeldFilter | None = None,
    *,
    decided: bool = False,
    limit: int = 100,
    offset: int = 0,
) -> list[HeldSet]:
    """The open sets that have a wanted item, newest first, each with all its items. ``decided``: also those that were
    decided or expired in the last 30 days."""
    wanted = wanted or HeldFilter()
    values = {"class": wanted.class_, "cluster": wanted.cluster, "user": wanted.user}
    filtered = wanted != HeldFilter()
    statement = (FILTERED_ALL if filtered else LIST_ALL) if decided else (FILTERED_OPEN if filtered else LIST_OPEN)
    rows = connection.execute(statement, {"limit": limit, "offset": offset} | (values if filtered else {}))
    return [held_of(row) for row in rows]


def held_set(connection: Connection, hash_: str) -> HeldSet:
    """The latest set with this hash, open or not. Raises OperatorError."""
    row = connection.execute(OF_HASH, {"hash": hash_}).one_or_none()
    if row is None:
        raise OperatorError("unknown", f"there is no held set {hash_[:12]}: a run may have replaced it by a newer one")
    return held_of(row)


def held_about(connection: Connection, subjects: Iterable[str], above: int | None) -> list[HeldSet]:
    """The open sets that have an item about one of these subjects ("vps:12", "order:7041"), newest first; of each only
    those items, with their approvals. Whether it needs two operators is asked of the whole set. ``above``:
    SECOND_APPROVAL_ABOVE."""
    about = set(subjects)
    whole = [held_of(row) for row in connection.execute(ABOUT, {"subjects": sorted(about)})]
    if not whole:
        return []
    standings, found = _standings(connection, whole, above), []
    for one in whole:
        part = replace(one, items=tuple(item for item in one.items if item["subject"] in about))
        second = _told(standings, one, above).needs_second
        found.append(replace(_told(standings, part, above), needs_second=second))
    return found


def with_approvals(connection: Connection, sets: Iterable[HeldSet], above: int | None) -> list[HeldSet]:
    """The sets, each with the approvals in force and whether it needs two operators. ``above``:
    SECOND_APPROVAL_ABOVE."""
    listed = list(sets)
    if not listed:
        return []
    standings = _standings(connection, listed, above)
    return [_told(standings, one, above) for one in listed]


def held_subjects(connection: Connection, subjects: Iterable[str]) -> frozenset[str]:
    """Those of these subjects that an open set has an item about."""
    return frozenset(connection.scalars(HELD_SUBJECTS, {"subjects": sorted(set(subjects))}))


def _standings(connection: Connection, sets: Iterable[HeldSet], above: int | None) -> Standings:
    return load_standings(connection, above, (item["hash"] for one in sets for item in one.items))


def _told(standings: Standings, one: HeldSet, above: int | None) -> HeldSet:
    found = standings.of(one.items)
    covered: dict[str, list[datetime]] = {}
    for item in found:
        for by, at in {word.by: word.at for word in item.approvals}.items():
            covered.setdefault(by, []).append(at)
    approvals = sorted((Approval(by, max(at), len(at)) for by, at in covered.items()), key=lambda given: given.at)
    second = standings.needs_second(one.items, above)
    released = sum(item.released for item in found)
    return replace(one, needs_second=second, approvals=tuple(approvals), released=released)


def held_of(row: Row[Any]) -> HeldSet:
    """The set of a row."""
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
# A finding about a held set resolves with the set, even if the run did not read the sources that the set is about.
RESOLVE_HELD = text(
    "UPDATE findings f SET resolved_at = clock_timestamp() WHERE f.class = 'held' AND f.resolved_at IS NULL"
    " AND NOT EXISTS (SELECT 1 FROM holds h WHERE h.decision IS NULL AND 'scope:' || h.scope = f.subject)"
)
OPEN = text("SELECT scope, plan_hash FROM holds WHERE decision IS NULL")
# Before the limit, or sets behind it would not be found. The same as HeldFilter.matches says of an item and its label.
_WANTED = """
 AND EXISTS (
   SELECT 1 FROM jsonb_array_elements(h.items) AS item
   LEFT JOIN vps r ON r.id = CAST(substring(item ->> 'subject' from '^vps:([0-9]+)$') AS bigint)
   LEFT JOIN orders_seen o ON o.order_id = substring(item ->> 'subject' from '^order:(.*)$')
   LEFT JOIN users u ON u.main_site_user_id = o.owner
   WHERE (CAST(:class AS text) IS NULL OR item ->> 'kind' = :class)
   AND (CAST(:cluster AS text) IS NULL
     OR :cluster IN (split_part(item ->> 'guest', '/', 1), item -> 'values' ->> 'cluster', r.cluster, o.cluster))
   AND (CAST(:user AS bigint) IS NULL OR CAST(:user AS text) = CASE item ->> 'action'
     WHEN 'create' THEN item -> 'values' ->> 'user_id' ELSE CAST(coalesce(r.user_id, u.id) AS text) END))
"""
# Sets by approval come last: they may stay open for good and must not crowd out the sets that exceed a limit.
_OPEN, _ALL = (
    "SELECT h.* FROM holds h WHERE h.decision IS NULL {wanted}"
    " ORDER BY starts_with(h.scope, 'by-approval:'), h.id DESC LIMIT :limit OFFSET :offset",
    "SELECT h.* FROM holds h"
    " WHERE (h.decision IS NULL OR h.decided_at > statement_timestamp() - interval '30 days') {wanted}"
    " ORDER BY h.id DESC LIMIT :limit OFFSET :offset",
)
LIST_OPEN, FILTERED_OPEN = text(_OPEN.format(wanted="")), text(_OPEN.format(wanted=_WANTED))
LIST_ALL, FILTERED_ALL = text(_ALL.format(wanted="")), text(_ALL.format(wanted=_WANTED))
OF_HASH = text("SELECT * FROM holds WHERE plan_hash = :hash ORDER BY id DESC LIMIT 1")
ABOUT = text(
    "SELECT h.* FROM holds h WHERE h.decision IS NULL AND EXISTS (SELECT 1 FROM jsonb_array_elements(h.items) AS item"
    " WHERE item ->> 'subject' = ANY(CAST(:subjects AS text[]))) ORDER BY h.id DESC"
)
HELD_SUBJECTS = text(
    "SELECT DISTINCT item ->> 'subject' FROM holds h, jsonb_array_elements(h.items) AS item"
    " WHERE h.decision IS NULL AND item ->> 'subject' = ANY(CAST(:subjects AS text[]))"
)
