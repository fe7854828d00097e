"""What a run says about itself: findings of its gate and its writes, and one line for the task list."""

from __future__ import annotations

from collections.abc import Sequence

from domain.changes import Finding
from domain.failures import Failure
from panel.observations.components import Entangled
from reconcile.apply import Outcome
from reconcile.decision.gate import BY_APPROVAL, REJECTED_BEFORE, Budget, Gated


def held_findings(gated: Gated) -> list[Finding]:
    """A set that is held, and each change that an operator rejected. What waits for a word of its own has a finding
    already, which says so."""
    found = [
        Finding(
            "held",
            f"scope:{held.scope}",
            f"{held.reason}; {len(held.changes)} held",
            "warning" if held.scope == REJECTED_BEFORE or held.scope.startswith("class:") else "alarm",
        )
        for held in gated.held
        if not held.scope.startswith(BY_APPROVAL)
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


def storm_findings(pushed: int, budget: Budget) -> list[Finding]:
    """``pushed``: records that the main site's own calls deleted within an hour. A call is its owner's word and is
    applied; but a site gone wrong looks like this, and a deleted record can be restored for 7 days only."""
    if pushed <= budget.pushed_deletes_hour:
        return []
    reason = (
        f"{pushed} records were deleted by calls of the main site within an hour, more than "
        f"{budget.pushed_deletes_hour}; if it is wrong, `panel-sync vps restore` brings them back for 7 days"
    )
    return [Finding("delete-storm", "calls:delete", reason, "alarm")]


def entangled_findings(entangled: Sequence[Entangled]) -> list[Finding]:
    """One finding for each component that is too large to be decided; of its members nothing else is told."""
    return [
        Finding(
            "entangled",
            _named(one),
            f"{one.orders} orders, {one.records} records and {one.guests} guests of {one.users} customers hang "
            "together by ids, addresses, machines or names, too many to be decided at once: none of it is repaired. "
            "Name the orders' records by panelVpsId or order_id, or delete the records that no order is known for",
            "alarm",
            vps_id=one.vps_id,
            order_id=one.order_id if one.vps_id is None else None,
        )
        for one in entangled
    ]


def _named(one: Entangled) -> str:
    if one.vps_id is not None:
        return f"vps:{one.vps_id}"
    return f"order:{one.order_id}" if one.order_id is not None else f"guest:{one.guest}"


def unconfirmed_findings(outcome: Outcome) -> list[Finding]:
    """Only what a confirmation contradicted or could not clear; a record that moved on is no finding."""
    return [
        Finding("not-confirmed", change.subject, why, vps_id=change.record.id if change.record else None)
        for change, why in outcome.not_written
        if change.confirm
    ]


def said_in_short(outcome: Outcome, gated: Gated, problems: Sequence[str], failures: Sequence[Failure]) -> str:
    """One line without personal data."""
    said = ", ".join(f"{count} {kind}" for kind, count in sorted(outcome.applied.items())) or "nothing to repair"
    if outcome.texts:
        said = "; ".join(f"applied {t}" for t in outcome.texts[:5]) if len(outcome.texts) <= 5 else f"applied {said}"
    if outcome.postponed:
        written, left = len(outcome.written), len(outcome.postponed)
        planned = written + len(outcome.not_written) + len(outcome.failures) + left
        said += f"; {written} of {planned} written, {left} left to the next run: this one's time was over"
    if gated.held:
        said += f"; held {sum(len(h.changes) for h in gated.held)}"
    if failures:
        said += f"; {len(failures)} failed"
    if problems:
        said += f"; {len(problems)} source problems"
    return said
