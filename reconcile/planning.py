"""A run's plan: the decision about its world, and the findings that only the store can give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from domain.changes import ChangePlan, Finding
from domain.config_read_delays import overdue_findings
from domain.failures import Failure, Stage
from domain.repair_policy.budget import Budget
from domain.size_drift import spec_findings
from domain.source_troubles import without_consequences
from panel.journal.rows import database_now
from panel.observations.components import Entangled
from panel.observations.guest_configs import longest_waiting, size_drifts
from panel.observations.power_drift import load_power_drift
from panel.operators.quarantine import held_back
from panel.runs.run_log import pushed_deletes
from panel.runs.source_states import users_imported
from reconcile.decision.cases import World
from reconcile.decision.failure_isolation import isolated_plan, isolated_power
from reconcile.observation.observe import Observed
from reconcile.run_context import Run


@dataclass(frozen=True, slots=True)
class RunPlan:
    """A run's plan. ``plan``: without what is paused; ``decided``: with it. ``failures``: objects that could not be
    loaded, matched or decided. ``left_out``: subjects about which the plan says nothing, or not all there is to say.
    ``quarantined``: subjects that failed before and wait. ``counts``: for the run log."""

    plan: ChangePlan
    decided: ChangePlan
    failures: Sequence[Failure]
    left_out: frozenset[str]
    quarantined: Mapping[str, Stage]
    counts: dict[str, Any]


def plan_repairs(run: Run, seen: Observed, world: World, counts: dict[str, Any]) -> RunPlan:
    """Match and decide a full run's world. ``counts``: what the run counted so far."""
    policy, quarantined = run.reconciler.policy, held_back(run.connection)
    decided = isolated_plan(world, policy, quarantined, seen.broken, run.reconciler.interrupts)
    sizes = size_drifts(run.connection, run.reconciler.clusters)
    counts = counts | {"sizes_differ": len(sizes.found), "sizes_cut": int(sizes.more)}
    findings = [
        *decided.plan.findings,
        *spec_findings(sizes.found, world.now, policy.spec_grace),
        *storm_findings(pushed_deletes(run.connection), run.reconciler.budget),
        *_overdue(run, seen),
        *entangled_findings(seen.entangled),
    ]
    reported = _without_repetitions(run, seen, findings, counts)
    plan = run.paused.without_paused(ChangePlan(decided.plan.changes, reported))
    counts |= {"planned": len(plan.changes), "quarantined": len(quarantined)}
    return RunPlan(plan, decided.plan, decided.failures, frozenset(decided.left_out), quarantined, counts)


def plan_power(run: Run, seen: Observed) -> RunPlan:
    """Decide the pairs of record and guest whose power state or node differs. No order has a part in this."""
    reconciler, now = run.reconciler, database_now(run.connection)
    copied_since = now - reconciler.policy.moving_for
    pairs = load_power_drift(
        run.connection, seen.trusted, seen.previous, seen.began, copied_since, run.proof, seen.broken
    )
    world = World(now, clusters=reconciler.clusters, trusted=frozenset(seen.trusted))
    quarantined = held_back(run.connection)
    decided = isolated_power(pairs, world, reconciler.policy, quarantined, seen.broken, reconciler.interrupts)
    plan, counts = run.paused.without_paused(decided.plan), seen.counts | {"drift": len(pairs)}
    return RunPlan(plan, decided.plan, decided.failures, frozenset(decided.left_out), quarantined, counts)


def _overdue(run: Run, seen: Observed) -> list[Finding]:
    """Alarms for clusters whose guests wait too long for their configuration to be read."""
    grace = run.reconciler.policy.paid_missing_grace
    waiting = longest_waiting(run.connection, seen.trusted, seen.nodes_away, grace)
    listed = {cluster: seen.counts.get(f"guests:{cluster}", 0) for cluster in seen.trusted}
    return overdue_findings(waiting, listed, database_now(run.connection), grace)


def _without_repetitions(
    run: Run, seen: Observed, findings: list[Finding], counts: dict[str, Any]
) -> tuple[Finding, ...]:
    """The findings without those that only repeat, for each guest or order, that a source is not believed."""
    users_known = run.reconciler.feed is None or users_imported(run.connection)
    unbelieved = run.reconciler.clusters - seen.believed
    reported, by_cluster, by_users = without_consequences(findings, unbelieved, users_known=users_known)
    if not users_known:
        seen.problems.append(
            f"users: not imported yet, so the owners of {by_users} orders are not known: run panel-sync users import"
        )
    counts |= {"findings_of_sources": by_cluster, "owners_not_imported": by_users}
    return reported


def storm_findings(pushed: int, budget: Budget) -> list[Finding]:
    """An alarm if the main site's calls deleted many records. ``pushed``: how many within an hour. The panel applies
    every accepted call, but a faulty main site looks like this, and a deleted record can be restored for 7 days only.
    """
    if pushed <= budget.pushed_deletes_hour:
        return []
    reason = (
        f"{pushed} records were deleted by calls of the main site within an hour, more than "
        f"{budget.pushed_deletes_hour}; if that is wrong, `panel-sync vps restore` brings them back for 7 days"
    )
    return [Finding("delete-storm", "calls:delete", reason, "alarm")]


def entangled_findings(entangled: Sequence[Entangled]) -> list[Finding]:
    """One finding for each component that is too large to be decided. Nothing else is reported about its members."""
    return [
        Finding(
            "entangled",
            _named(whole),
            f"{whole.orders} orders, {whole.records} records and {whole.guests} guests of {whole.users} customers hang "
            "together by ids, addresses, machines or names, too many to be decided at once: none of it is repaired. "
            "Name the orders' records by panelVpsId or order_id, or delete the records that no order is known for",
            "alarm",
            vps_id=whole.vps_id,
            order_id=whole.order_id if whole.vps_id is None else None,
        )
        for whole in entangled
    ]


def _named(whole: Entangled) -> str:
    if whole.vps_id is not None:
        return f"vps:{whole.vps_id}"
    return f"order:{whole.order_id}" if whole.order_id is not None else f"guest:{whole.guest}"
