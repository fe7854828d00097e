"""A run's report: its findings, its held sets and the state of its sources, kept in one transaction, and one line for
the task list."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from domain.changes import Finding
from domain.failures import Failure
from domain.repair_policy.budget import BY_APPROVAL
from domain.source_troubles import USERS
from panel.journal.repairs import note_confirmations
from panel.journal.rows import database_now
from panel.operators import quarantine
from panel.operators.first_filling import waiting_guests
from panel.operators.holds import keep_fast_holds, keep_holds
from panel.records.labels import labels_of
from panel.runs.run_log import Coverage, report_findings
from panel.runs.source_states import forget_other_sources, report_sources
from reconcile.apply import Outcome
from reconcile.decision.gate import REJECTED_BEFORE, Gated
from reconcile.observation.observe import Observed
from reconcile.open_drift import open_drift
from reconcile.planning import RunPlan
from reconcile.run_context import Run, RunResult


def report_full(run: Run, seen: Observed, planned: RunPlan, gated: Gated, outcome: Outcome) -> RunResult:
    """Keep what a full run found, and return its result."""
    findings = [*planned.plan.findings, *held_findings(gated), *unconfirmed_findings(outcome)]
    failures = [*planned.failures, *outcome.failures]
    everything = not seen.problems and not planned.counts["cut"]
    not_reached = {subject for change in outcome.postponed for subject in change.subjects}
    left_out = planned.left_out | seen.not_selected | not_reached
    with run.reporting() as report:
        open_findings = report_findings(report, run.id, findings, _coverage(run, seen), left_out)
        keep_holds(report, run.id, gated.held, seen.not_selected)
        report_sources(report, run.id, seen.troubles)
        forget_other_sources(report, _watched(run))
        note_confirmations(report, seen.began, run.proof)
        quarantine.note_failures(report, run.id, failures)
        quarantine.note_recovered(report, _recovered(planned, outcome, failures, everything=everything))
        now = database_now(report)
    run.phases.end("report")
    counts = planned.counts | _measured(gated) | _written(outcome, failures) | {"findings": open_findings}
    done = {id(change) for change in (*outcome.written, *gated.rejected, *gated.ignored)}
    counts |= open_drift(planned.plan.changes, done, now, run.reconciler.mend_within)
    summary = summary_line(outcome, gated, seen.problems, failures)
    return RunResult(run.id, "done", summary, planned.plan, gated, outcome, seen.messages, counts)


def report_fast(run: Run, seen: Observed, planned: RunPlan, gated: Gated, outcome: Outcome) -> RunResult:
    """Keep what a run of the fast lane found, and return its result. No finding is resolved."""
    failures = [*planned.failures, *outcome.failures]
    with run.reporting() as report:
        report_findings(report, run.id, held_findings(gated))
        keep_fast_holds(report, run.id, gated.held, seen.trusted)
        report_sources(report, run.id, seen.troubles)
        note_confirmations(report, seen.began, run.proof)
        quarantine.note_failures(report, run.id, failures)
    run.phases.end("report")
    counts = planned.counts | {"held": len(gated.held)} | _written(outcome, failures)
    summary = summary_line(outcome, gated, seen.problems, failures)
    return RunResult(run.id, "done", summary, planned.plan, gated, outcome, seen.messages, counts)


def report_dry(run: Run, seen: Observed, planned: RunPlan, gated: Gated, under: Gated | None = None) -> RunResult:
    """The result of a dry run: what a full run would do. ``under``: and what it would do under another policy."""
    summary, counts = f"{len(planned.plan.changes)} planned", planned.counts | _measured(gated)
    counts["guests_to_read"] = waiting_guests(run.connection)
    result = RunResult(run.id, "done", summary, planned.plan, gated, None, seen.messages, counts, under=under)
    return replace(result, labels=labels_of(run.connection, result.subjects))


def _measured(gated: Gated) -> dict[str, Any]:
    return {"held": len(gated.held), "rejected": len(gated.rejected), "ignored": len(gated.ignored)}


def _written(outcome: Outcome, failures: Sequence[Failure]) -> dict[str, Any]:
    return {"applied": dict(outcome.applied), "failed": len(failures), "postponed": len(outcome.postponed)}


def _coverage(run: Run, seen: Observed) -> Coverage:
    """Where this run looked well enough that a finding which it did not find again is resolved."""
    no_feed = run.reconciler.feed is None
    return Coverage(no_feed or seen.orders_well, run.reconciler.clusters, frozenset(seen.believed), seen.nodes_away)


def _watched(run: Run) -> set[str]:
    """The sources that are configured and not paused."""
    feed = set[str]() if run.feed is None else {run.feed.name, USERS}
    return feed | {f"proxmox:{source.cluster}" for source in run.sources}


def _recovered(
    planned: RunPlan, outcome: Outcome, failures: Sequence[Failure], *, everything: bool
) -> Callable[[str], bool]:
    """Tells whether a subject that failed before is well again: every change planned for it was written. If none was
    planned, the run must have seen everything."""
    written = {id(change) for change in outcome.written}
    done = {subject for change in outcome.written for subject in change.subjects}
    undone = {subject for change in planned.decided.changes if id(change) not in written for subject in change.subjects}
    not_yet = undone | planned.quarantined.keys() | {failure.subject for failure in failures}
    return lambda subject: subject not in not_yet and (everything or subject in done)


def held_findings(gated: Gated) -> list[Finding]:
    """A finding for each held set, and for each change that an operator rejected. A delete that waits for an approval
    of its own has a finding already, which says so."""
    held_sets = [
        Finding(
            "held",
            f"scope:{held.scope}",
            f"{held.reason}; {len(held.changes)} held",
            "warning" if held.scope == REJECTED_BEFORE or held.scope.startswith("class:") else "alarm",
        )
        for held in gated.held
        if not held.scope.startswith(BY_APPROVAL)
    ]
    return held_sets + [
        Finding(
            "rejected",
            change.subject,
            f"an operator rejected this {change.kind.value}: {change.reason}",
            "info",
            vps_id=change.record.id if change.record else None,
        )
        for change in gated.rejected
    ]


def unconfirmed_findings(outcome: Outcome) -> list[Finding]:
    """A finding for each change that was not written although the sources were asked about it. A change that needs no
    confirmation is no finding: its record has moved on."""
    return [
        Finding("not-confirmed", change.subject, why, vps_id=change.record.id if change.record else None)
        for change, why in outcome.not_written
        if change.confirm
    ]


def summary_line(outcome: Outcome, gated: Gated, problems: Sequence[str], failures: Sequence[Failure]) -> str:
    """One line without personal data."""
    line = ", ".join(f"{count} {kind}" for kind, count in sorted(outcome.applied.items())) or "nothing to repair"
    if outcome.texts:
        line = "; ".join(f"applied {t}" for t in outcome.texts[:5]) if len(outcome.texts) <= 5 else f"applied {line}"
    if outcome.postponed:
        written, left = len(outcome.written), len(outcome.postponed)
        planned = written + len(outcome.not_written) + len(outcome.failures) + left
        line += f"; {written} of {planned} written, {left} left to the next run: this one's time was over"
    if gated.held:
        line += f"; held {sum(len(h.changes) for h in gated.held)}"
    if failures:
        line += f"; {len(failures)} failed"
    if problems:
        line += f"; {len(problems)} source problems"
    return line
