"""A run from end to end: take the lease, observe, match and decide, gate, apply, report. The shell of the core."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import structlog
from sqlalchemy import Connection, Engine
from structlog.contextvars import bound_contextvars

from panel import run_log, suspects, views
from panel.holds import keep_holds
from panel.lease import Lease, reconcile_lease
from panel.pauses import ALL, CLUSTER, FEED, Pause, current_pauses
from panel.repairs import note_confirmations
from reconcile import observe
from reconcile.apply import Confirmer, Outcome, apply_changes
from reconcile.cases import Policy, World
from reconcile.changes import Change, Finding, Kind, Plan
from reconcile.decide import plan as make_plan
from reconcile.fast import power_plan
from reconcile.gate import Budget, Gated, Handling, Standing, gate
from reconcile.observe import Observed
from reconcile.ports import GuestSource, OrderFeed
from reconcile.subjects import Paused, Subject

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Reconciler:
    """Everything a run needs. ``first_run_asks``: hold the first deletes, and bulk creates of a new panel, until
    an operator has seen a plan (off in the demo)."""

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

    @property
    def clusters(self) -> frozenset[str]:
        return frozenset(source.cluster for source in self.sources)


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a run did. ``state``: done, busy (another run is under way) or paused. ``summary`` goes to the task list:
    counts only, no personal data."""

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
        return Paused(clusters, FEED in self.pauses)

    @property
    def sources(self) -> list[GuestSource]:
        """The clusters that may be asked."""
        return [s for s in self.reconciler.sources if s.cluster not in self.paused.clusters]

    @property
    def feed(self) -> OrderFeed | None:
        """The main site, if it may be asked."""
        return None if self.paused.feed else self.reconciler.feed

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
            return RunResult(None, "busy", "another run is under way")
        run_id, _ = run_log.begin_run(reconciler.engine, kind, trigger, lease.epoch)
        with bound_contextvars(run_id=run_id, epoch=lease.epoch):
            try:
                result = work(_Run(reconciler, lease, run_id, pauses))
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
    plan = run.paused.spare(make_plan(world, reconciler.policy))
    gated = run.gated(plan)
    connection.commit()
    counts |= {"fingerprints_read": fingerprints, "planned": len(plan.changes), "held": len(gated.held)}
    counts |= {"rejected": len(gated.rejected), "ignored": len(gated.ignored)}
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
    outcome = apply_changes(reconciler.engine, run.id, run.lease.epoch, gated.allowed, confirmer)
    findings = [*plan.findings, *_held_findings(gated), *_unconfirmed_findings(outcome)]
    everything = not seen.problems and counts["records"] < suspects.LIMIT
    with reconciler.engine.begin() as report:
        counts["findings"] = run_log.report_findings(report, run.id, findings, everything)
        keep_holds(report, run.id, gated.held)
        note_confirmations(report, seen.began)
    counts["applied"] = dict(outcome.applied)
    return RunResult(run.id, "done", _summary(outcome, gated, seen), plan, gated, outcome, tuple(seen.problems), counts)


def _fast(run: _Run) -> RunResult:
    reconciler, connection, seen = run.reconciler, run.lease.connection, _nothing_seen(run)
    views.make_stages(connection)
    observe.read_clusters(connection, run.id, run.sources, seen)
    pairs = suspects.load_power_drift(connection, seen.trusted, seen.previous, seen.began)
    world = World(observe.database_now(connection), clusters=reconciler.clusters, trusted=frozenset(seen.trusted))
    plan = power_plan(pairs, world, reconciler.policy)
    gated = run.gated(plan)
    connection.commit()
    confirmer = Confirmer(reconciler.engine, None, {}, frozenset(), reconciler.clusters)
    outcome = apply_changes(reconciler.engine, run.id, run.lease.epoch, gated.allowed, confirmer)
    with reconciler.engine.begin() as report:
        note_confirmations(report, seen.began)
    counts = seen.counts | {"drift": len(pairs), "applied": dict(outcome.applied), "held": len(gated.held)}
    return RunResult(run.id, "done", _summary(outcome, gated, seen), plan, gated, outcome, tuple(seen.problems), counts)


def _nothing_seen(run: _Run) -> Observed:
    """Before the first read; what is paused counts as not seen, so that no finding is taken for settled."""
    return Observed(problems=[f"{target}: {pause}" for target, pause in run.pauses.items()])


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
        orders=suspects.load_orders(connection),
        guests=suspects.load_guests(connection, seen.previous, seen.began),
        records=suspects.load_records(connection),
        order_absences=order_absences,
        guest_absences=guest_absences,
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


def _held_findings(gated: Gated) -> list[Finding]:
    found = [
        Finding(
            "held",
            f"scope:{held.scope}",
            f"{held.reason}; {len(held.changes)} held",
            "warning" if held.scope.startswith("class:") else "alarm",
        )
        for held in gated.held
    ]
    return found + [
        Finding(
            "rejected",
            change.subject,
            f"an operator rejected this {change.kind.value}: {change.reason}",
            "info",
            vps_id=change.record.id if change.record else None,
        )
        for change in gated.rejected
    ]


def _unconfirmed_findings(outcome: Outcome) -> list[Finding]:
    """Only what a confirmation contradicted or could not clear; a record that moved on is no finding."""
    return [
        Finding("not-confirmed", change.subject, why, vps_id=change.record.id if change.record else None)
        for change, why in outcome.not_written
        if change.confirm
    ]


def _summary(outcome: Outcome, gated: Gated, seen: Observed) -> str:
    said = ", ".join(f"{count} {kind}" for kind, count in sorted(outcome.applied.items())) or "nothing to repair"
    if outcome.texts:
        said = "; ".join(f"applied {t}" for t in outcome.texts[:5]) if len(outcome.texts) <= 5 else f"applied {said}"
    if gated.held:
        said += f"; held {sum(len(h.changes) for h in gated.held)}"
    if seen.problems:
        said += f"; {len(seen.problems)} source problems"
    return said


def acknowledge_first_plan(engine: Engine) -> None:
    """An operator has seen a plan and applies it: deletes and bulk creates need no further first-run word."""
    with engine.begin() as connection:
        run_log.acknowledge_first_plan(connection)


__all__ = ["Change", "Reconciler", "RunResult", "acknowledge_first_plan", "load_world", "run_fast", "run_full"]
