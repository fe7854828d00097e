"""Look-ups side by side: in the plan's order for the writer, few at once for a source, without end for nobody."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from domain.changes import Change, Delete
from domain.confirmations import GuestIsGone
from domain.guests import GuestKey, GuestType
from domain.source_protocols import Gone, GuestConfig, Lookup, Unclear
from panel.journal.repairs import Written
from reconcile import apply as applying
from reconcile import parallel_confirmations, question_slots
from reconcile.apply import apply_changes, unconfirmed_last
from reconcile.confirming import AskableCluster, Confirmer, OutOfTimeError
from reconcile.parallel_confirmations import CLUSTER_AT_ONCE, ParallelConfirmations
from tests.support.stand_ins.no_database import NO_DATABASE
from tests.unit.reconcile.worlds import record

ALL_AT_ONCE_S = 30.0
"""Long enough for any machine: only a test that fails waits for it."""


def delete(vps_id: int, cluster: str = "main") -> Delete:
    """A delete that asks whether its guest is gone; its VMID is its record's id."""
    key = GuestKey(cluster, vps_id)
    kept = record(id=vps_id, cluster=cluster, vmid=vps_id, fingerprint=f"smbios:{vps_id}")
    gone_from = GuestIsGone(kept, key, (), order_ended=True)
    return Delete(source="test", reason="test", record=kept, guest_key=key, confirm=(gone_from,))


@dataclass(slots=True)
class Cluster:
    """``answer`` is asked for each VMID. ``most``: how many questions were under way at once."""

    answer: Callable[[int], Lookup[GuestConfig]]
    asked: list[int] = field(default_factory=list)
    most: int = 0
    _under_way: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def confirm(self, node: str, guest_type: GuestType, vmid: int) -> Lookup[GuestConfig]:
        del node, guest_type
        with self._lock:
            self.asked.append(vmid)
            self._under_way += 1
            self.most = max(self.most, self._under_way)
        try:
            return self.answer(vmid)
        finally:
            with self._lock:
                self._under_way -= 1


def gone(vmid: int) -> Lookup[GuestConfig]:
    return Gone(f"{vmid} is gone")


def confirmer(clusters: Mapping[str, AskableCluster]) -> Confirmer:
    names = frozenset(clusters)
    return Confirmer(NO_DATABASE, None, clusters, names, names)


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The records of the changes that were written, in order."""
    made: list[int] = []

    def write(_engine: object, _run: int, _epoch: int, change: Delete, *_: object) -> Written:
        made.append(change.record.id)
        return Written(len(made), change.record.id, "deleted")

    monkeypatch.setattr(applying, "write_repair", write)
    return made


@pytest.fixture
def never() -> Iterator[threading.Event]:
    """Set only after the test: who waits for it gives no answer."""
    event = threading.Event()
    yield event
    event.set()


def test_a_cluster_is_asked_as_many_questions_at_once_as_it_bears_and_no_more(written: list[int]) -> None:
    together = threading.Barrier(CLUSTER_AT_ONCE)

    def answer(vmid: int) -> Lookup[GuestConfig]:
        together.wait(ALL_AT_ONCE_S)  # breaks unless so many are under way
        return gone(vmid)

    cluster, changes = Cluster(answer), [delete(n) for n in range(1, 5 * CLUSTER_AT_ONCE + 1)]
    with ParallelConfirmations(confirmer({"main": cluster}), changes, math.inf) as confirming:
        outcome = apply_changes(NO_DATABASE, 1, 1, changes, confirming)
    assert written == [change.record.id for change in changes], "in the plan's order"
    assert cluster.most == CLUSTER_AT_ONCE
    assert not outcome.postponed
    assert not outcome.not_written


def test_a_slow_answer_is_waited_for_and_what_follows_is_asked_meanwhile(written: list[int]) -> None:
    others_asked = threading.Event()

    def slow(vmid: int) -> Lookup[GuestConfig]:
        assert others_asked.wait(ALL_AT_ONCE_S)
        return gone(vmid)

    def quick(vmid: int) -> Lookup[GuestConfig]:
        if vmid == 5:
            others_asked.set()
        return gone(vmid)

    changes = [delete(1, "slow"), *(delete(n, "quick") for n in range(2, 6))]
    both = {"slow": Cluster(slow), "quick": Cluster(quick)}
    with ParallelConfirmations(confirmer(both), changes, math.inf) as confirming:
        apply_changes(NO_DATABASE, 1, 1, changes, confirming)
    assert written == [1, 2, 3, 4, 5]


def test_a_cluster_that_gives_no_answer_is_left_alone_and_the_others_go_on(
    written: list[int], never: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(question_slots, "WITHIN_S", 0.1)

    def silent(vmid: int) -> Lookup[GuestConfig]:
        never.wait()
        return gone(vmid)

    hanging = Cluster(silent)
    changes = [*(delete(n, "hangs") for n in range(1, 21)), *(delete(n, "well") for n in range(21, 41))]
    with ParallelConfirmations(confirmer({"hangs": hanging, "well": Cluster(gone)}), changes, math.inf) as confirming:
        # The well one answers at once, but a busy machine may take its time to say so.
        confirming._slots[2].within_s = ALL_AT_ONCE_S
        outcome = apply_changes(NO_DATABASE, 1, 1, changes, confirming)
    assert written == list(range(21, 41))
    assert len(hanging.asked) <= CLUSTER_AT_ONCE
    assert len(outcome.not_written) == 20
    assert all("gave no answer" in why for _, why in outcome.not_written)


def test_unclear_after_long_is_no_answer_either(written: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(question_slots, "SLOW_S", -1.0)
    cluster, changes = Cluster(lambda _: Unclear("596")), [delete(n) for n in range(1, 21)]
    with ParallelConfirmations(confirmer({"main": cluster}), changes, math.inf) as confirming:
        apply_changes(NO_DATABASE, 1, 1, changes, confirming)
    assert written == []
    assert len(cluster.asked) <= CLUSTER_AT_ONCE


def test_when_the_time_is_over_the_rest_is_postponed(written: list[int], never: threading.Event) -> None:
    """The fourth answer never comes: what was written before stands, and all after it are left."""

    def answer(vmid: int) -> Lookup[GuestConfig]:
        if vmid == 4:
            never.wait()
        return gone(vmid)

    changes = [delete(n) for n in range(1, 8)]
    with ParallelConfirmations(confirmer({"main": Cluster(answer)}), changes, math.inf) as confirming:

        class EndsAtTheFourth:
            def hindrance(self, change: Change) -> tuple[str | None, dict[str, Any]]:
                if change is changes[3]:
                    confirming._until = -math.inf
                return confirming.hindrance(change)

        outcome = apply_changes(NO_DATABASE, 1, 1, changes, EndsAtTheFourth())
    assert written == [1, 2, 3]
    assert outcome.postponed == changes[3:]
    assert not outcome.not_written
    assert not outcome.failures


def test_no_write_begins_after_the_end(written: list[int]) -> None:
    changes = [delete(n) for n in range(1, 4)]
    outcome = apply_changes(NO_DATABASE, 1, 1, changes, confirmer({"main": Cluster(gone)}), until=0.0)
    assert written == []
    assert outcome.postponed == changes


def test_a_confirmation_that_grew_old_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = HeldClock()
    monkeypatch.setattr(parallel_confirmations, "time", clock)
    cluster, changes = Cluster(gone), [delete(1), delete(2)]
    with ParallelConfirmations(confirmer({"main": cluster}), changes, math.inf) as confirming:
        assert confirming.hindrance(changes[0])[0] is None
        assert confirming._looks[id(changes[1])].done.wait(ALL_AT_ONCE_S), "it is asked for ahead"
        clock.now += 16
        assert confirming.hindrance(changes[1])[0] is None
    assert sorted(cluster.asked) == [1, 2, 2]


@dataclass(slots=True)
class HeldClock:
    """Stands in for the module ``time``: it goes on only when somebody moves it."""

    now: float = 1_000.0

    def monotonic(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("slow_rounds", "is_written"), [(0, True), (1, True), (2, False)], ids=["fresh", "once more", "too slow for both"]
)
def test_a_confirmation_is_as_old_as_its_first_answer(
    written: list[int], monkeypatch: pytest.MonkeyPatch, slow_rounds: int, is_written: bool
) -> None:
    """The second question takes long. By its answer, what the first one said is old: it is asked again, and where that
    is as slow, nothing is written."""
    clock, first = HeldClock(), delete(1)
    monkeypatch.setattr(parallel_confirmations, "time", clock)

    def answer(vmid: int) -> Lookup[GuestConfig]:
        if vmid == 2 and cluster.asked.count(2) <= slow_rounds:
            clock.now += 16
        return gone(vmid)

    cluster = Cluster(answer)
    change = replace(first, confirm=(*first.confirm, *delete(2).confirm))
    with ParallelConfirmations(confirmer({"main": cluster}), [change], math.inf) as confirming:
        outcome = apply_changes(NO_DATABASE, 1, 1, [change], confirming)
    assert (written == [1]) is is_written
    assert cluster.asked == [1, 2] * min(slow_rounds + 1, 2)
    assert bool(outcome.not_written) is not is_written


def test_what_a_look_up_raises_is_that_change_s_failure(written: list[int]) -> None:
    def answer(vmid: int) -> Lookup[GuestConfig]:
        if vmid == 2:
            raise RuntimeError("a bug")
        return gone(vmid)

    changes = [delete(n) for n in range(1, 4)]
    with ParallelConfirmations(confirmer({"main": Cluster(answer)}), changes, math.inf) as confirming:
        outcome = apply_changes(NO_DATABASE, 1, 1, changes, confirming)
    assert written == [1, 3]
    assert [failure.subject for failure in outcome.failures] == ["vps:2"]


def test_changes_that_the_writer_leaves_out_stop_nobody() -> None:
    cluster, changes = Cluster(gone), [delete(n) for n in range(1, 31)]
    with ParallelConfirmations(confirmer({"main": cluster}), changes, math.inf) as confirming:
        for change in changes[::7]:
            assert confirming.hindrance(change)[0] is None


def test_after_its_end_nothing_more_is_asked() -> None:
    cluster, changes = Cluster(gone), [delete(1), delete(2)]
    with ParallelConfirmations(confirmer({"main": cluster}), changes, math.inf) as confirming:
        pass
    assert "gave no answer" in (confirming.hindrance(changes[0])[0] or "")
    assert cluster.asked == []


def test_time_over_while_waiting_is_said(never: threading.Event) -> None:
    def silent(vmid: int) -> Lookup[GuestConfig]:
        never.wait()
        return gone(vmid)

    changes = [delete(1)]
    with (
        ParallelConfirmations(confirmer({"main": Cluster(silent)}), changes, 0.0) as confirming,
        pytest.raises(OutOfTimeError),
    ):
        confirming.hindrance(changes[0])


def test_what_was_asked_about_in_vain_comes_last() -> None:
    changes = [delete(n) for n in range(1, 6)]
    found = unconfirmed_last(changes, frozenset({"vps:1", "vps:3"}))
    assert [change.subject for change in found] == ["vps:2", "vps:4", "vps:5", "vps:1", "vps:3"]
