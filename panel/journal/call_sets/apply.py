"""Applies the calls that one message names: in one transaction where it can, one by one where it must.

Most calls have nothing to do with each other. Those are locked, read, decided and written together, by some statements
for all of them. What is left is applied call by call (:mod:`panel.journal.writer`), after the others:

* the calls of VPSes that share an order or a guest with each other or with another record, or that raise a finding;
* what failed before, or was published before: such a call may be the one that fails or kills its process.

If anything goes wrong with a set, it is undone and applied in halves, so that one bad call does not cost all others
their set. Nothing waits long for a lock that another transaction holds: those calls come again, each with a message of
its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import islice

import structlog
from celery.exceptions import SoftTimeLimitExceeded
from sqlalchemy import Engine, select, text
from sqlalchemy.exc import DBAPIError

from panel.journal.attempts import LOCKED, NOT_ENDED, PENDING_ATTEMPT_REFUNDS
from panel.journal.call_sets.decision import QueueOutcome, UnusualError, decide
from panel.journal.call_sets.loaded import CallSet, Patience, load
from panel.journal.call_sets.written import write
from panel.journal.writer import Applied, apply_operation, is_database_fault
from panel.monitoring.instruments import calls_finished
from panel.schema import tables

log = structlog.get_logger(__name__)

LEAST = 8
"""VPSes. A set that failed is not cut into halves smaller than this; its calls are applied one by one."""

OF_OTHERS = frozenset({"55P03", "40P01"})
"""Another transaction holds a lock, or a deadlock with it was ended."""


def apply_calls(engine: Engine, ids: Sequence[int], *, again: bool = False) -> str:
    """Apply these calls, and those before them for the same VPSes. Returns what became of them, for the task list.

    ``again``: a process that tried this message before was killed. One of several calls may be the cause; so each gets
    a message of its own. Raises SQLAlchemy's DBAPIError when the database is away or not migrated (retry later), and
    after the others what a call met that is a bug.
    """
    if again and len(ids) == 1:
        return apply_operation(engine, ids[0], again=True).text
    PENDING_ATTEMPT_REFUNDS.pay(engine)
    if again:
        _ring_singly(engine, ids, NOT_ENDED, wait_s=0)
        return f"{len(ids)} calls: each gets a message of its own"
    done = _Work(engine, ids)
    done.apply()
    return done.text


class _Work:
    """The calls of one message, and what became of each so far."""

    def __init__(self, engine: Engine, ids: Sequence[int]) -> None:
        self._engine = engine
        self._ids = ids
        self._ended: dict[int, Applied] = {}
        self._left: set[int] = set()  # VPSes
        self._locked: set[int] = set()

    @property
    def text(self) -> str:
        """How the calls ended."""
        ended = [self._ended[id_] for id_ in self._ids]
        if len(ended) == 1:
            return ended[0].text
        return ", ".join(f"{count} {state}" for state, count in sorted(Counter(e.state for e in ended).items()))

    def apply(self) -> None:
        named = self._named()
        self._apply_set(_up_to(named), Patience.NONE)
        if self._locked:
            locked, self._locked = self._locked, set()
            self._apply_set({v: seq for v, seq in _up_to(named).items() if v in locked}, Patience.BRIEF)
        self._postpone([id_ for id_, (vps_id, _) in named.items() if vps_id in self._locked])
        self._one_by_one({id_: named[id_][0] for id_ in sorted(named) if id_ not in self._ended})

    def _named(self) -> dict[int, tuple[int, int]]:
        """The VPS and the number in its queue of each call that is queued. The others ended already."""
        operations = tables.operations
        wanted = select(operations.c.id, operations.c.vps_id, operations.c.seq, operations.c.state)
        with self._engine.begin() as connection:
            known = connection.execute(wanted.where(operations.c.id.in_(self._ids))).all()
        self._ended = {id_: Applied(id_, "unknown", "unknown operation") for id_ in self._ids}
        self._ended |= {o.id: Applied(o.id, o.state, f"already {o.state}") for o in known}
        queued = {o.id: (o.vps_id, o.seq) for o in known if o.state == "queued"}
        for id_ in queued:
            del self._ended[id_]
        return queued

    def _apply_set(self, up_to: Mapping[int, int], patience: Patience) -> None:
        """Apply the queues of these VPSes, each up to this number, as a set. If that fails, in halves."""
        up_to = {vps_id: seq for vps_id, seq in up_to.items() if vps_id not in self._left}
        if not up_to:
            return
        try:
            outcomes, found = self._in_one_transaction(up_to, patience)
        except SoftTimeLimitExceeded:
            raise
        except Exception as error:
            state = getattr(getattr(error, "orig", None), "sqlstate", None)
            if isinstance(error, DBAPIError) and is_database_fault(error) and state not in OF_OTHERS:
                raise
            log.warning("call_set_undone", vpses=len(up_to), error=state or type(error).__name__)
            if patience is Patience.BRIEF and state in OF_OTHERS:
                self._locked |= set(up_to)
            elif len(up_to) <= LEAST:
                self._left |= set(up_to)
            else:
                queues = iter(up_to.items())
                for size in (len(up_to) // 2, len(up_to)):
                    self._apply_set(dict(islice(queues, size)), patience)
            return
        self._left |= found.left
        self._locked |= found.locked
        for outcome in outcomes:
            for ended in outcome.ended:
                detail = ended.result if ended.state == "applied" else "waiting"
                self._ended[ended.id] = Applied(ended.id, ended.state, f"{ended.state} {detail}")
        calls_finished(ended.state for outcome in outcomes for ended in outcome.ended)

    def _in_one_transaction(self, up_to: Mapping[int, int], patience: Patience) -> tuple[list[QueueOutcome], CallSet]:
        outcomes = []
        with self._engine.begin() as connection:
            found = load(connection, up_to, patience)
            self._left |= found.left  # also if the rest fails: in which order they are applied matters
            for vps_id, calls in found.calls.items():
                if vps_id in found.left or vps_id in found.locked:
                    continue
                try:
                    outcomes.append(decide(vps_id, found.rows.get(vps_id), calls, found.taken(vps_id)))
                except UnusualError:
                    found.left.add(vps_id)
            write(connection, outcomes)
        return outcomes, found

    def _postpone(self, ids: Sequence[int]) -> None:
        """Leave calls whose VPS another transaction holds for a message of their own."""
        if ids:
            _ring_singly(self._engine, ids, LOCKED, wait_s=1)
        self._ended |= {id_: Applied(id_, "queued", f"queued {LOCKED}") for id_ in ids}

    def _one_by_one(self, vps_of: Mapping[int, int]) -> None:
        """Apply the rest in the order of acceptance. One that fails keeps no other VPS's calls from being tried.

        The calls after it for the same VPS are not: each would try it again, and use up its tries within a second.
        """
        failed: Exception | None = None
        waiting: dict[int, Applied] = {}  # by VPS
        for id_, vps_id in vps_of.items():
            if vps_id in waiting:
                self._ended[id_] = waiting[vps_id]
                continue
            try:
                self._ended[id_] = ended = apply_operation(self._engine, id_)
                if ended.state == "queued":
                    waiting[vps_id] = ended
            except SoftTimeLimitExceeded:
                raise
            except Exception as error:
                if len(self._ids) == 1:
                    raise
                state = getattr(getattr(error, "orig", None), "sqlstate", None)
                if isinstance(error, DBAPIError) and state in OF_OTHERS:
                    self._postpone([id_])
                elif isinstance(error, DBAPIError) and is_database_fault(error):
                    raise
                else:
                    log.warning("call_of_set_failed", operation_id=id_, error=type(error).__name__)
                    failed = failed or error
        if failed is not None:
            raise failed


def _up_to(named: Mapping[int, tuple[int, int]]) -> dict[int, int]:
    """How far each VPS's queue is to be applied, by VPS, in the order of acceptance."""
    up_to: dict[int, int] = {}
    for id_ in sorted(named):
        vps_id, seq = named[id_]
        up_to[vps_id] = max(seq, up_to.get(vps_id, 0))
    return up_to


def _ring_singly(engine: Engine, ids: Sequence[int], why: str, *, wait_s: float) -> None:
    """Let the relay publish these calls again: what has an error gets a message of its own."""
    with engine.begin() as connection:
        connection.execute(RING_SINGLY, {"ids": list(ids), "why": why, "wait_s": wait_s})


RING_SINGLY = text(
    "UPDATE operations SET error = :why, publish_at = clock_timestamp() + make_interval(secs => :wait_s)"
    " WHERE id = ANY(:ids) AND state = 'queued'"
)
