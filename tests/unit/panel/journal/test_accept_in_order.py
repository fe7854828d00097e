"""The calls of one request: which share a transaction, and what becomes of those after one that is not taken.

The transactions themselves are stood in for; tests/integration/api/test_api_batch.py has real ones.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, cast

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from panel.deadlines import Deadlines
from panel.journal.accept import BATCH_LIMIT, IN_ORDER_COMMITS, PIECES, Acceptor, _LockedError, _Waiting
from panel.journal.calls import Accepted, Call, DatabaseAwayError, NotTriedError, OutcomeUnknownError, OverloadedError
from panel.journal.journal_state import LockTimeout
from tests.support.calls import update_call

PATIENT = Deadlines(600.0)
Transaction = Callable[[list[int], LockTimeout], None]


class NoTime(Deadlines):
    """One transaction may begin, and no other."""

    @property
    def begin_s(self) -> float:
        return 0.0


class NoPatience(Deadlines):
    """The caller is answered as soon as a transaction has begun."""

    @property
    def queue_s(self) -> float:
        return 0.0


class Scripted(Acceptor):
    """Its transactions do as they are told. ``tried``: the ids of each, and ``committed``: those that went well."""

    def __init__(self, transaction: Transaction, deadlines: Deadlines = PATIENT) -> None:
        super().__init__(cast("AsyncEngine", None), deadlines=deadlines)
        self.script = transaction
        self.tried: list[list[int]] = []
        self.committed: list[int] = []
        self.hang = asyncio.Event()

    async def _transaction(self, calls: list[Call], lock_timeout: LockTimeout) -> list[Any]:
        ids = [call.vps_id or 0 for call in calls]
        self.tried.append(ids)
        self.script(ids, lock_timeout)
        if HANGING in ids:
            await self.hang.wait()
        self.committed += ids
        return [Accepted(id_, id_, "queued", {}, "m", created=True) for id_ in ids]


HANGING = 7777


def fine(_ids: list[int], _lock_timeout: LockTimeout) -> None:
    """Every transaction is committed."""


def failing(at: int, error: Exception) -> Transaction:
    def transaction(ids: list[int], _lock_timeout: LockTimeout) -> None:
        if at in ids:
            raise error

    return transaction


def calls(ids: Sequence[int]) -> list[Call]:
    return [update_call(id_) for id_ in ids]


def kinds(outcomes: Sequence[object]) -> list[str]:
    return [type(outcome).__name__ for outcome in outcomes]


async def test_many_calls_share_a_transaction_in_their_order() -> None:
    acceptor = Scripted(fine)
    ids = list(range(1, 301))
    outcomes = await acceptor.accept_in_order(calls(ids))
    assert [outcome.vps_id for outcome in outcomes if isinstance(outcome, Accepted)] == ids == acceptor.committed
    assert [len(part) for part in acceptor.tried] == [BATCH_LIMIT, BATCH_LIMIT, 300 - 2 * BATCH_LIMIT]


async def test_a_key_that_comes_again_waits_for_the_commit_of_the_first() -> None:
    acceptor = Scripted(fine)
    keyed = [update_call(id_, key=key) for id_, key in ((1, "a"), (2, None), (3, "b"), (4, "a"), (5, "b"), (6, None))]
    await acceptor.accept_in_order(keyed)
    assert acceptor.tried == [[1, 2, 3], [4, 5, 6]]


async def test_a_bug_is_of_one_call_and_the_others_go_on_in_order() -> None:
    acceptor = Scripted(failing(100, RuntimeError("a bug")))
    ids = list(range(1, 201))
    outcomes = await acceptor.accept_in_order(calls(ids))
    assert [kind for kind in kinds(outcomes) if kind != "Accepted"] == ["RuntimeError"]
    assert isinstance(outcomes[99], RuntimeError)
    assert acceptor.committed == [id_ for id_ in ids if id_ != 100]
    assert len(acceptor.tried) <= 5 * PIECES, "few transactions, not one for each call"


async def test_a_held_lock_is_waited_for_by_its_call_alone() -> None:
    def locked(ids: list[int], lock_timeout: LockTimeout) -> None:
        if 50 in ids and lock_timeout is LockTimeout.BRIEF:
            raise _LockedError

    acceptor = Scripted(locked)
    ids = list(range(1, 101))
    outcomes = await acceptor.accept_in_order(calls(ids))
    assert set(kinds(outcomes)) == {"Accepted"}
    assert acceptor.committed == ids
    assert [50] in acceptor.tried
    assert len(acceptor.tried) <= 4 * PIECES


async def test_after_a_call_that_the_database_did_not_take_none_is_tried() -> None:
    acceptor = Scripted(failing(200, DatabaseAwayError("away")))
    outcomes = await acceptor.accept_in_order(calls(range(1, 501)))
    assert kinds(outcomes) == ["Accepted"] * BATCH_LIMIT + ["DatabaseAwayError"] * (500 - BATCH_LIMIT)
    assert len(acceptor.tried) == 2


async def test_after_an_unknown_outcome_none_is_tried() -> None:
    acceptor = Scripted(failing(200, OutcomeUnknownError(None)))
    outcomes = await acceptor.accept_in_order(calls(range(1, 501)))
    unknown = ["OutcomeUnknownError"] * BATCH_LIMIT
    assert kinds(outcomes) == ["Accepted"] * BATCH_LIMIT + unknown + ["NotTriedError"] * (500 - 2 * BATCH_LIMIT)
    assert len(acceptor.tried) == 2


async def test_a_database_that_is_away_before_anything_was_accepted_is_one_error() -> None:
    with pytest.raises(DatabaseAwayError):
        await Scripted(failing(1, DatabaseAwayError("away"))).accept_in_order(calls(range(1, 501)))


async def test_what_is_unknown_is_told_though_nothing_was_accepted_for_sure() -> None:
    outcomes = await Scripted(failing(1, OutcomeUnknownError(None))).accept_in_order(calls([1, 2]))
    assert kinds(outcomes) == ["OutcomeUnknownError"] * 2


async def test_no_transaction_begins_after_its_time() -> None:
    acceptor = Scripted(fine, NoTime(600.0))
    outcomes = await acceptor.accept_in_order(calls(range(1, 301)))
    assert kinds(outcomes) == ["Accepted"] * BATCH_LIMIT + ["NotTriedError"] * (300 - BATCH_LIMIT)
    assert len(acceptor.committed) == BATCH_LIMIT


async def test_a_transaction_that_hangs_is_an_unknown_outcome_and_ends_by_itself() -> None:
    acceptor = Scripted(fine, NoPatience(600.0))
    ids = [HANGING, *range(100, 300)]
    outcomes = await acceptor.accept_in_order(calls(ids))
    unknown = ["OutcomeUnknownError"] * BATCH_LIMIT
    assert kinds(outcomes) == unknown + ["NotTriedError"] * (len(ids) - BATCH_LIMIT)
    acceptor.hang.set()
    await acceptor.stop()
    assert acceptor.committed == ids[:BATCH_LIMIT], "what had begun is committed, and nothing after it"


async def test_a_batch_that_never_had_its_turn_is_one_error() -> None:
    acceptor = Scripted(fine, NoPatience(600.0))
    hanging = [asyncio.create_task(acceptor.accept_in_order(calls([HANGING]))) for _ in range(IN_ORDER_COMMITS)]
    await asyncio.gather(*hanging)
    with pytest.raises(DatabaseAwayError):
        await acceptor.accept_in_order(calls([1]))
    acceptor.hang.set()
    await acceptor.stop()
    assert 1 not in acceptor.committed


async def test_batches_keep_no_locked_call_waiting() -> None:
    acceptor = Scripted(fine, NoPatience(600.0))
    for _ in range(IN_ORDER_COMMITS):
        await acceptor.accept_in_order(calls([HANGING]))
    locked = _Waiting(update_call(1))
    await asyncio.wait_for(acceptor._commit_separately([locked]), 60)
    assert kinds([await locked.future]) == ["Accepted"]
    acceptor.hang.set()
    await acceptor.stop()


async def test_too_many_batches_at_once_are_refused_until_the_first_have_ended() -> None:
    acceptor = Scripted(fine, NoPatience(600.0))
    for _ in range(2):
        await acceptor.accept_in_order(calls([HANGING] * 1000))
    with pytest.raises(OverloadedError):
        await acceptor.accept_in_order(calls([1]))
    acceptor.hang.set()
    await acceptor.stop()
    acceptor._deadlines = PATIENT
    assert kinds(await acceptor.accept_in_order(calls([1]))) == ["Accepted"]


async def test_without_calls_nothing_is_done() -> None:
    acceptor = Scripted(fine)
    assert await acceptor.accept_in_order([]) == []
    assert acceptor.tried == []


def test_what_was_not_tried_is_an_exception_of_its_own() -> None:
    """The edge tells it apart from a database that is away."""
    assert not issubclass(NotTriedError, DatabaseAwayError)
