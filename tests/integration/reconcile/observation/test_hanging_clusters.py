"""A cluster that does not answer delays the others for a bounded time, and then not at all."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest
from sqlalchemy import Engine, text

from domain.guests import PowerState
from domain.source_protocols import ClusterReading
from panel.runs import source_states
from reconcile import run
from reconcile.observation import cluster_lists, parallel_reads
from reconcile.observation.parallel_reads import Answered, ReadDeadline
from reconcile.run import run_fast, run_full
from tests.integration.reconcile.observation.test_nodes_away import column, reconciler
from tests.support.stand_ins.listed_cluster import ListedCluster, make_record
from tests.support.waiting import PATIENCE_S


@dataclass(slots=True)
class Hanging:
    """Two clusters, one of which answers only when ``let`` is set."""

    well: ListedCluster = field(default_factory=lambda: ListedCluster("well"))
    let: threading.Event = field(default_factory=threading.Event)

    @property
    def clusters(self) -> tuple[ListedCluster, ListedCluster]:
        return ListedCluster("hangs", holds_back=self.let), self.well


@pytest.fixture
def hanging(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hanging]:
    """What hangs is late as soon as the other cluster has answered: that one has time, however busy the machine is."""
    made = Hanging()

    class Impatient(parallel_reads.ParallelReads):
        """Waits for one cluster only, as long as the other one hangs."""

        def __iter__(self) -> Iterator[Answered | None]:
            given = False
            for answer in super().__iter__():
                given = given or answer is not None
                if given and not made.let.is_set():
                    self.left_s = 0.0
                yield answer

    fast, full = ReadDeadline("fast", PATIENCE_S), ReadDeadline("full", PATIENCE_S)
    for module in (run, cluster_lists):
        monkeypatch.setattr(module, "FAST", fast)
        monkeypatch.setattr(module, "FULL", full)
    monkeypatch.setattr(parallel_reads, "ParallelReads", Impatient)
    yield made
    made.let.set()


def test_one_that_hangs_is_given_up_at_the_deadline() -> None:
    let, began = threading.Event(), time.monotonic()
    reads = parallel_reads.ParallelReads([ListedCluster("hangs", holds_back=let)], 0.2)
    (answer,) = [answer for answer in reads if answer is not None]
    assert time.monotonic() - began >= 0.2
    assert (answer.took_s, answer.reading.problems) == (None, ("no answer within 0.2 s",))
    let.set()


def test_what_the_caller_does_with_an_answer_makes_no_cluster_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fifty clusters take turns, and a minute's work follows each answer."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(parallel_reads, "time", SimpleNamespace(monotonic=lambda: clock.now))
    clusters, answered = [ListedCluster(f"c{n}") for n in range(50)], list[str]()
    for answer in parallel_reads.ParallelReads(clusters, 10.0):
        if answer is not None:
            assert answer.reading.trusted, answer.reading.problems
            answered.append(answer.source.cluster)
            clock.now += 60.0
    assert sorted(answered) == sorted(cluster.cluster for cluster in clusters)


def test_the_others_are_repaired_while_one_hangs(engine: Engine, hanging: Hanging) -> None:
    hanging.well.add(100, "pve1")
    make_record(engine, 1, 100, "pve1", "well")
    for _ in range(2):
        result = run_full(reconciler(engine, *hanging.clusters), trigger="test")
        assert result.state == "done"
        assert any(problem.startswith("hangs: ") for problem in result.problems), result.problems
    assert column(engine, "link_state", 1) == "verified"
    hanging.well.change(100, status="stopped", power=PowerState.STOPPED)
    for _ in range(2):
        assert run_fast(reconciler(engine, *hanging.clusters), trigger="test").state == "done"
    assert column(engine, "power_state", 1) == "stopped"


def test_a_late_cluster_is_left_alone_for_a_while_and_asked_again(
    engine: Engine, hanging: Hanging, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run_fast(reconciler(engine, *hanging.clusters), trigger="test")
    assert first.problems == (f"hangs: no answer within {PATIENCE_S:g} s",)
    hanging.let.set()
    second = run_fast(reconciler(engine, *hanging.clusters), trigger="test")
    assert "not asked before" in " ".join(second.problems)
    assert run_full(reconciler(engine, *hanging.clusters), trigger="test").problems == (), "each lane has its own"
    with engine.begin() as connection:
        assert source_states.late_until(connection, "proxmox:hangs", "fast") is None, "it answered soon enough for both"
    assert run_fast(reconciler(engine, *hanging.clusters), trigger="test").problems == ()


def test_the_pause_doubles_and_has_an_end(engine: Engine) -> None:
    pauses = list[float]()
    with engine.begin() as connection:
        for _ in range(7):
            source_states.note_late(connection, "proxmox:hangs", "fast")
            now = connection.scalar(text("SELECT clock_timestamp()"))
            until = source_states.late_until(connection, "proxmox:hangs", "fast")
            assert until is not None
            assert now is not None
            pauses.append((until - now).total_seconds())
        assert [round(pause, -1) for pause in pauses] == [20, 40, 80, 160, 300, 300, 300]
        assert source_states.late_until(connection, "proxmox:hangs", "full") is None
        source_states.note_in_time(connection, "proxmox:hangs", ["full"])
        assert source_states.late_until(connection, "proxmox:hangs", "fast") is not None
        source_states.note_in_time(connection, "proxmox:hangs", ["fast", "full"])
        assert source_states.late_until(connection, "proxmox:hangs", "fast") is None


def test_a_cluster_whose_reading_breaks_ends_the_lanes_of_no_other(engine: Engine) -> None:
    """A fault that nobody foresaw is that cluster's: nothing follows from it, and its problem says so."""

    class Broken(ListedCluster):
        def read(self) -> ClusterReading:
            raise OverflowError("secret of an answer")

    well, broken = ListedCluster("well"), Broken("broken")
    well.add(100, "pve1")
    make_record(engine, 1, 100, "pve1", "well")
    result = run_full(reconciler(engine, broken, well), trigger="test")
    assert (result.state, column(engine, "link_state", 1)) == ("done", "verified")
    assert result.problems == (
        "broken: its answer could not be read (OverflowError): the worker's log says where; please report it",
    )
    well.change(100, status="stopped", power=PowerState.STOPPED)
    for _ in range(2):
        assert run_fast(reconciler(engine, broken, well), trigger="test").state == "done"
    assert column(engine, "power_state", 1) == "stopped"


def test_a_slow_list_hides_no_machine_that_was_started_meanwhile(engine: Engine) -> None:
    """The uptime is of the end of the answer: counted from the question, the new machine would seem to have run already
    when the configuration of the one before it was read."""

    class Slow(ListedCluster):
        def read(self) -> ClusterReading:
            if 100 in self.guests and self.asked:
                with engine.connect() as connection:  # a process that was started 0.1 s after that read
                    uptime = connection.scalar(text(
                        "SELECT extract(epoch FROM clock_timestamp() - fingerprint_read_at) - 0.1 FROM guests,"
                        " pg_sleep(0.5)"
                    ))  # fmt: skip
                self.change(100, uptime_s=float(uptime))
            return ListedCluster.read(self)

    cluster = Slow()
    cluster.add(100, "pve1")
    assert run_full(reconciler(engine, cluster), trigger="test").state == "done"
    assert cluster.asked == [("pve1", 100)]
    assert run_fast(reconciler(engine, cluster), trigger="test").state == "done"
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT doubt FROM guests")) == "started"
