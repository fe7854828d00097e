"""A plan for people: what would be applied, what is held and which command releases it, and what was found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cli.output.console import as_json, out
from cli.output.listing import Entry, View, show
from domain.changes import DELETES, Change, Create, Finding, Kind
from domain.guests import PowerState
from panel.records.ownership import NOBODY, Whose
from panel.records.projection import LINK_COLUMNS
from panel.terminal import Piece, styled
from reconcile.decision.gate import BY_APPROVAL, Held
from reconcile.decision.subjects import clusters_of
from reconcile.run import RunResult

SHOWN_AS = {"ram_mb": "ram (MB)", "disk_gb": "disk (GB)", "user_id": "owner"}
"""How columns are shown. Columns that end in ``_at`` or ``_source`` say nothing to an operator and are left out."""

SIGNS = {"create": ("green", "+"), "delete": ("red", "-"), "merge": ("red", "-")}
FIRST_WORD = frozenset({"creates", "deletes"})
"""Scopes that the first `reconcile --apply` of a panel releases."""

COLUMNS = ("to apply", "held", "findings")
_SEVERITY = {"alarm": 0, "warning": 4, "info": 7}


def show_plan(result: RunResult, whose: Mapping[str, Whose], view: View, again: str, *, first: bool) -> None:
    """Print the plan. ``again``: the command that shows more of it. ``first``: no plan was ever applied here."""
    for problem in result.problems:
        out.print(styled("yellow", "source"), problem)
    if result.plan is None or result.gated is None:
        return
    entries = plan_entries(result, whose)
    if view.whole(view.of(entries)):
        _list(result.gated.held, entries, view, first=first)
    else:
        show(entries, view, COLUMNS, again)
        if not view.filtered:
            show_releases(result.gated.held, first=first)
    held = sum(len(h.changes) for h in result.gated.held)
    found = len(result.plan.findings)
    out.print(f"{len(result.gated.allowed)} to apply, {held} held, {found} findings; plan {result.plan.hash[:12]}")


def plan_as_json(result: RunResult, whose: Mapping[str, Whose], view: View, *, first: bool) -> None:
    """The plan as one JSON object, with the entries that pass the filter."""
    held = result.gated.held if result.gated is not None else ()
    as_json(
        {
            "plan": result.plan.hash if result.plan is not None else None,
            "run": result.run_id,
            "summary": result.summary,
            "problems": list(result.problems),
            "held": [
                {"scope": one.scope, "hash": one.hash, "reason": one.reason, "count": len(one.changes),
                 "release": release_of(one.scope, one.hash, first=first)}
                for one in held
            ],
            "entries": [one.plain for one in view.of(plan_entries(result, whose))],
        }
    )  # fmt: skip


def plan_entries(result: RunResult, whose: Mapping[str, Whose]) -> list[Entry]:
    """Every entry of a plan."""
    if result.plan is None or result.gated is None:
        return []
    made = [_change_entry(change, "to apply", None, whose) for change in result.gated.allowed]
    for held in result.gated.held:
        made += [_change_entry(change, "held", held, whose) for change in held.changes]
    return made + [_finding_entry(finding, whose) for finding in result.plan.findings]


def _list(held: Sequence[Held], entries: Sequence[Entry], view: View, *, first: bool) -> None:
    """Print everything, each held set with its items."""
    sets = {one.scope: one for one in held}
    for entry in view.of(entries):
        scope = entry.plain.get("held_by")
        if scope is not None and (one := sets.pop(scope, None)) is not None:
            _release(one, first=first)
        for line in entry.lines:
            out.print(*((" ",) if scope is not None else ()), *line)


def _release(one: Held, *, first: bool) -> None:
    out.print(styled("bold red", "held"), f"{one.scope}: {one.reason} ({one.hash[:12]})")
    out.print("  to release it:", release_of(one.scope, one.hash, first=first))


def show_releases(held: Sequence[Held], *, first: bool) -> None:
    """Each held set in a line, with the one command that releases it."""
    single = [one for one in held if one.scope.startswith(BY_APPROVAL)]
    for one in held:
        if one not in single or len(single) <= 3:
            _release(one, first=first)
    if len(single) > 3:
        out.print(
            styled("bold red", "held"),
            f"{BY_APPROVAL}: {len(single)} records each need their own approval: panel-sync held --all",
        )


def release_of(scope: str, hash_: str, *, first: bool) -> str:
    """The command that releases a held set."""
    return "panel-sync reconcile --apply" if first and scope in FIRST_WORD else f"panel-sync approve {hash_[:12]}"


def rank_of(kind: str) -> int:
    """How much a change matters: first those that take a record away, then new owners, then new records, then
    others."""
    if kind in DELETES or kind == Kind.MERGE:
        return 1
    return 2 if kind == Kind.OWNER else 3 if kind in (Kind.CREATE, Kind.UNLINK) else 5


def _change_entry(change: Change, column: str, held: Held | None, whose: Mapping[str, Whose]) -> Entry:
    user_id = change.values.get("user_id") or change.user_id
    alone = held is not None and held.scope.startswith(BY_APPROVAL)
    of = whose.get(change.subject, NOBODY)
    return Entry(
        column,
        change.kind.value,
        6 if alone else rank_of(change.kind),
        tuple(_lines(change, of)),
        clusters_of(change),
        user_id,
        {
            "what": "apply" if held is None else "held",
            "class": change.kind.value,
            "subject": change.subject,
            "action": change.action,
            "reason": change.reason,
            "name": of.name or change.values.get("name"),
            "user_id": user_id,
            "clusters": sorted(clusters_of(change)),
            "values": {name: said for name, _, said in _values(change)},
            "held_by": held.scope if held is not None else None,
        },
        styled("bold red", "held") if held is not None else None,
    )


def _finding_entry(finding: Finding, whose: Mapping[str, Whose]) -> Entry:
    of = whose.get(finding.subject, whose.get(f"order:{finding.order_id}", NOBODY))
    cluster = finding.cluster or of.cluster
    return Entry(
        "findings",
        finding.class_,
        _SEVERITY.get(finding.severity, 4),
        ((styled("cyan", "finding"), f"{finding.class_} {finding.subject}: {finding.reason}"),),
        frozenset({cluster} if cluster is not None else ()),
        of.user_id,
        {
            "what": "finding",
            "class": finding.class_,
            "severity": finding.severity,
            "subject": finding.subject,
            "reason": finding.reason,
            "name": of.name,
            "user_id": of.user_id,
            "clusters": [cluster] if cluster is not None else [],
        },
    )


def _lines(change: Change, of: Whose) -> Iterator[tuple[Piece, ...]]:
    """The lines of one change, each in parts."""
    sign = styled(*SIGNS.get(change.action, ("yellow", "~")))
    named = f" ({of.said})" if of.said else ""
    yield sign, change.subject, styled("bold", f"{change.kind.value}:"), change.reason + named
    for name, old, said in _values(change):
        yield (f"    {SHOWN_AS.get(name, name)}: {said if old is None else f'{old} -> {said}'}",)


def _values(change: Change) -> Iterator[tuple[str, str | None, str]]:
    """(column, old value or None, new value)."""
    for name, value in _shown(change).items():
        if name.endswith(("_at", "_source", "_as_of", "_since", "_once")) or value is None:
            continue
        old = None if change.record is None else _plain(getattr(change.record, name, None))
        yield name, old, _plain(value)


def _shown(change: Change) -> Mapping[str, Any]:
    """The values of a change; those of a create under the names of a sync call, without its guest."""
    if not isinstance(change, Create):
        return change.values
    power = change.values["power_state"]
    called = {"power_state": "status", "ram_mb": "ram", "disk_gb": "disk"}
    values = {**change.values, "power_state": "creating" if power == PowerState.UNKNOWN else power}
    shown = {called.get(name, name): value for name, value in values.items() if name not in NOT_SHOWN_OF_A_CREATE}
    return shown | {"panel_vps_id": change.order.panel_vps_id}


NOT_SHOWN_OF_A_CREATE = frozenset({"order_state", *LINK_COLUMNS})


def _plain(value: Any) -> str:  # noqa: ANN401 - any column
    return "nothing" if value is None else str(getattr(value, "value", value))
