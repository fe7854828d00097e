"""The proofs accuse every journal that shows a fault, and no other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from sqlalchemy import create_engine

from lab.chaos.calls import UNKNOWN, UNSENT, MarkedCall, mark_of
from lab.chaos.phases import Failing
from lab.chaos.proofs.answers import broken_answers
from lab.chaos.proofs.beats import Push, interleaved, lock_times
from lab.chaos.proofs.call_proof import Calls, Journaled, prove_calls, prove_records
from lab.chaos.proofs.queue_proof import Entry, prove_epochs, prove_vps_queues
from lab.chaos.stalls import StallWatch

NOW = datetime(2026, 6, 1, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def call(seq: int, **values: Any) -> Entry:
    """One call a second, applied half a second later."""
    kept: dict[str, Any] = {
        "id": seq, "kind": "sync", "action": "create" if seq == 1 else "update", "vps_id": 1, "seq": seq,
        "state": "applied", "accepted_at": at(seq), "applied_at": at(seq + 0.5), "committed_at": at(seq + 0.6),
        "before": None if seq == 1 else seq - 1, "after": seq,
    }  # fmt: skip
    return Entry(**kept | values)


GOOD = [call(1), call(2), call(3)]


class Lane(NamedTuple):
    entries: list[Entry]
    accused: str | None
    reason: str
    versions: Mapping[int, int] = {1: 3}


LANES = [
    Lane(GOOD, None, "once each, in order"),
    Lane([call(1), call(3, before=1, after=2)], "lost", "a seq is missing", {1: 2}),
    Lane([*GOOD[:2], call(3, state="queued", applied_at=None, before=None, after=None)], "lost", "queued", {1: 2}),
    Lane([*GOOD, call(4, state="rejected", before=None, after=None)], "lost", "refused, and nothing says why"),
    Lane([*GOOD, call(4, state="superseded", before=None, after=None, why="deleted")], None, "explained"),
    Lane([*GOOD[:2], call(3, before=1, after=2)], "doubled", "two entries made the same version", {1: 2}),
    Lane([*GOOD[:2], call(3, before=2, after=4)], "doubled", "one entry was applied twice", {1: 4}),
    Lane(GOOD, "doubled", "something was written that no entry tells of", {1: 4}),
    Lane([call(1), call(2, applied_at=at(9)), call(3)], "disordered", "a successor was applied first"),
    Lane([call(1), call(2, accepted_at=at(9)), call(3)], "disordered", "a successor was accepted first"),
]


@pytest.mark.parametrize("case", LANES, ids=lambda case: case.reason)
def test_lanes(case: Lane) -> None:
    found = prove_vps_queues(case.entries, case.versions)
    accused = {name for name in ("lost", "doubled", "disordered") if getattr(found, name)}
    assert accused == ({case.accused} if case.accused else set())


def repair(id_: int, run_id: int, epoch: int, begun: float, **values: Any) -> Entry:
    """Committed a tenth of a second after it was begun."""
    made = call(id_, kind="repair", run_id=run_id, epoch=epoch, applied_at=at(begun), committed_at=at(begun + 0.1))
    return replace(made, **values)


RUNS = {10: 1, 11: 2}
FIRST = [repair(1, 10, 1, 0.0), repair(2, 10, 1, 1.0)]


@pytest.mark.parametrize(
    ("entries", "wrong"),
    [
        ([*FIRST, repair(3, 11, 2, 2.0), repair(4, 11, 2, 3.0)], 0),
        ([*FIRST, repair(3, 11, 2, 1.05)], 1),
        ([FIRST[0], repair(3, 11, 2, 0.5), FIRST[1]], 1),
        ([FIRST[0], repair(3, 11, 2, 0.5), repair(4, 11, 2, 0.05, committed_at=at(0.7))], 1),
        ([repair(1, 10, 2, 0.0)], 1),
        ([repair(1, 10, 1, 0.0, committed_at=None)], 1),
        ([replace(repair(1, 10, 1, 0.0), epoch=None)], 1),
    ],
    ids=[
        "one run after the other",
        "begun before the last one was committed",
        "an old run wrote after a new one",
        "the new run's second write was begun too early",
        "another epoch than its run's",
        "no time",
        "no epoch",
    ],
)
def test_epochs(entries: list[Entry], wrong: int) -> None:
    assert len(list(prove_epochs(entries, RUNS))) == wrong


@pytest.mark.parametrize(
    ("pids", "took", "wrong"),
    [
        ([1, 1, 2, 2], {1: [0], 2: [2]}, 0),
        ([1, 2, 3], {1: [0], 2: [1], 3: [2]}, 0),
        ([1, 2, 1, 1], {1: [0, 2], 2: [1]}, 0),
        ([1, 1, 2, 1, 2], {1: [0], 2: [2]}, 0),
        ([1, 1, 2, 1, 2, 1], {1: [0], 2: [2]}, 1),
        ([1, 1, 2, 1, 1], {1: [0], 2: [2]}, 1),
        ([1, 2, 1, 2, 1, 2], {1: [0], 2: [1]}, 1),
        ([1, 2, 2, 1], {1: [0]}, 2),
        ([2, 1], {1: [1]}, 1),
        ([], {}, 0),
    ],
    ids=[
        "taken over",
        "and again",
        "the first one took the lock back",
        "one message was in hand",
        "two messages, one by one",
        "two messages in a row",
        "both at once",
        "the second never had the lock",
        "the first one never had it",
        "nothing",
    ],
)
def test_beats(pids: list[int], took: dict[int, list[float]], wrong: int) -> None:
    assert len(interleaved([Push(float(n), pid) for n, pid in enumerate(pids)], took)) == wrong


def test_a_beats_log_tells_when_it_took_the_lock(tmp_path: Path) -> None:
    log = tmp_path / "beat.log"
    assert lock_times(log) == []
    log.write_text(
        '{"event": "beat_standing_by", "timestamp": "2026-11-29T23:19:20.510479Z"}\n'
        '{"event": "beat_started", "logger": "worker.beat", "timestamp": "2026-11-29T23:19:31.500000Z"}\n'
        "Traceback (most recent call last):\n"
    )
    assert lock_times(log) == [datetime(2026, 11, 29, 23, 19, 31, 500000, UTC).timestamp()]


def said(mark: str, status: int | None = 202, operation: int | None = None, **values: Any) -> MarkedCall:
    """A call, answered in 10 ms."""
    return MarkedCall(values.pop("at", 0.0), values.pop("took_s", 0.01), mark, status, operation, **values)


SILENT = said("b", None)
NEVER_SENT = said("b", None, code=UNSENT)
UNSURE = said("b", 503, code=UNKNOWN, retry_after="5")
REFUSED = said("b", 503, code="database_away", retry_after="5")
KEYED = {"keyed": True}
A, B, C = said("a", 202, 1), said("b", 202, 2), said("c", 202, 3)


class Told(NamedTuple):
    """``journal``: operation and mark, in the queue's order; ``counted``: unanswered, taken, repeated, twice."""

    calls: list[MarkedCall]
    journal: list[tuple[int, str]]
    accused: str | None
    reason: str
    counted: tuple[int, int, int, int] = (0, 0, 0, 0)


TOLD = [
    Told([A, B, C], [(1, "a"), (2, "b"), (3, "c")], None, "once each, in order"),
    Told([A, B, C], [(1, "a"), (3, "c")], "lost", "an accepted call is not there"),
    Told([A, B, C], [(1, "a"), (7, "b"), (3, "c")], "lost", "another operation than the answer's"),
    Told([A, B, C], [(1, "a"), (2, "b"), (7, "b"), (3, "c")], "doubled", "an accepted call stands twice"),
    Told([A, B, C], [(1, "a"), (3, "c"), (2, "b")], "disordered", "a later call stands before it"),
    Told([A, REFUSED, C], [(1, "a"), (3, "c")], None, "refused"),
    Told([A, REFUSED, C], [(1, "a"), (2, "b"), (3, "c")], "never_made", "refused, and there"),
    Told([A, NEVER_SENT, C], [(1, "a"), (3, "c")], None, "there was nobody to say it to"),
    Told([A, NEVER_SENT, C], [(1, "a"), (2, "b"), (3, "c")], "never_made", "never sent, and there"),
    Told([A, C], [(1, "a"), (2, "x"), (3, "c")], "never_made", "a call that nobody made"),
    Told([A, SILENT, C], [(1, "a"), (3, "c")], None, "no answer, and not there", (1, 0, 0, 0)),
    Told([A, SILENT, C], [(1, "a"), (2, "b"), (3, "c")], None, "no answer, and there", (1, 1, 0, 0)),
    Told([A, UNSURE, C], [(1, "a"), (2, "b"), (3, "c")], None, "outcome unknown, and there", (1, 1, 0, 0)),
    Told([A, SILENT, C], [(1, "a"), (2, "b"), (4, "b"), (3, "c")], "doubled", "no answer, twice there", (1, 1, 0, 0)),
    Told([A, SILENT, C], [(1, "a"), (3, "c"), (2, "b")], "disordered", "no answer, there too late", (1, 1, 0, 0)),
    Told([SILENT, B, C], [(2, "b"), (3, "c")], None, "repeated, one of them there", (0, 0, 1, 0)),
    Told([SILENT, B, C], [(1, "b"), (2, "b"), (3, "c")], None, "repeated without a key, both there", (0, 0, 1, 1)),
    Told([SILENT, B], [(1, "b"), (2, "b"), (3, "b")], "doubled", "repeated once, three there", (0, 0, 1, 1)),
    Told([SILENT, B], [(1, "b")], "lost", "repeated, the accepted one is not there", (0, 0, 1, 0)),
    Told([said("b", None, **KEYED), said("b", 202, 2, **KEYED)], [(2, "b")], None, "repeated with its key"),
    Told([said("b", None, **KEYED), said("b", 202, 2, **KEYED)], [(1, "b"), (2, "b")], "doubled", "twice under a key"),
    Told(
        [said("b", 202, 2, **KEYED), said("b", 202, 1, **KEYED)], [(2, "b"), (1, "b")], "doubled", "two answers, a key"
    ),
    Told([B, B], [(2, "b")], "lost", "two answers without a key, one entry"),
]


def proved(case: Told) -> Calls:
    return prove_calls({1: case.calls}, {1: [Journaled(id_, mark, "applied") for id_, mark in case.journal]})


@pytest.mark.parametrize("case", TOLD, ids=lambda case: case.reason)
def test_calls(case: Told) -> None:
    found = proved(case)
    accused = {name for name in ("lost", "doubled", "disordered", "never_made") if getattr(found, name)}
    assert accused == ({case.accused} if case.accused else set()), found.wrong
    assert (found.unanswered, found.taken, found.repeated, found.twice) == case.counted


def test_a_journal_that_doubles_every_call_is_noticed() -> None:
    """Though each entry is applied once and in order, and the record's version agrees."""
    entries, journal = [], []
    calls = [said(mark_of(n), 202, 2 * n) for n in range(50)]
    for n, one in enumerate(calls):
        entries += [call(2 * n + 1), call(2 * n + 2)]
        journal += [Journaled(2 * n, one.mark, "applied"), Journaled(2 * n + 1, one.mark, "applied")]
    vps_queues = prove_vps_queues(entries, {1: 100})
    assert [*vps_queues.lost, *vps_queues.doubled, *vps_queues.disordered] == []
    assert len(prove_calls({1: calls}, {1: journal}).doubled) == 50


@pytest.mark.parametrize(
    ("states", "record", "wrong"),
    [
        (["applied", "applied"], "b", 0),
        (["applied", "applied"], "a", 1),
        (["applied", "applied"], None, 1),
        (["applied", "superseded"], "b", 1),
        (["queued", "applied"], "b", 1),
        ([], None, 0),
        ([], "b", 1),
    ],
    ids=["equal", "older", "none", "superseded", "waits still", "no call", "a call that nobody made"],
)
def test_records(states: list[str], record: str | None, wrong: int) -> None:
    journal = [Journaled(n, mark, state) for n, (mark, state) in enumerate(zip("ab", states, strict=False))]
    assert len(list(prove_records({1: journal}, {1: record}))) == wrong


def test_marks_differ() -> None:
    assert len({mark_of(n) for n in range(100_000)}) == 100_000


AWAY, DEAD = [Failing("postgres", 10.0, 20.0), Failing("postgres", 15.0, 18.0)], [Failing("api", 30.0, 31.0)]


@pytest.mark.parametrize(
    ("one", "wrong"),
    [
        (said("a", 202, 1), 0),
        (said("a", 202, 1, took_s=2.0), 1),
        (said("a", 202, 1, at=19.0, took_s=2.0), 1),
        (said("a", 202, 1, at=30.0, took_s=2.0), 1),
        (said("a", 503, code="database_away", retry_after="5", at=19.0, took_s=1.9), 0),
        (said("a", 503, code="database_away", retry_after="5", at=19.0, took_s=2.1), 1),
        (said("a", 503, code="database_away", retry_after="5", at=9.0, took_s=1.7), 0),
        (said("a", 503, code="database_away", retry_after="5", at=21.0), 1),
        (said("a", 503, code="database_away", retry_after=None, at=19.0), 1),
        (said("a", 503, code="database_away", retry_after="0", at=19.0), 1),
        (said("a", 503, code="not_ready", retry_after="5", at=19.0), 1),
        (said("a", 500, code="internal", at=19.0), 1),
        (said("a", 404, code="not_found"), 1),
        (said("a", 409, code="idempotency_key_in_flight", keyed=True), 0),
        (said("a", 409, code="idempotency_key_in_flight"), 1),
        (said("a", None, at=29.0, took_s=1.5), 0),
        (said("a", None, at=30.5), 0),
        (said("a", None, at=31.5), 1),
        (said("a", None, at=12.0, took_s=10.0), 1),
    ],
    ids=[
        "in time", "late", "late while the database failed", "late beside a killed API", "away", "away, and too late",
        "asked before the fault", "away, and all is well", "no Retry-After", "Retry-After 0", "another 503", "500",
        "404", "its key is in use", "in use without a key", "killed under it", "no API there",
        "no answer though it was back", "no answer while the database failed",
    ],
)  # fmt: skip
def test_answers(one: MarkedCall, wrong: int) -> None:
    assert len(list(broken_answers([one], AWAY, DEAD))) == wrong


STALLED = [Failing("postgres", 40.0, 43.0)]


@pytest.mark.parametrize(
    ("one", "wrong"),
    [
        pytest.param(said("a", 503, code="database_away", retry_after="5", at=41.0), 0, id="away while it stood still"),
        pytest.param(said("a", 202, 1, at=42.0, took_s=2.2), 0, id="late while it stood still"),
        pytest.param(said("a", 202, 1, at=44.0, took_s=2.2), 1, id="late after it"),
        pytest.param(said("a", 500, code="internal", at=41.0), 1, id="500 is never right"),
        pytest.param(said("a", None, at=41.0), 1, id="no answer is never right"),
    ],
)
def test_answers_while_the_machine_stands_still(one: MarkedCall, wrong: int) -> None:
    assert len(list(broken_answers([one], AWAY, DEAD, STALLED))) == wrong


def test_a_fault_of_ours_is_no_stall_of_the_machine() -> None:
    watch = StallWatch(create_engine("postgresql+psycopg://nobody@127.0.0.1:9/none"))
    watch._slow += [Failing("postgres", 12.0, 13.0), Failing("postgres", 40.0, 41.0)]
    assert watch.stalls(AWAY, 2.0) == [Failing("postgres", 40.0, 43.0)]
