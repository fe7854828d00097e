"""The proofs accuse every journal that shows a fault, and no other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import pytest

from chaos.beats import Push, interleaved
from chaos.proof import Entry, prove_epochs, prove_lanes

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
    found = prove_lanes(case.entries, case.versions)
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
    ("pids", "wrong"),
    [([1, 1, 2, 2], 0), ([1, 2, 3], 0), ([1, 2, 1], 1), ([1, 2, 1, 2], 2), ([], 0)],
    ids=["taken over", "and again", "one came back", "both at once", "nothing"],
)
def test_beats(pids: list[int], wrong: int) -> None:
    assert len(interleaved([Push(float(n), pid) for n, pid in enumerate(pids)])) == wrong
