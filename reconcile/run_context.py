"""A run while it is under way: its turn, its lease, its time, the sources that it may ask, and its writes."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, TypeVar

import structlog
from sqlalchemy import Connection, Engine
from structlog.contextvars import bound_contextvars

from domain.changes import Change, ChangePlan, Kind, plan_hash
from domain.failures import Interrupts
from domain.repair_policy.budget import Budget, Handling
from domain.source_protocols import GuestSource, OrderFeed
from panel.observations.proof import Proof
from panel.observations.snapshots import make_stages
from panel.operators import gate_context
from panel.operators.approvals.stored_words import Standings, load_standings
from panel.operators.pauses import ALL, CLUSTER, FEED, PauseView, current_pauses
from panel.records.labels import VpsLabel
from panel.runs import run_log, source_states
from panel.runs.lease import LEASE, FencedError, Lease, hold_lease, hold_turn, lease_holder, take_lease
from reconcile.apply import Outcome, apply_changes, unconfirmed_last
from reconcile.confirming import ChangeCheck, Confirmer
from reconcile.decision.cases import Policy
from reconcile.decision.gate import GateContext, Gated, Held, gate
from reconcile.decision.subjects import Paused, Subject, parse_subject
from reconcile.observation.observe import Observed
from reconcile.parallel_confirmations import ParallelConfirmations
from reconcile.run_phases import Phases, Progress, no_progress
from tracing.spans import Span, span
from tracing.traceparent import trace_id_of

log = structlog.get_logger(__name__)

RUN_FOR_S = 540.0
"""How long a run may read and write. Reporting comes after it, so the task's own limit is later."""
APPLY_FOR_S = 180.0
"""How long a full run writes at most, because the fast lane waits for it. The next run continues with what is left."""
APPLY_AT_LEAST_S = 30.0
"""How long a run may write even if reading took all of its time. Without this, slow sources would stop all repairs."""
POWER_FOR_S = 20.0
"""How long a run writes power states and nodes. These need no confirmation."""


@dataclass(frozen=True, slots=True)
class Reconciler:
    """Everything a run needs. ``first_run_asks``: hold all deletes, and the creates of an empty panel, until an
    operator has seen a plan (off in the demo). ``second_above``: a held set that takes a VPS from more than so many
    needs two operators; None: no set does. ``interrupts``: exceptions that end the run and say nothing about
    the object it was at (a task's time limit). ``feed_age_max``: how old the feed's content may be. ``mend_within``:
    the service level; a difference that lasts longer is counted as late.
    ``progress``: shows a person at a terminal what the run does."""

    engine: Engine
    feed: OrderFeed | None
    sources: tuple[GuestSource, ...]
    policy: Policy
    budget: Budget
    shared_ids: bool
    sweep_interval: timedelta
    users_interval: timedelta
    first_run_asks: bool = True
    handling: Mapping[Kind, Handling] = field(default_factory=dict)
    interrupts: Interrupts = ()
    feed_age_max: timedelta = timedelta(minutes=5)
    second_above: int | None = None
    mend_within: timedelta = timedelta(minutes=15)
    progress: Progress = no_progress

    @property
    def clusters(self) -> frozenset[str]:
        return frozenset(source.cluster for source in self.sources)

    @property
    def proof(self) -> Proof:
        """What proves that something is gone."""
        return Proof(self.policy.proof_n, self.policy.proof_t)


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a run did. ``state``: done, busy (another run is under way), paused, or fenced (another run took over,
    since this one lost its connection). ``summary`` goes to the task list: counts only, no personal data.
    ``labels``: in a dry run, those of its subjects, because nothing that it read can be looked up later. ``under``: the
    same plan's gate under another repair policy, if one was tried."""

    run_id: int | None
    state: str
    summary: str
    plan: ChangePlan | None = None
    gated: Gated | None = None
    outcome: Outcome | None = None
    problems: tuple[str, ...] = ()
    counts: dict[str, Any] = field(default_factory=dict)
    labels: Mapping[str, VpsLabel] = field(default_factory=dict)
    under: Gated | None = None

    @property
    def subjects(self) -> frozenset[str]:
        """What the plan and its gate are about: ``vps:12``, ``order:7041``."""
        if self.plan is None or self.gated is None:
            return frozenset()
        changes = {change.subject for change in self.plan.changes}
        orders = {f"order:{f.order_id}" for f in self.plan.findings if f.order_id is not None}
        return frozenset(changes | orders | {f.subject for f in self.plan.findings})


@dataclass(frozen=True, slots=True)
class Turn:
    """The only run of its kind, before it has the lease. ``connection``: the run's own, good for temporary tables;
    ``began``: on the monotonic clock."""

    reconciler: Reconciler
    connection: Connection
    pauses: Mapping[str, PauseView]
    phases: Phases
    began: float = field(default_factory=time.monotonic)

    @property
    def paused(self) -> Paused:
        clusters = frozenset(t.removeprefix(CLUSTER) for t in self.pauses if t.startswith(CLUSTER))
        subjects = frozenset(subject for t in self.pauses if (subject := parse_subject(t)) is not None)
        return Paused(clusters, FEED in self.pauses, subjects)

    @property
    def sources(self) -> list[GuestSource]:
        """The clusters that may be asked."""
        return [s for s in self.reconciler.sources if s.cluster not in self.paused.clusters]

    @property
    def feed(self) -> OrderFeed | None:
        """The main site, if it may be asked."""
        return None if self.paused.feed else self.reconciler.feed


A = TypeVar("A")


def run_in_turn(
    reconciler: Reconciler,
    kind: str,
    trigger: str,
    ahead: Callable[[Turn], A],
    steps: Callable[[Run, A], RunResult],
) -> RunResult:
    """Take the turn, read ``ahead`` what takes long, take the lease, do the ``steps``, and log how they ended. If the
    turn or the lease cannot be had, the result says why."""
    with span(f"run {kind}") as noted, _log_lines_of(noted):
        result = _in_turn(reconciler, kind, trigger, ahead, steps)
        noted.note({"panel.run_id": result.run_id, "panel.result": result.state})
        return result


def _log_lines_of(noted: Span) -> AbstractContextManager[None]:
    """The log lines of a run have its trace's id, also those of a run that no task began."""
    trace_id = trace_id_of(noted.traceparent)
    return bound_contextvars(trace_id=trace_id) if trace_id else nullcontext()


def _in_turn(
    reconciler: Reconciler,
    kind: str,
    trigger: str,
    ahead: Callable[[Turn], A],
    steps: Callable[[Run, A], RunResult],
) -> RunResult:
    with take_turn(reconciler, "fast" if kind == "fast" else "full") as mine:
        if isinstance(mine, RunResult):
            return mine
        reconciler.progress("reading the main site and new guests", 0, None)
        make_stages(mine.connection)
        read = ahead(mine)
        mine.phases.end("read_ahead")
        lease = take_lease(mine.connection, _holder())
        if lease is None:
            return _busy(reconciler, LEASE)
        pauses = current_pauses(mine.connection)  # reading takes a while, and a pause counts from when it was made
        mine.connection.commit()
        if ALL in pauses:
            return RunResult(None, "paused", str(pauses[ALL]))
        run_id, _ = run_log.begin_run(reconciler.engine, kind, trigger, lease.epoch)
        mine.phases.end("lease")
        run = Run(reconciler, mine.connection, pauses, mine.phases, mine.began, lease=lease, id=run_id)
        with bound_contextvars(run_id=run_id, epoch=lease.epoch):
            return _to_its_end(run, kind, trigger, lambda: steps(run, read))


@contextmanager
def take_turn(reconciler: Reconciler, kind: str) -> Iterator[Turn | RunResult]:
    """Be the only run of that kind ("full", "fast", or "look") for the length of the block. Yields a result instead if
    another one is under way, or everything is paused."""
    began = time.monotonic()
    with reconciler.engine.begin() as connection:
        pauses = current_pauses(connection)
    if ALL in pauses:
        yield RunResult(None, "paused", str(pauses[ALL]))
        return
    with hold_turn(reconciler.engine, kind, _holder()) as own:
        if own is None:
            yield _busy(reconciler, f"turn:{kind}")
        else:
            phases = Phases(progress=reconciler.progress)
            try:
                yield Turn(reconciler, own, pauses, phases, began)
            finally:
                phases.close()


def _holder() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"


def _busy(reconciler: Reconciler, name: str) -> RunResult:
    with reconciler.engine.connect() as connection:
        return RunResult(None, "busy", f"another run is under way: {lease_holder(connection, name)}")


def _to_its_end(run: Run, kind: str, trigger: str, steps: Callable[[], RunResult]) -> RunResult:
    """Do the steps and close the run in the run log. A fenced run is left open: the run that took over marks it."""
    engine = run.reconciler.engine
    try:
        result = steps()
    except FencedError as error:
        log.warning("run_fenced", kind=kind, error=str(error))
        return RunResult(run.id, "fenced", "another run took over")
    except BaseException as error:
        run_log.end_run(engine, run.id, "failed", {}, [], error=type(error).__name__)
        if isinstance(error, Exception):
            log.exception("run_failed", kind=kind)
        else:  # it was ended from outside (a stop, a time limit), so a traceback would say nothing
            log.warning("run_interrupted", kind=kind, by=type(error).__name__)
        raise
    hash_ = result.plan.hash if result.plan is not None else None
    counts = result.counts | {"phases": run.phases.seconds()}
    run_log.end_run(engine, run.id, result.state, counts, result.problems, hash_)
    log.info("run_done", kind=kind, trigger=trigger, summary=result.summary, problems=len(result.problems))
    return result


@dataclass(frozen=True, slots=True)
class Run(Turn):
    """A run that has the lease, and its number in the run log."""

    lease: Lease = field(kw_only=True)
    id: int = field(kw_only=True)

    @property
    def proof(self) -> Proof:
        """What proves that something is gone."""
        return self.reconciler.proof

    def nothing_seen(self) -> Observed:
        """What the run knows before its first read. A paused source is a problem, so that no finding is resolved."""
        sources = {target: pause for target, pause in self.pauses.items() if parse_subject(target) is None}
        problems = [f"{target}: {pause}" for target, pause in sources.items()]
        return Observed(problems=problems, gap=self.reconciler.policy.read_gap)

    def applied(self, gated: Gated, confirmer: Confirmer, unconfirmed: Collection[str]) -> Outcome:
        """Write what the gate let through, as far as the run's time goes. Raises FencedError when another run has the
        lease. ``unconfirmed``: subjects that earlier runs could not confirm."""
        changes, now = unconfirmed_last(gated.allowed, unconfirmed), time.monotonic()
        until = max(now + APPLY_AT_LEAST_S, min(now + APPLY_FOR_S, self.began + RUN_FOR_S))
        with ParallelConfirmations(confirmer, changes, until) as confirming:
            return self._written(gated, changes, confirming, until)

    def power_applied(self, gated: Gated) -> Outcome:
        """Write power states and nodes that the gate let through. They need no confirmation, so no source is asked.
        Raises FencedError as above."""
        without_sources = Confirmer(self.reconciler.engine, None, {}, frozenset(), self.reconciler.clusters)
        return self._written(gated, gated.allowed, without_sources, time.monotonic() + POWER_FOR_S)

    def _written(self, gated: Gated, changes: tuple[Change, ...], confirming: ChangeCheck, until: float) -> Outcome:
        reconciler, epoch = self.reconciler, self.lease.epoch
        watched = _Watched(confirming, gated, reconciler.progress, len(changes))
        outcome = apply_changes(reconciler.engine, self.id, epoch, changes, watched, reconciler.interrupts, until)
        if outcome.fenced:
            raise FencedError(f"run {self.id} was fenced after {len(outcome.written)} repairs")
        return outcome

    @contextmanager
    def reporting(self) -> Iterator[Connection]:
        """A transaction during which no other run can take the lease. Raises FencedError if one has it already."""
        with self.reconciler.engine.begin() as connection:
            hold_lease(connection, self.lease.epoch)
            yield connection

    def gated(
        self, plan: ChangePlan, *others: Mapping[Kind, Handling], only: Subject | None = None
    ) -> tuple[Gated, ...]:
        """Measure a plan against the limits: as the classes are handled, and once more for each other handling.
        ``only``: allow no more than what concerns this subject."""
        items = (plan_hash((change,)) for change in plan.changes)
        said = load_standings(self.connection, self.reconciler.second_above, items)
        context, budget = _gate_context(self.reconciler, self.connection, said), self.reconciler.budget
        handlings = (self.reconciler.handling, *others)
        measured = tuple(gate(plan, context, budget, handling) for handling in handlings)
        measured = tuple(
            replace(one, held=tuple(self._told_of_second(held, said) for held in one.held)) for one in measured
        )
        self.connection.commit()
        if only is None:
            return measured
        return tuple(replace(one, allowed=tuple(c for c in one.allowed if only.covers(c))) for one in measured)

    def _told_of_second(self, held: Held, said: Standings) -> Held:
        items = [{"kind": change.kind.value, "hash": plan_hash((change,))} for change in held.changes]
        return replace(held, needs_second=said.needs_second(items, self.reconciler.second_above))


@dataclass(slots=True)
class _Watched:
    """Checks changes, and before each one shows a person at a terminal how far the writing is. What operators approved
    has their names in its evidence."""

    confirming: ChangeCheck
    gated: Gated
    progress: Progress
    total: int
    done: int = 0

    def hindrance(self, change: Change) -> tuple[str | None, dict[str, Any]]:
        self.progress("applying", self.done, self.total)
        self.done = min(self.done + 1, self.total)  # some are asked about twice: together, then one by one
        why, confirmed = self.confirming.hindrance(change)
        approvers = self.gated.approvers_of(change)
        return why, confirmed | ({"approved_by": approvers} if approvers else {})


def _gate_context(reconciler: Reconciler, connection: Connection, said: Standings) -> GateContext:
    measures = gate_context.load_gate_context(connection, said, reconciler.second_above)
    holds: dict[str, str] = {}
    if reconciler.first_run_asks:
        state = source_states.source_state(connection, "panel")
        if state.get("acknowledged_at") is None:
            holds["deletes"] = (
                "no plan was applied yet; look at the plan (panel-sync plan), then run panel-sync reconcile --apply, "
                "or approve it"
            )
            if measures["live"] == 0 and measures["filling"] is None:
                holds["creates"] = (
                    "the panel is empty, and its first filling waits for an operator; look at the plan (panel-sync "
                    "plan), then run panel-sync reconcile --apply, or approve it"
                )
    return GateContext(holds=holds, **measures)
