"""A what-if for people: what the next run would do under another repair policy, and what would be different."""

from __future__ import annotations

from dataclasses import asdict

from cli.output.console import as_json, out
from panel.operators.repair_policy.outcome import ClassFates, Outcome
from panel.terminal import styled, table


def show_what_if(outcome: Outcome, *, json: bool) -> None:
    """Print the outcome."""
    if json:
        as_json(asdict(outcome))
        return
    _head(outcome)
    for moved in outcome.moved:
        out.print(f"{moved.count} {moved.kind}: {moved.now} now, {moved.then} then")
    if not outcome.moved:
        out.print("No change would have another fate than now.")
    for held in outcome.held:
        out.print(styled("bold red", "held"), f"{held.scope}: {held.reason}; {held.count} then, {held.count_now} now")
    if outcome.held_more:
        out.print(f"and for {outcome.held_more} more reasons")
    _matter(outcome)
    if outcome.guests_to_read:
        out.print(f"{outcome.guests_to_read} guests are not read yet: the records of their orders are not in this plan")


def _head(outcome: Outcome) -> None:
    for problem in outcome.problems:
        out.print(styled("yellow", "source"), problem)
    now, then = outcome.policy_now, outcome.policy
    asked = ", ".join(f"{kind}: {now.get(kind)} -> {mode}" for kind, mode in then.items() if now.get(kind) != mode)
    out.print(
        styled("bold", "What the next run would do"), f"with {asked or 'the present policy'}; nothing was applied"
    )
    counts = table("class", "applied", "held", "ignored", "rejected")
    for one in (*outcome.classes, outcome.total):
        counts.add_row(one.kind, *_cells(one))
    out.print(counts)


def _matter(outcome: Outcome) -> None:
    for title, most in (("clusters", outcome.clusters), ("customers with most", outcome.customers)):
        if most:
            out.print(f"{title}: " + ", ".join(f"{one.name}: {one.count}" for one in most))
    if outcome.matter:
        out.print(styled("bold", "What matters most:"))
    for change in outcome.matter:
        fate = change.then if change.now == change.then else f"{change.now} -> {change.then}"
        label = f" ({change.name})" if change.name else ""
        out.print(f"{fate}:", change.subject, styled("bold", f"{change.kind}:"), change.reason + label)


def _cells(one: ClassFates) -> list[str]:
    """Counts by fate; where a count differs, "now -> then"."""
    pairs = zip(asdict(one.now).values(), asdict(one.then).values(), strict=True)
    return [(str(then) if then else "") if now == then else f"{now} -> {then}" for now, then in pairs]
