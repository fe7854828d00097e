"""A run from end to end: take one's turn and the lease, observe, match and decide, gate, apply, report. The shell of
the core."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Any

import structlog
from sqlalchemy import Connection
from structlog.contextvars import bound_contextvars

from domain.absences import Absence
from domain.changes import Change, Finding, Plan
from domain.config_read_delays import overdue_findings
from domain.failures import Failure, Stage
from domain.guests import GuestKey
from domain.left_out import LeftOut
from domain.size_drift import spec_findings
from domain.source_troubles import USERS, without_consequences
from panel.journal.repairs import note_confirmations
from panel.observations import (
    candidates,
    components,
    dry_run,
    dual_cluster_sightings,
    guest_configs,
    loaded_candidates,
    power_drift,
    snapshots,
)
from panel.observations.absences import load_absences
from panel.observations.config_read_queue import longest_waiting
from panel.observations.left_out import load_left_out
from panel.operators import gate_context, quarantine
from panel.operators.holds import keep_fast_holds, keep_holds
from panel.operators.pauses import ALL, CLUSTER, FEED, PauseView, current_pauses
from panel.runs import run_log, source_memory
from panel.runs.finding_resolution import Reach, undrawn_subjects
from panel.runs.lease import LEASE, FencedError, lease_holder, take_lease, turn
from panel.runs.run_requests import ask_for_run
from panel.runs.source_health import forget_other_sources, report_sources
from reconcile.apply import Confirmer, Outcome
from reconcile.decision.cases import World
from reconcile.decision.failure_isolation import isolated_plan, isolated_power
from reconcile.decision.gate import Gated
from reconcile.decision.matching.match import RIVALS_APART
from reconcile.decision.subjects import Subject
from reconcile.observation import fingerprints, observe
from reconcile.observation.observe import Observed
from reconcile.observation.parallel_reads import FAST, FULL
from reconcile.phases import Phases
from reconcile.report import entangled_findings, held_findings, said_in_short, storm_findings, unconfirmed_findings
from reconcile.run_context import Reconciler, Run, RunResult
from reconcile.users import import_first_users

log = structlog.get_logger(__name__)

GOES_ON = "goes on"
"""The trigger of a run that takes up what the one before it had no time for."""


def run_full(
    reconciler: Reconciler, *, trigger: str, dry: bool = False, only: Subject | None = None, plan_seen: bool = False
) -> RunResult:
    """Compare everything and repair what may be repaired; ``dry`` plans only, and keeps nothing of what it saw.

    With ``plan_seen``, an operator has seen a plan and lets this run apply it: his word is noted once the run has read
    the orders, so that it covers them also where no run has read them before.

    With ``only``, what concerns that subject is applied and the rest left to the next run. The limits are those of
    the whole plan all the same: one by one must not be a way around them.
    """
    work = partial(_full, dry=dry, only=only, plan_seen=plan_seen)
    result = _in_turn(reconciler, "plan" if dry else "full", trigger, work, reads_ahead=True)
    if result.outcome is not None and result.outcome.postponed and result.outcome.written:
        with reconciler.engine.begin() as connection:
            ask_for_run(connection, GOES_ON)
    return result


def run_fast(reconciler: Reconciler, *, trigger: str) -> RunResult:
    """One bulk read per cluster; power states and nodes only."""
    return _in_turn(reconciler, "fast", trigger, _fast, reads_ahead=False)


def look_around(reconciler: Reconciler) -> int | None:
    """Read again who guests are, those first that were read longest ago: a slice of the fleet, without the lease, so
    that no run waits for it. How many were kept; None if somebody is at it, or everything is paused."""
    with reconciler.engine.begin() as connection:
        pauses = current_pauses(connection)
    if ALL in pauses:
        return None
    with turn(reconciler.engine, "look", f"{socket.gethostname()}:{os.getpid()}") as connection:
        if connection is None:
            return None
        sources = [s for s in reconciler.sources if f"{CLUSTER}{s.cluster}" not in pauses]
        return fingerprints.look_around(connection, sources)


def _in_turn(
    reconciler: Reconciler, kind: str, trigger: str, work: Callable[[Run], RunResult], *, reads_ahead: bool
) -> RunResult:
    """Wait for one's turn, read what takes long, take the lease, do the work, and leave word of how it ended."""
    with reconciler.engine.begin() as connection:
        pauses = current_pauses(connection)
    if ALL in pauses:
        return RunResult(None, "paused", str(pauses[ALL]))
    began = time.monotonic()
    holder, mine = f"{socket.gethostname()}:{os.getpid()}", "full" if reads_ahead else "fast"
    with turn(reconciler.engine, mine, holder) as connection:
        if connection is None:
            return _busy(reconciler, f"turn:{mine}")
        phases = Phases(tell=reconciler.tell)
        reconciler.tell("reading the main site and new guests", 0, None)
        if kind == "full":
            import_first_users(reconciler)
        snapshots.make_stages(connection)
        ahead = _read_ahead(reconciler, connection, pauses, dry=kind == "plan") if reads_ahead else _Ahead()
        phases.end("read_ahead")
        lease = take_lease(connection, holder)
        if lease is None:
            return _busy(reconciler, LEASE)
        pauses = current_pauses(connection)  # reading takes a while, and a pause counts from when it was made
        connection.commit()
        if ALL in pauses:
            return RunResult(None, "paused", str(pauses[ALL]))
        if kind == "plan":
            dry_run.observe_on_copies(connection)
        run_id, _ = run_log.begin_run(reconciler.engine, kind, trigger, lease.epoch)
        phases.end("lease")
        with bound_contextvars(run_id=run_id, epoch=lease.epoch):
            try:
                result = work(Run(reconciler, lease, run_id, pauses, phases, ahead.feed, ahead.looks, began))
            except FencedError as error:
                log.warning("run_fenced", kind=kind, error=str(error))
                return RunResult(run_id, "fenced", "another run took over")
            except BaseException as error:
                run_log.end_run(reconciler.engine, run_id, "failed", {}, [], error=type(error).__name__)
                if isinstance(error, Exception):
                    log.exception("run_failed", kind=kind)
                else:  # somebody ended it: where it stood is no news
                    log.warning("run_interrupted", kind=kind, by=type(error).__name__)
                raise
            hash_ = result.plan.hash if result.plan is not None else None
            counts = result.counts | {"phases": phases.seconds()}
            run_log.end_run(reconciler.engine, run_id, result.state, counts, result.problems, hash_)
            log.info("run_done", kind=kind, trigger=trigger, summary=result.summary, problems=len(result.problems))
            return result


@dataclass(frozen=True, slots=True)
class _Ahead:
    """What was read before the lease: the feed, and configurations."""

    feed: observe.FeedRead | None = None
    looks: fingerprints.Looks | None = None


def _read_ahead(
    reconciler: Reconciler, connection: Connection, pauses: Mapping[str, PauseView], *, dry: bool
) -> _Ahead:
    sources = [s for s in reconciler.sources if f"{CLUSTER}{s.cluster}" not in pauses]
    # A dry run has its copies of what is observed only once it holds the lease.
    looks = fingerprints.read_ahead(connection, sources) if not dry else None
    if reconciler.feed is None or FEED in pauses:
        return _Ahead(looks=looks)
    # The feed last: what it says is to be as fresh as can be.
    return _Ahead(observe.stage_orders(connection, reconciler.feed, reconciler.sweep_interval), looks)


def _busy(reconciler: Reconciler, name: str) -> RunResult:
    with reconciler.engine.connect() as connection:
        return RunResult(None, "busy", f"another run is under way: {lease_holder(connection, name)}")


def _full(run: Run, *, dry: bool, only: Subject | None, plan_seen: bool) -> RunResult:
    reconciler, connection, seen = run.reconciler, run.lease.connection, run.nothing_seen()
    observe.read_clusters(connection, run.id, run.sources, seen, FULL, run.proof)
    run.phases.end("clusters")
    # The fast lane waits while this run has the lease, so its work comes first.
    power = _PowerPass() if dry or only is not None else _power_pass(run, seen)
    run.phases.end("power")
    if run.feed is not None and run.feed_read is not None:
        observe.take_orders(connection, run.id, run.feed_read, seen, reconciler.feed_age_max, run.proof)
    if plan_seen:
        gate_context.acknowledge_first_plan(connection)
    run.phases.end("orders")
    looks = run.looks or fingerprints.Looks(observe.database_now(connection), 0)
    looked = fingerprints.read_fingerprints(connection, run.sources, seen, looks)
    run.phases.end("fingerprints")
    dual_cluster_sightings.note_moves(connection, reconciler.clusters, reconciler.policy.proof_n)
    world, counts = load_world(reconciler, connection, seen)
    run.phases.end("select")
    held_back = quarantine.held_back(connection)
    planned = isolated_plan(world, reconciler.policy, held_back, seen.broken, reconciler.interrupts)
    sizes = guest_configs.size_drifts(connection, reconciler.clusters)
    specs = spec_findings(sizes.found, world.now, reconciler.policy.spec_grace)
    storm = storm_findings(run_log.pushed_deletes(connection), reconciler.budget)
    fleet = [*specs, *storm, *_overdue(run, seen), *entangled_findings(seen.entangled)]
    told = _told(run, seen, [*planned.plan.findings, *fleet], counts)
    plan = run.paused.spare(Plan(planned.plan.changes, told))
    run.phases.end("decide")
    gated = run.gated(plan)
    connection.commit()
    run.phases.end("gate")
    counts |= {
        "sizes_differ": len(sizes.found),
        "sizes_cut": int(sizes.more),
        "fingerprints_read": looked,
        "planned": len(plan.changes),
        "held": len(gated.held),
        "rejected": len(gated.rejected),
        "ignored": len(gated.ignored),
        "quarantined": len(held_back),
    }
    if only is not None:
        gated = replace(gated, allowed=tuple(c for c in gated.allowed if only.covers(c)))
    if dry:
        summary = f"{len(plan.changes)} planned"
        return RunResult(run.id, "done", summary, plan, gated, None, seen.told, counts)
    confirmer = Confirmer(
        reconciler.engine,
        run.feed,
        {s.cluster: s for s in run.sources if s.cluster not in seen.late},
        frozenset(seen.complete),
        reconciler.clusters,
    )
    outcome = write_plan(run, gated, confirmer, run_log.unconfirmed_subjects(connection)).after(power.outcome)
    run.phases.end("apply")
    findings = [*plan.findings, *held_findings(gated), *unconfirmed_findings(outcome)]
    everything = not seen.problems and not counts["cut"]
    failures = [*planned.failures, *outcome.failures]
    with run.reporting() as report:
        counts["findings"] = run_log.report_findings(
            report, run.id, findings, _reach(run, seen), planned.left_out | seen.undrawn | _not_reached(outcome)
        )
        keep_holds(report, run.id, gated.held, seen.undrawn)
        report_sources(report, run.id, seen.troubles)
        forget_other_sources(report, _watched(run))
        note_confirmations(report, seen.began)
        quarantine.note_failures(report, run.id, failures)
        quarantine.note_recovered(report, _recovered(planned.plan, outcome, failures, held_back, everything))
    run.phases.end("report")
    counts |= {"applied": dict(outcome.applied), "failed": len(failures), "postponed": len(outcome.postponed)}
    summary = said_in_short(outcome, gated, seen.problems, failures)
    return RunResult(run.id, "done", summary, plan, gated, outcome, seen.told, counts)


def _overdue(run: Run, seen: Observed) -> list[Finding]:
    """Clusters whose guests wait too long for being read."""
    grace = run.reconciler.policy.paid_missing_grace
    waiting = longest_waiting(run.lease.connection, seen.trusted, seen.nodes_away, grace)
    listed = {cluster: seen.counts.get(f"guests:{cluster}", 0) for cluster in seen.trusted}
    return overdue_findings(waiting, listed, observe.database_now(run.lease.connection), grace)


def _told(run: Run, seen: Observed, findings: list[Finding], counts: dict[str, Any]) -> tuple[Finding, ...]:
    """The findings, less those that only repeat for each guest or order that a source is not believed."""
    users_known = run.reconciler.feed is None or source_memory.users_imported(run.lease.connection)
    unbelieved = run.reconciler.clusters - seen.believed
    told, by_cluster, by_users = without_consequences(findings, unbelieved, users_known=users_known)
    if not users_known:
        seen.problems.append(
            f"users: not imported yet, so the owners of {by_users} orders are not known: panel-sync users import"
        )
    counts |= {"findings_of_sources": by_cluster, "owners_not_imported": by_users}
    return told


def _watched(run: Run) -> set[str]:
    """The sources that are configured and not paused."""
    feed = set[str]() if run.feed is None else {run.feed.name, USERS}
    return feed | {f"proxmox:{source.cluster}" for source in run.sources}


def _reach(run: Run, seen: Observed) -> Reach:
    """How far this run's silence means anything."""
    no_feed = run.reconciler.feed is None
    return Reach(no_feed or seen.orders_well, run.reconciler.clusters, frozenset(seen.believed), seen.nodes_away)


def _not_reached(outcome: Outcome) -> set[str]:
    """The subjects to which the run's time did not reach: what is known of them stands."""
    return {subject for change in outcome.postponed for subject in change.subjects}


def write_plan(run: Run, gated: Gated, confirmer: Confirmer, unconfirmed: Collection[str]) -> Outcome:
    """The writes of a full run's plan."""
    return run.applied(gated, confirmer, unconfirmed)


def _fast(run: Run) -> RunResult:
    connection, seen = run.lease.connection, run.nothing_seen()
    observe.read_clusters(connection, run.id, run.sources, seen, FAST, run.proof)
    run.phases.end("clusters")
    power = _power_pass(run, seen)
    run.phases.end("power")
    gated, outcome = power.gated, power.outcome
    failures = [*power.failures, *outcome.failures]
    with run.reporting() as report:
        run_log.report_findings(report, run.id, held_findings(gated))
        keep_fast_holds(report, run.id, gated.held, seen.trusted)
        report_sources(report, run.id, seen.troubles)
        note_confirmations(report, seen.began)
        quarantine.note_failures(report, run.id, failures)
    run.phases.end("report")
    counts = seen.counts | {"drift": power.drift, "applied": dict(outcome.applied), "held": len(gated.held)}
    counts |= {"failed": len(failures), "postponed": len(outcome.postponed)}
    summary = said_in_short(outcome, gated, seen.problems, failures)
    return RunResult(run.id, "done", summary, power.plan, gated, outcome, seen.told, counts)


@dataclass(frozen=True, slots=True)
class _PowerPass:
    """Power states and nodes, straight from the lists. ``drift``: how many pairs differed."""

    plan: Plan = field(default_factory=lambda: Plan((), ()))
    gated: Gated = field(default_factory=lambda: Gated((), ()))
    outcome: Outcome = field(default_factory=Outcome)
    failures: Sequence[Failure] = ()
    drift: int = 0


def _power_pass(run: Run, seen: Observed) -> _PowerPass:
    reconciler, connection = run.reconciler, run.lease.connection
    fingerprints.read_doubted(connection, run.sources, seen)
    now = observe.database_now(connection)
    copied_since = now - reconciler.policy.moving_for
    pairs = power_drift.load_power_drift(connection, seen.trusted, seen.previous, seen.began, copied_since, seen.broken)
    world = World(now, clusters=reconciler.clusters, trusted=frozenset(seen.trusted))
    held_back = quarantine.held_back(connection)
    planned = isolated_power(pairs, world, reconciler.policy, held_back, seen.broken, reconciler.interrupts)
    plan = run.paused.spare(planned.plan)
    gated = run.gated(plan)
    connection.commit()
    outcome = run.power_applied(gated)
    return _PowerPass(plan, gated, outcome, planned.failures, len(pairs))


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


def load_world(
    reconciler: Reconciler,
    connection: Connection,
    seen: Observed,
    *,
    everything: bool = False,
    budget: int | None = None,
) -> tuple[World, dict[str, Any]]:
    """Select the suspects of what was observed and load them as values."""
    feed = reconciler.feed
    names = feed.names_are_authoritative if feed is not None else False
    counts: dict[str, Any] = dict(
        candidates.prepare(
            connection, shared_ids=reconciler.shared_ids, names=names, everything=everything, budget=budget
        )
    )
    left_out = LeftOut()
    if counts["cut"]:
        seen.undrawn = undrawn_subjects(connection)
        seen.entangled = components.load_entangled(connection)
        seen.warnings.append(f"selection: {counts['cut']} suspects are left to the next run, which draws anew")
        left_out = load_left_out(connection, RIVALS_APART if names else None, seen.broken)
    order_absences, guest_absences = load_absences(connection)
    world = World(
        now=observe.database_now(connection),
        orders=loaded_candidates.load_orders(connection, seen.broken),
        guests=loaded_candidates.load_guests(connection, seen.previous, seen.began, seen.broken),
        records=loaded_candidates.load_records(connection, seen.broken),
        order_absences=order_absences,
        guest_absences=guest_absences,
        sightings=loaded_candidates.load_sightings(connection),
        clusters=reconciler.clusters,
        trusted=frozenset(seen.trusted),
        orders_at=seen.orders_at,
        previous_orders_at=seen.previous_orders_at,
        has_feed=feed is not None,
        names_are_authoritative=names,
        feed=feed.name if feed is not None else "none",
        left_out=left_out,
        remembered=loaded_candidates.load_remembered(connection, seen.broken),
        last_read=_last_read(connection, reconciler.clusters),
        unidentified=loaded_candidates.load_unidentified(connection, reconciler.clusters, seen.broken),
        unlisted=_uncounted(loaded_candidates.load_unlisted(connection), guest_absences, seen),
    )
    return world, seen.counts | counts


def _last_read(connection: Connection, clusters: Iterable[str]) -> dict[str, datetime]:
    found = {cluster: snapshots.scope_time(connection, f"proxmox:{cluster}", "all") for cluster in clusters}
    return {cluster: read for cluster, read in found.items() if read is not None}


def _uncounted(
    unlisted: Mapping[GuestKey, datetime], absences: Mapping[GuestKey, Absence], seen: Observed
) -> dict[GuestKey, datetime]:
    """Those that this run's trusted reads neither listed nor counted as absent: nothing more will be known of them."""
    return {
        key: since
        for key, since in unlisted.items()
        if key.cluster in seen.trusted
        and (key not in absences or absences[key].last_seen_absent_at < seen.began[key.cluster])
    }


__all__ = [
    "Change",
    "Reconciler",
    "RunResult",
    "load_world",
    "look_around",
    "run_fast",
    "run_full",
]
