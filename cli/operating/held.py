"""``panel-sync held``, ``approve`` and ``reject``: what waits for a decision, whose it is, and the decision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from cli.operating.acting import operator, transaction
from cli.output.console import as_json, out
from cli.output.listing import FITS, Entry, Json, OfClass, OfCluster, OfUser, Page, PerPage, View, show
from cli.output.plan_view import rank_of, release_of
from cli.output.progress import Working
from panel.operators.actions import holds
from panel.operators.actions.action import Action
from panel.operators.first_filling import first_word_given
from panel.operators.holds import HeldSet, list_holds
from panel.records.ownership import NOBODY, Whose, described, whose
from panel.terminal import styled

EVERY = 10_000
"""Sets at most: those that wait for a word of their own are one for each record."""

Hashes = Annotated[
    list[str], typer.Argument(metavar="HASH...", help="As `panel-sync held` shows them; 8 characters or more of each.")
]


def held(
    decided: Annotated[bool, typer.Option("--all", help="Decided sets of the last 30 days too, every item.")] = False,
    class_: OfClass = None,
    cluster: OfCluster = None,
    user: OfUser = None,
    page: Page = 1,
    limit: PerPage = 50,
    json: Json = False,
) -> None:
    """List the sets of changes that wait for a decision, each item with its VPS and its customer.

    Many items are summed up; a filter, --all or --json shows them one by one.

    Examples: panel-sync held; panel-sync held --user 5; panel-sync held --class missed-create --page 2

    Ends with 0, whether something is held or not.
    """
    view = View(class_, cluster, user, page, limit, everything=decided)
    with Working("reading what is held"), transaction() as connection:
        found = list_holds(connection, decided=decided, limit=EVERY)
        of = whose(connection, {item["subject"] for one in found for item in one.items})
        first = not first_word_given(connection)
    if json:
        as_json([_as_json(one, of, view, first=first) for one in found if _entries(one, of, view)])
        return
    if not found:
        out.print("nothing is held")
        return
    if view.filtered or sum(len(one.items) for one in found) <= FITS or decided:
        _show_sets(found, of, view)
        return
    _show_summary(found, of, view, first=first)


def approve(held_sets: Hashes) -> None:
    """Let held sets happen. Each item is still confirmed by itself before it is written.

    An item that changes before that drops out of the approval; after 24 hours all of them do. To approve the first
    `creates` of a new panel covers every order that is known by then.

    Examples: panel-sync approve 5dbac125; panel-sync approve 91fc0a3b 7c1102de

    Ends with 0; with 2, and nothing done, if one of them cannot be approved.
    """
    _decide(holds.approve, held_sets)


def reject(held_sets: Hashes) -> None:
    """Refuse held sets: their items stay as they are and are not asked about again while they do not change.

    Example: panel-sync reject 5dbac125

    Ends with 0; with 2, and nothing done, if one of them cannot be refused.
    """
    _decide(holds.reject, held_sets)


def _decide(decision: Action[[str], HeldSet], prefixes: Sequence[str]) -> None:
    with transaction() as connection:
        said = [decision(connection, operator(), prefix).message for prefix in prefixes]
    for one in said:
        out.print(one)


def _show_sets(found: Sequence[HeldSet], of: Mapping[str, Whose], view: View) -> None:
    first, last = (view.page - 1) * view.limit, view.page * view.limit
    number = 0
    for one in found:
        entries = _entries(one, of, view)
        shown = entries if view.everything else entries[max(0, first - number) : max(0, last - number)]
        number += len(entries)
        if shown:
            out.print(styled("bold", one.hash[:12]), f"{one.scope}: {one.reason}{_decided(one)}")
            for entry in shown:
                for line in entry.lines:
                    out.print(*line)
    if view.filtered and not view.everything:
        out.print(f"{min(first + 1, number)} to {min(last, number)} of {number}")


def _show_summary(found: Sequence[HeldSet], of: Mapping[str, Whose], view: View, *, first: bool) -> None:
    alone = [one for one in found if one.by_approval]
    for one in found:
        if one.by_approval:
            continue
        out.print(styled("bold", one.hash[:12]), f"{one.scope}: {one.reason}{_decided(one)}")
        out.print("  to release it:", release_of(one.scope, one.hash, first=first))
    if alone:
        out.print(
            f"{len(alone)} records wait for a word of their own: panel-sync held --class orphan, then approve HASH..."
        )
    entries = [entry for one in found for entry in _entries(one, of, view)]
    show(entries, view, ("held",), "panel-sync held")


def _entries(one: HeldSet, of: Mapping[str, Whose], view: View) -> list[Entry]:
    return view.of(_entry(one, item, of) for item in one.items)


def _entry(one: HeldSet, item: Mapping[str, Any], of: Mapping[str, Whose]) -> Entry:
    plain = described(item, of)
    whole = of.get(item["subject"], NOBODY)
    said = Whose(plain["name"], plain["user_id"], plain["username"], owner=whole.owner).said
    return Entry(
        "held",
        item["kind"],
        6 if one.by_approval else rank_of(item["kind"]),
        ((f"  {item['subject']} {item['kind']}: {item['reason']}" + (f" ({said})" if said else ""),),),
        frozenset(plain["clusters"]),
        plain["user_id"],
        plain,
    )


def _as_json(one: HeldSet, of: Mapping[str, Whose], view: View, *, first: bool) -> dict[str, Any]:
    return {
        "hash": one.hash,
        "scope": one.scope,
        "reason": one.reason,
        "created_at": one.created_at,
        "decision": one.decision,
        "decided_by": one.decided_by,
        "decided_at": one.decided_at,
        "release": release_of(one.scope, one.hash, first=first),
        "items_total": len(one.items),
        "items": [entry.plain for entry in _entries(one, of, view)],
    }


def _decided(one: HeldSet) -> str:
    if one.decided_by:
        return f" — {one.decision} by {one.decided_by}"
    return f" — {one.decision}" if one.decision else ""
