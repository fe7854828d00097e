"""A plan for people: the changes to apply, the held sets with the commands that release them, and the findings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cli.output.console import as_json, out
from cli.output.listing import Entry, View, show
from domain.changes import Change, Create, Finding
from domain.guests import PowerState
from domain.repair_policy.budget import BY_APPROVAL
from panel.records.labels import NO_LABEL, VpsLabel
from panel.records.projection import LINK_COLUMNS
from panel.terminal import Piece, styled
from reconcile.decision.gate import Held
from reconcile.decision.subjects import clusters_of
from reconcile.run import RunResult
from reconcile.what_if import rank_of

SHOWN_AS = {"ram_mb": "ram (MB)", "disk_gb": "disk (GB)", "user_id": "owner"}
"""Names under which columns are shown, where these differ from the column's."""

SIGNS = {"create": ("green", "+"), "delete": ("red", "-"), "merge": ("red", "-")}
FIRST_WORD = frozenset({"creates", "deletes"})
"""Scopes that the first `reconcile --apply` of a panel releases."""

COLUMNS = ("to apply", "held", "findings")
_SEVERITY = {"alarm": 0, "warning": 4, "info": 7}


def show_plan(result: RunResult, labels: Mapping[str, VpsLabel], view: View, again: str, *, first: bool) -> None:
    """Print the plan. ``again``: the command that shows more of it. ``first``: no plan was ever applied here."""
    for problem in result.problems:
        out.print(styled("yellow", "source"), problem)
    if result.plan is None or result.gated is None:
        return
    entries = plan_entries(result, labels)
    if view.whole(view.of(entries)):
        _list(result.gated.held, entries, view, first=first)
    else:
        show(entries, view, COLUMNS, again)
        if not view.filtered:
            show_releases(result.gated.held, first=first)
    held = sum(len(h.changes) for h in result.gated.held)
    found = len(result.plan.findings)
    out.print(f"{len(result.gated.allowed)} to apply, {held} held, {found} findings; plan {result.plan.hash[:12]}")


def plan_as_json(result: RunResult, labels: Mapping[str, VpsLabel], view: View, *, first: bool) -> None:
    """The plan as one JSON object, with the entries that pass the filter."""
    held = result.gated.held if result.gated is not None else ()
    as_json(
        {
            "plan": result.plan.hash if result.plan is not None else None,
            "run": result.run_id,
            "summary": result.summary,
            "problems": list(result.problems),
            "held": [
                {"scope": held_set.scope, "hash": held_set.hash, "reason": held_set.reason,
                 "count": len(held_set.changes),
                 "release": release_of(held_set.scope, held_set.hash, first=first, second=held_set.needs_second)}
                for held_set in held
            ],
            "entries": [entry.plain for entry in view.of(plan_entries(result, labels))],
        }
    )  # fmt: skip


def plan_entries(result: RunResult, labels: Mapping[str, VpsLabel]) -> list[Entry]:
    """Every entry of a plan."""
    if result.plan is None or result.gated is None:
        return []
    entries = [_change_entry(change, "to apply", None, labels) for change in result.gated.allowed]
    for held in result.gated.held:
        entries += [_change_entry(change, "held", held, labels) for change in held.changes]
    return entries + [_finding_entry(finding, labels) for finding in result.plan.findings]


def _list(held: Sequence[Held], entries: Sequence[Entry], view: View, *, first: bool) -> None:
    """Print all entries, those of a held set below its head."""
    sets = {held_set.scope: held_set for held_set in held}
    for entry in view.of(entries):
        scope = entry.plain.get("held_by")
        if scope is not None and (held_set := sets.pop(scope, None)) is not None:
            _release(held_set, first=first)
        for line in entry.lines:
            out.print(*((" ",) if scope is not None else ()), *line)


def _release(held: Held, *, first: bool) -> None:
    out.print(styled("bold red", "held"), f"{held.scope}: {held.reason} ({held.hash[:12]})")
    out.print("  to release it:", release_of(held.scope, held.hash, first=first, second=held.needs_second))


def show_releases(held: Sequence[Held], *, first: bool) -> None:
    """Print each held set with the one command that releases it. Many records that each need their own approval are
    only counted."""
    single = [held_set for held_set in held if held_set.scope.startswith(BY_APPROVAL)]
    for held_set in held:
        if held_set not in single or len(single) <= 3:
            _release(held_set, first=first)
    if len(single) > 3:
        out.print(
            styled("bold red", "held"),
            f"{BY_APPROVAL}: {len(single)} records each need their own approval: panel-sync held --all",
        )


def release_of(scope: str, hash_: str, *, first: bool, second: bool) -> str:
    """The command that releases a held set. ``second``: no command does, because it takes two operators with keys."""
    if first and scope in FIRST_WORD:
        return "panel-sync reconcile --apply"
    if second:
        return f"two operators approve it, each with a key of their own: /ops/held/{hash_}"
    return f"panel-sync approve {hash_[:12]}"


def _change_entry(change: Change, column: str, held: Held | None, labels: Mapping[str, VpsLabel]) -> Entry:
    user_id = change.values.get("user_id") or change.user_id
    alone = held is not None and held.scope.startswith(BY_APPROVAL)
    label = labels.get(change.subject, NO_LABEL)
    return Entry(
        column,
        change.kind.value,
        6 if alone else rank_of(change.kind),
        tuple(_lines(change, label)),
        clusters_of(change),
        user_id,
        {
            "what": "apply" if held is None else "held",
            "class": change.kind.value,
            "subject": change.subject,
            "action": change.action,
            "reason": change.reason,
            "name": label.name or change.values.get("name"),
            "user_id": user_id,
            "clusters": sorted(clusters_of(change)),
            "values": {name: new for name, _, new in _values(change)},
            "held_by": held.scope if held is not None else None,
        },
        styled("bold red", "held") if held is not None else None,
    )


def _finding_entry(finding: Finding, labels: Mapping[str, VpsLabel]) -> Entry:
    label = labels.get(finding.subject, labels.get(f"order:{finding.order_id}", NO_LABEL))
    cluster = finding.cluster or label.cluster
    return Entry(
        "findings",
        finding.class_,
        _SEVERITY.get(finding.severity, 4),
        ((styled("cyan", "finding"), f"{finding.class_} {finding.subject}: {finding.reason}"),),
        frozenset({cluster} if cluster is not None else ()),
        label.user_id,
        {
            "what": "finding",
            "class": finding.class_,
            "severity": finding.severity,
            "subject": finding.subject,
            "reason": finding.reason,
            "name": label.name,
            "user_id": label.user_id,
            "clusters": [cluster] if cluster is not None else [],
        },
    )


def _lines(change: Change, label: VpsLabel) -> Iterator[tuple[Piece, ...]]:
    """The lines of one change, each in parts."""
    sign = styled(*SIGNS.get(change.action, ("yellow", "~")))
    owner = f" ({label.text})" if label.text else ""
    yield sign, change.subject, styled("bold", f"{change.kind.value}:"), change.reason + owner
    for name, old, new in _values(change):
        yield (f"    {SHOWN_AS.get(name, name)}: {new if old is None else f'{old} -> {new}'}",)


def _values(change: Change) -> Iterator[tuple[str, str | None, str]]:
    """(column, old value or None, new value). Dates and sources are left out: they tell an operator nothing."""
    for name, value in _shown(change).items():
        if name.endswith(("_at", "_source", "_as_of", "_since", "_once")) or value is None:
            continue
        old = None if change.record is None else _plain(getattr(change.record, name, None))
        yield name, old, _plain(value)


def _shown(change: Change) -> Mapping[str, Any]:
    """The values of a change. Those of a create have the names of a sync call and leave out the guest."""
    if not isinstance(change, Create):
        return change.values
    power = change.values["power_state"]
    names = {"power_state": "status", "ram_mb": "ram", "disk_gb": "disk"}
    values = {**change.values, "power_state": "creating" if power == PowerState.UNKNOWN else power}
    shown = {names.get(name, name): value for name, value in values.items() if name not in NOT_SHOWN_OF_A_CREATE}
    return shown | {"panel_vps_id": change.order.panel_vps_id}


NOT_SHOWN_OF_A_CREATE = frozenset({"order_state", *LINK_COLUMNS})


def _plain(value: Any) -> str:  # noqa: ANN401 - any column
    return "nothing" if value is None else str(getattr(value, "value", value))
