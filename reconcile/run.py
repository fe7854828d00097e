"""A run from end to end. docs/life-of-a-run.md describes the same steps in the same order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from domain.changes import Kind
from domain.repair_policy.budget import Handling
from panel.adoptions.decisions import note_judged
from panel.journal.rows import database_now
from panel.observations.dry_run import observe_on_copies
from panel.observations.dual_cluster_sightings import note_moves
from panel.operators.gate_context import acknowledge_first_plan
from panel.runs.run_log import unconfirmed_subjects
from panel.runs.run_requests import ask_for_run
from reconcile.apply import Outcome
from reconcile.confirming import Confirmer
from reconcile.decision.gate import Gated
from reconcile.decision.subjects import Subject
from reconcile.observation import fingerprints
from reconcile.observation.cluster_lists import read_clusters
from reconcile.observation.fingerprints import ConfigsReadAhead, read_fingerprints
from reconcile.observation.observe import FeedRead, Observed, stage_orders, take_orders
from reconcile.observation.parallel_reads import FAST, FULL
from reconcile.planning import RunPlan, plan_power, plan_repairs
from reconcile.report import report_dry, report_fast, report_full
from reconcile.run_context import Reconciler, Run, RunResult, Turn, run_in_turn, take_turn
from reconcile.users import import_first_users
from reconcile.world_loading import load_world

GOES_ON = "goes on"
"""The trigger of a run that continues what the run before it had no time for."""


def run_full(
    reconciler: Reconciler,
    *,
    trigger: str,
    dry: bool = False,
    only: Subject | None = None,
    plan_seen: bool = False,
    under: Mapping[Kind, Handling] | None = None,
) -> RunResult:
    """Compare everything and repair what may be repaired.

    ``dry``: plan only, and keep nothing of what the run saw. ``only``: apply what concerns that subject and leave the
    rest to the next run. The limits still measure the whole plan, so that runs subject by subject cannot evade them.
    ``plan_seen``: an operator has seen a plan and lets this run apply it. ``under``: measure the plan under this
    handling of the classes, too. That is for dry runs alone.
    """
    if under is not None and not dry:
        raise ValueError("another repair policy is tried by a dry run only")
    ahead = partial(_read_ahead, dry=dry)
    steps = partial(_full_steps, dry=dry, only=only, plan_seen=plan_seen, under=under)
    result = run_in_turn(reconciler, "plan" if dry else "full", trigger, ahead, steps)
    if result.outcome is not None and result.outcome.postponed and result.outcome.written:
        with reconciler.engine.begin() as connection:
            ask_for_run(connection, GOES_ON)
    return result


def run_fast(reconciler: Reconciler, *, trigger: str) -> RunResult:
    """One bulk read per cluster; power states and nodes only."""
    return run_in_turn(reconciler, "fast", trigger, lambda _turn: None, _fast_steps)


@dataclass(frozen=True, slots=True)
class _Ahead:
    """What was read before the lease: configurations, and the feed."""

    configs: ConfigsReadAhead | None
    feed_read: FeedRead | None


def _read_ahead(turn: Turn, *, dry: bool) -> _Ahead:
    """Read what takes long and writes no record. It comes before the lease, so that the fast lane does not wait."""
    if not dry:
        import_first_users(turn.reconciler)
    # A dry run observes on copies of the tables. It makes them only once it has the lease.
    configs = fingerprints.read_ahead(turn.connection, turn.sources) if not dry else None
    if turn.feed is None:
        return _Ahead(configs, None)
    # The feed comes last, so that it is as fresh as possible.
    return _Ahead(configs, stage_orders(turn.connection, turn.feed, turn.reconciler.sweep_interval))


def _full_steps(
    run: Run,
    ahead: _Ahead,
    *,
    dry: bool,
    only: Subject | None,
    plan_seen: bool,
    under: Mapping[Kind, Handling] | None,
) -> RunResult:
    """The steps of a full run while it has the lease."""
    reconciler, connection, seen = run.reconciler, run.connection, run.nothing_seen()
    if dry:
        observe_on_copies(connection)
    read_clusters(connection, run.id, run.sources, seen, FULL, run.proof)
    run.phases.end("clusters")
    power = Outcome()
    if not dry and only is None:  # the fast lane waits while this run has the lease, so its work comes first
        *_, power = repair_power(run, seen)
    run.phases.end("power")
    if run.feed is not None and ahead.feed_read is not None:
        take_orders(connection, run.id, ahead.feed_read, seen, reconciler.feed_age_max, run.proof)
    if plan_seen:  # noted after the feed is taken, so that it covers orders that no run has read before
        acknowledge_first_plan(connection)
        connection.commit()
    run.phases.end("orders")
    fingerprints_read = read_fingerprints(
        connection, run.sources, seen, ahead.configs or ConfigsReadAhead(database_now(connection), 0)
    )
    run.phases.end("fingerprints")
    note_moves(connection, reconciler.clusters, reconciler.policy.proof_n)
    world, counts = load_world(reconciler, connection, seen)
    run.phases.end("select")
    planned = plan_repairs(run, seen, world, counts | {"fingerprints_read": fingerprints_read})
    run.phases.end("decide")
    gated, *others = run.gated(planned.plan, *(() if under is None else (under,)), only=only)
    run.phases.end("gate")
    if dry:
        return report_dry(run, seen, planned, gated, *others)
    with reconciler.engine.begin() as judging:  # of its own, so that it holds no lock that a write needs
        note_judged(judging, seen.adoptions)
    outcome = write_plan(run, seen, gated).after(power)
    run.phases.end("apply")
    return report_full(run, seen, planned, gated, outcome)


def _fast_steps(run: Run, _ahead: None) -> RunResult:
    """The steps of the fast lane while it has the lease."""
    seen = run.nothing_seen()
    read_clusters(run.connection, run.id, run.sources, seen, FAST, run.proof)
    run.phases.end("clusters")
    planned, gated, outcome = repair_power(run, seen)
    run.phases.end("power")
    return report_fast(run, seen, planned, gated, outcome)


def repair_power(run: Run, seen: Observed) -> tuple[RunPlan, Gated, Outcome]:
    """Repair power states and nodes from the lists: read the identity of guests in doubt, then plan, gate and write."""
    fingerprints.read_doubted(run.connection, run.sources, seen)
    planned = plan_power(run, seen)
    (gated,) = run.gated(planned.plan)
    return planned, gated, run.power_applied(gated)


def write_plan(run: Run, seen: Observed, gated: Gated) -> Outcome:
    """Confirm and write what the gate let through, as far as the run's time goes."""
    confirmer = Confirmer(
        run.reconciler.engine,
        run.feed,
        {source.cluster: source for source in run.sources if source.cluster not in seen.late},
        frozenset(seen.complete),
        run.reconciler.clusters,
    )
    return run.applied(gated, confirmer, unconfirmed_subjects(run.connection))


def rolling_read(reconciler: Reconciler) -> int | None:
    """Read the configurations of a part of the fleet again, those first that were read longest ago. It takes no lease,
    so no run waits for it. Returns how many were kept; None if another process does it now, or everything is paused."""
    with take_turn(reconciler, "look") as turn:
        return None if isinstance(turn, RunResult) else fingerprints.rolling_read(turn.connection, turn.sources)


__all__ = ["Reconciler", "RunResult", "load_world", "rolling_read", "run_fast", "run_full"]
