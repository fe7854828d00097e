"""A run from end to end: take the lease, observe, match and decide, gate, apply, report. The shell of the core."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import structlog
from sqlalchemy import Connection, Engine
from structlog.contextvars import bound_contextvars

from panel import quarantine, run_log, suspects, views
from panel.holds import keep_fast_holds, keep_holds
from panel.lease import FencedError, Lease, hold_lease, lease_holder, reconcile_lease
from panel.pauses import ALL, CLUSTER, FEED, Pause, current_pauses
from panel.repairs import note_confirmations
from reconcile import observe
from reconcile.apply import Confirmer, Outcome, apply_changes
from reconcile.cases import Policy, World
from reconcile.changes import Change, Kind, Plan
from reconcile.gate import Budget, Gated, Handling, Standing, gate
from reconcile.isolation import Failure, Interrupts, Stage, isolated_plan, isolated_power
from reconcile.observe import Observed
from reconcile.ports import GuestSource, OrderFeed
from reconcile.report import held_findings, said_in_short, unconfirmed_findings
from reconcile.subjects import Paused, Subject, parse_subject

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Reconciler:
    """Everything a run needs. ``first_run_asks``: hold the first deletes, and bulk creates of a new panel, until
    an operator has seen a plan (off in the demo). ``interrupts``: exceptions that end the run and say nothing about
    the object it was at (a task's time limit)."""

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

    @property
    def clusters(self) -> frozenset[str]:
        return frozenset(source.cluster for source in self.sources)


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a run did. ``state``: done, busy (another run is under way), paused, or fenced (another run took over,
    since this one lost its connection). ``summary`` goes to the task list: counts only, no personal data."""

    run_id: int | None
    state: str
    summary: str
    plan: Plan | None = None
    gated: Gated | None = None
    outcome: Outcome | None = None
    problems: tuple[str, ...] = ()
    counts: dict[str, Any] = field(default_factory=dict)


def run_full(reconciler: Reconciler, *, trigger: str, dry: bool = False, only: Subject | None = None) -> RunResult:
    """Compare everything and repair what may be repaired; ``dry`` plans only (it still observes).

    With ``only``, what concerns that subject is applied and the rest left to the next run. The limits are those of
    the whole plan all the same: one by one must not be a way around them.
    """
    return _leased(reconciler, "plan" if dry else "full", trigger, lambda run: _full(run, dry=dry, only=only))


def run_fast(reconciler: Reconciler, *, trigger: str) -> RunResult:
    """One bulk read per cluster; power states and nodes only."""
    return _leased(reconciler, "fast", trigger, _fast)


@dataclass(frozen=True, slots=True)
class _Run:
    """A run under way: its lease, and what is paused."""

    reconciler: Reconciler
    lease: Lease
    id: int
    pauses: Mapping[str, Pause]

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

    def applied(self, gated: Gated, confirmer: Confirmer) -> Outcome:
        """Write what the gate let through. Raises FencedError when another run has the lease."""
        reconciler, epoch = self.reconciler, self.lease.epoch
        outcome = apply_changes(
            reconciler.engine, self.id, epoch, gated.allowed, confirmer, interrupts=reconciler.interrupts
        )
        if outcome.fenced:
            raise FencedError(f"run {self.id} was fenced after {len(outcome.written)} repairs")
        return outcome

    @contextmanager
    def reporting(self) -> Iterator[Connection]:
        """A transaction in which nobody else has the lease. Raises FencedError."""
        with self.reconciler.engine.begin() as connection:
            hold_lease(connection, self.lease.epoch)
            yield connection

    def gated(self, plan: Plan) -> Gated:
        """What of the plan may be applied."""
        standing = _standing(self.reconciler, self.lease.connection)
        return gate(plan, standing, self.reconciler.budget, self.reconciler.handling)


def _leased(reconciler: Reconciler, kind: str, trigger: str, work: Callable[[_Run], RunResult]) -> RunResult:
    with reconciler.engine.begin() as connection:
        pauses = current_pauses(connection)
    if ALL in pauses:
        return RunResult(None, "paused", str(pauses[ALL]))
    holder = f"{socket.gethostname()}:{os.getpid()}"
    with reconcile_lease(reconciler.engine, holder) as lease:
        if lease is None:
            with reconciler.engine.connect() as connection:
                return RunResult(None, "busy", f"another run is under way: {lease_holder(connection)}")
        run_id, _ = run_log.begin_run(reconciler.engine, kind, trigger, lease.epoch)
        with bound_contextvars(run_id=run_id, epoch=lease.epoch):
            try:
                result = work(_Run(reconciler, lease, run_id, pauses))
            except FencedError as error:
                log.warning("run_fenced", kind=kind, error=str(error))
                return RunResult(run_id, "fenced", "another run took over")
            except BaseException as error:
                run_log.end_run(reconciler.engine, run_id, "failed", {}, [], error=type(error).__name__)
                log.exception("run_failed", kind=kind)
                raise
            hash_ = result.plan.hash if result.plan is not None else None
            run_log.end_run(reconciler.engine, run_id, result.state, result.counts, result.problems, hash_)
            log.info("run_done", kind=kind, trigger=trigger, summary=result.summary, problems=len(result.problems))
            return result


def _full(run: _Run, *, dry: bool, only: Subject | None) -> RunResult:
    reconciler, connection, seen = run.reconciler, run.lease.connection, _nothing_seen(run)
    views.make_stages(connection)
    observe.read_clusters(connection, run.id, run.sources, seen)
    if run.feed is not None:
        observe.read_orders(connection, run.id, run.feed, seen, reconciler.sweep_interval)
    fingerprints = observe.read_fingerprints(connection, run.sources, seen)
    world, counts = load_world(reconciler, connection, seen)
    held_back = quarantine.held_back(connection)
    planned = isolated_plan(world, reconciler.policy, held_back, seen.broken, reconciler.interrupts)
    plan = run.paused.spare(planned.plan)
    gated = run.gated(plan)
    connection.commit()
    counts |= {"fingerprints_read": fingerprints, "planned": len(plan.changes), "held": len(gated.held)}
    counts |= {"rejected": len(gated.rejected), "ignored": len(gated.ignored), "quarantined": len(held_back)}
    if only is not None:
        gated = replace(gated, allowed=tuple(c for c in gated.allowed if only.covers(c)))
    if dry:
        summary = f"{len(plan.changes)} planned"
        return RunResult(run.id, "done", summary, plan, gated, None, tuple(seen.problems), counts)
    confirmer = Confirmer(
        reconciler.engine,
        run.feed,
        {s.cluster: s for s in run.sources},
        frozenset(seen.complete),
        reconciler.clusters,
    )
    outcome = run.applied(gated, confirmer)
    findings = [*plan.findings, *held_findings(gated), *unconfirmed_findings(outcome)]
    everything = not seen.problems and not counts["cut"]
    failures = [*planned.failures, *outcome.failures]
    with run.reporting() as report:
        counts["findings"] = run_log.report_findings(report, run.id, findings, everything, planned.left_out)
        keep_holds(report, run.id, gated.held)
        note_confirmations(report, seen.began)
        quarantine.note_failures(report, run.id, failures)
        quarantine.note_recovered(report, _recovered(planned.plan, outcome, failures, held_back, everything))
    counts |= {"applied": dict(outcome.applied), "failed": len(failures)}
    summary = said_in_short(outcome, gated, seen.problems, failures)
    return RunResult(run.id, "done", summary, plan, gated, outcome, tuple(seen.problems), counts)


def _fast(run: _Run) -> RunResult:
    reconciler, connection, seen = run.reconciler, run.lease.connection, _nothing_seen(run)
    views.make_stages(connection)
    observe.read_clusters(connection, run.id, run.sources, seen)
    pairs = suspects.load_power_drift(connection, seen.trusted, seen.previous, seen.began, seen.broken)
    world = World(observe.database_now(connection), clusters=reconciler.clusters, trusted=frozenset(seen.trusted))
    held_back = quarantine.held_back(connection)
    planned = isolated_power(pairs, world, reconciler.policy, held_back, seen.broken, reconciler.interrupts)
    plan = run.paused.spare(planned.plan)
    gated = run.gated(plan)
    connection.commit()
    outcome = run.applied(gated, Confirmer(reconciler.engine, None, {}, frozenset(), reconciler.clusters))
    failures = [*planned.failures, *outcome.failures]
    with run.reporting() as report:
        run_log.report_findings(report, run.id, held_findings(gated), settled_classes=False)
        keep_fast_holds(report, run.id, gated.held, seen.trusted)
        note_confirmations(report, seen.began)
        quarantine.note_failures(report, run.id, failures)
    counts = seen.counts | {"drift": len(pairs), "applied": dict(outcome.applied), "held": len(gated.held)}
    counts |= {"failed": len(failures)}
    summary = said_in_short(outcome, gated, seen.problems, failures)
    return RunResult(run.id, "done", summary, plan, gated, outcome, tuple(seen.problems), counts)


def _recovered(
    plan: Plan, outcome: Outcome, failures: Sequence[Failure], held_back: Mapping[str, Stage], everything: bool
) -> Callable[[str], bool]:
    """Whether a run got through with a subject that failed before: all that was to be changed of it was written, and
    if nothing was, the run at least saw everything."""
    written = {id(change) for change in outcome.written}
    done = {subject for change in outcome.written for subject in change.subjects}
    undone = {subject for change in plan.changes if id(change) not in written for subject in change.subjects}
    not_yet = undone | held_back.keys() | {failure.subject for failure in failures}
    return lambda subject: subject not in not_yet and (everything or subject in done)


def _nothing_seen(run: _Run) -> Observed:
    """Before the first read; a paused source counts as not seen, so that no finding is taken for settled."""
    sources = {target: pause for target, pause in run.pauses.items() if parse_subject(target) is None}
    return Observed(problems=[f"{target}: {pause}" for target, pause in sources.items()])


def load_world(
    reconciler: Reconciler, connection: Connection, seen: Observed, *, everything: bool = False
) -> tuple[World, dict[str, Any]]:
    """Select the suspects of what was observed and load them as values."""
    feed = reconciler.feed
    names = feed.names_are_authoritative if feed is not None else False
    counts: dict[str, Any] = dict(
        suspects.prepare(connection, shared_ids=reconciler.shared_ids, names=names, everything=everything)
    )
    order_absences, guest_absences = suspects.load_absences(connection)
    world = World(
        now=observe.database_now(connection),
        orders=suspects.load_orders(connection, seen.broken),
        guests=suspects.load_guests(connection, seen.previous, seen.began, seen.broken),
        records=suspects.load_records(connection, seen.broken),
        order_absences=order_absences,
        guest_absences=guest_absences,
        sightings=suspects.load_sightings(connection),
        clusters=reconciler.clusters,
        trusted=frozenset(seen.trusted),
        orders_at=seen.orders_at,
        previous_orders_at=seen.previous_orders_at,
        has_feed=feed is not None,
        names_are_authoritative=names,
        feed=feed.name if feed is not None else "none",
    )
    return world, seen.counts | counts


def _standing(reconciler: Reconciler, connection: Connection) -> Standing:
    measures = run_log.standing(connection)
    holds: dict[str, str] = {}
    if reconciler.first_run_asks:
        state = run_log.source_state(connection, "panel")
        if state.get("acknowledged_at") is None:
            holds["deletes"] = (
                "no plan was acknowledged yet (panel-sync plan, then panel-sync reconcile --apply; or approve the set)"
            )
            if measures["live"] == 0:
                holds["creates"] = "the panel is empty while the sources are not: acknowledge the plan first"
    return Standing(holds=holds, **measures)


def acknowledge_first_plan(engine: Engine) -> None:
    """An operator has seen a plan and applies it: deletes and bulk creates need no further first-run word."""
    with engine.begin() as connection:
        run_log.acknowledge_first_plan(connection)


__all__ = ["Change", "Reconciler", "RunResult", "acknowledge_first_plan", "load_world", "run_fast", "run_full"]
