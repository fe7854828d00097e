"""``panel-sync held``, ``approve`` and ``reject``: the changes that wait for an operator, and the decision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Annotated, Any

import typer

from cli.environment import command_settings
from cli.operating.operator_transaction import operator, transaction
from cli.output.console import as_json, out
from cli.output.listing import FITS, Entry, Json, OfClass, OfCluster, OfUser, Page, PerPage, View, show
from cli.output.plan_view import release_of
from cli.output.progress import Working
from panel.operators.actions import holds
from panel.operators.actions.action import Action
from panel.operators.first_filling import first_word_given
from panel.operators.holds import HeldFilter, HeldSet, list_holds, with_approvals
from panel.records.labels import NO_LABEL, VpsLabel, labels_of, with_label
from panel.records.told import moment
from panel.terminal import styled
from reconcile.what_if import rank_of

EVERY = 10_000
"""How many sets are read at most. There can be many: a record that needs its own approval is a set by itself."""

Hashes = Annotated[
    list[str], typer.Argument(metavar="HASH...", help="As `panel-sync held` shows them; 8 characters or more of each.")
]


def held(
    decided: Annotated[
        bool, typer.Option("--all", help="Also the sets decided in the last 30 days, with every item.")
    ] = False,
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
        listed = list_holds(connection, HeldFilter(class_, cluster, user), decided=decided, limit=EVERY)
        sets = with_approvals(connection, listed, command_settings().second_approval_above)
        labels = labels_of(connection, {item["subject"] for held_set in sets for item in held_set.items})
        first = not first_word_given(connection)
    if json:
        shown = [held_set for held_set in sets if _entries(held_set, labels, view)]
        as_json([_as_json(held_set, labels, view, first=first) for held_set in shown])
        return
    if not sets and not view.filtered:
        out.print("nothing is held")
        return
    if view.filtered or sum(len(held_set.items) for held_set in sets) <= FITS or decided:
        _show_sets(sets, labels, view)
        return
    _show_summary(sets, labels, view, first=first)


def approve(held_sets: Hashes) -> None:
    """Approve held sets. The next run confirms each item once more by itself, then writes it.

    An item that changes before it is written drops out of the approval. The approval ends after 24 hours. The approval
    of the first set `creates` of a new panel covers every order that is known by then. A set that needs two operators
    (SECOND_APPROVAL_ABOVE) is refused here: a command cannot prove who gives it. Use /ops/held or the API.

    Examples: panel-sync approve 5dbac125; panel-sync approve 91fc0a3b 7c1102de

    Ends with 0; with 2, and nothing done, if one of them cannot be approved.
    """
    _decide(holds.approve, held_sets)


def reject(held_sets: Hashes) -> None:
    """Reject held sets. You are not asked about their items again for 30 days, unless an item changes.

    This also takes back the first of two approvals.

    Example: panel-sync reject 5dbac125

    Ends with 0; with 2, and nothing done, if one of them cannot be rejected.
    """
    _decide(holds.reject, held_sets)


def _decide(decision: Action[[str, int | None], HeldSet], prefixes: Sequence[str]) -> None:
    above = command_settings().second_approval_above
    with transaction() as connection:
        messages = [decision(connection, operator(), prefix, above).message for prefix in prefixes]
    for message in messages:
        out.print(message)


def _show_sets(sets: Sequence[HeldSet], labels: Mapping[str, VpsLabel], view: View) -> None:
    first, last = (view.page - 1) * view.limit, view.page * view.limit
    number = 0
    for held_set in sets:
        entries = _entries(held_set, labels, view)
        shown = entries if view.everything else entries[max(0, first - number) : max(0, last - number)]
        number += len(entries)
        if shown:
            _show_head(held_set)
            for entry in shown:
                for line in entry.lines:
                    out.print(*line)
    if view.filtered and not view.everything:
        out.print(f"{min(first + 1, number)} to {min(last, number)} of {number}")


def _show_summary(sets: Sequence[HeldSet], labels: Mapping[str, VpsLabel], view: View, *, first: bool) -> None:
    for held_set in sets:
        if held_set.by_approval:
            continue
        _show_head(held_set)
        out.print("  to release it:", _release(held_set, first=first))
    if by_approval := sum(held_set.by_approval for held_set in sets):
        out.print(
            f"{by_approval} records each need their own approval: panel-sync held --class orphan, then approve HASH..."
        )
    entries = [entry for held_set in sets for entry in _entries(held_set, labels, view)]
    show(entries, view, ("held",), "panel-sync held")


def _show_head(held_set: HeldSet) -> None:
    out.print(styled("bold", held_set.hash[:12]), f"{held_set.scope}: {held_set.reason}{_decided(held_set)}")


def _entries(held_set: HeldSet, labels: Mapping[str, VpsLabel], view: View) -> list[Entry]:
    return view.of(_entry(held_set, item, labels) for item in held_set.items)


def _entry(held_set: HeldSet, item: Mapping[str, Any], labels: Mapping[str, VpsLabel]) -> Entry:
    plain = with_label(item, labels)
    owner = labels.get(item["subject"], NO_LABEL).owner
    label = VpsLabel(plain["name"], plain["user_id"], plain["username"], owner=owner).text
    return Entry(
        "held",
        item["kind"],
        6 if held_set.by_approval else rank_of(item["kind"]),
        ((f"  {item['subject']} {item['kind']}: {item['reason']}" + (f" ({label})" if label else ""),),),
        frozenset(plain["clusters"]),
        plain["user_id"],
        plain,
    )


def _as_json(held_set: HeldSet, labels: Mapping[str, VpsLabel], view: View, *, first: bool) -> dict[str, Any]:
    return {
        "hash": held_set.hash,
        "scope": held_set.scope,
        "reason": held_set.reason,
        "created_at": held_set.created_at,
        "decision": held_set.decision,
        "decided_by": held_set.decided_by,
        "decided_at": held_set.decided_at,
        "needs_second": held_set.needs_second,
        "approvals": [asdict(approval) for approval in held_set.approvals],
        "released": held_set.released,
        "release": _release(held_set, first=first),
        "items_total": len(held_set.items),
        "items": [entry.plain for entry in _entries(held_set, labels, view)],
    }


def _release(held_set: HeldSet, *, first: bool) -> str:
    return release_of(held_set.scope, held_set.hash, first=first, second=held_set.needs_second)


def _decided(held_set: HeldSet) -> str:
    if held_set.waits_for_second:
        given = ", ".join(
            f"{one.by} at {moment(one.at)} UTC"
            + (f" ({one.items} of {len(held_set.items)} items)" if one.items < len(held_set.items) else "")
            for one in held_set.approvals
        )
        return f" — approved by {given}, needs a second operator"
    if held_set.decided_by:
        return f" — {held_set.decision} by {held_set.decided_by}"
    return f" — {held_set.decision}" if held_set.decision else " — needs two operators" * held_set.needs_second
