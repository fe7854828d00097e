"""Held sets: what waits for a decision, one set, and the decision after a page that asks once more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from sqlalchemy import Connection
from starlette.responses import Response

from api.dependencies import Edge, EdgeOf
from api.operator_pages.pages_of import neighbours
from api.operator_pages.signed_in_operator import Operator, OperatorPageRoute, action_form, perform
from api.operators.transactions import in_transaction
from api.pages.rendering import large_page
from panel.operators.actions import holds, sources
from panel.operators.actions.action import Action
from panel.operators.first_filling import first_word_given
from panel.operators.holds import HeldSet, held_set, list_holds, with_approvals
from panel.records.labels import labels_of, with_label

router = APIRouter(prefix="/ops/held", include_in_schema=False, route_class=OperatorPageRoute)

SETS = 20
"""Sets on a page of the list."""
FIRST_ITEMS = 5
"""Changes of each set that the list shows."""
ITEMS = 100
"""Changes on a page of one set."""
NAMED = 200
"""Records that the page which asks once more names at most."""

Hash = Annotated[str, Path(pattern="^[0-9a-f]{64}$")]
PageNumber = Annotated[int, Query(alias="page", ge=1, le=100_000)]


class Decision(StrEnum):
    """As an address says it."""

    APPROVE = "approve"
    REJECT = "reject"


DECIDE: Mapping[Decision, Action[[str, int | None], HeldSet]] = {
    Decision.APPROVE: holds.approve,
    Decision.REJECT: holds.reject,
}


@dataclass(frozen=True, slots=True)
class ShownSet:
    """A set with some of its items, each with its VPS's name and customer. ``actions``: how many of each."""

    set: HeldSet
    items: list[dict[str, Any]]
    actions: dict[str, int]


def _shown(connection: Connection, one: HeldSet, items: list[dict[str, Any]]) -> ShownSet:
    labels = labels_of(connection, {item["subject"] for item in items})
    actions = Counter(item["action"] for item in one.items)
    return ShownSet(one, [with_label(item, labels) for item in items], dict(actions.most_common()))


def _with_approvals(edge: Edge, connection: Connection, hash_: str) -> HeldSet:
    return with_approvals(connection, [held_set(connection, hash_)], edge.settings.second_approval_above)[0]


@router.get("")
async def list_held(request: Request, edge: EdgeOf, operator: Operator, number: PageNumber = 1) -> Response:
    """The open sets. Those that exceed a limit come first."""

    def read(connection: Connection) -> tuple[list[ShownSet], bool, bool]:
        found = list_holds(connection, limit=SETS + 1, offset=(number - 1) * SETS)
        told = with_approvals(connection, found[:SETS], edge.settings.second_approval_above)
        shown = [_shown(connection, one, list(one.items[:FIRST_ITEMS])) for one in told]
        return shown, len(found) > SETS, first_word_given(connection)

    sets, more, begun = await in_transaction(edge, read)
    return await large_page(
        request,
        "operators/held.html",
        sets=sets,
        first=bool(sets) and not begun and not edge.settings.demo,
        may_decide=operator.may(holds.approve),
        may_begin=operator.may(sources.acknowledge),
        **neighbours("/ops/held", {}, number, more=more),
    )


@router.get("/{hash_}")
async def show_set(request: Request, edge: EdgeOf, operator: Operator, hash_: Hash, number: PageNumber = 1) -> Response:
    """One set with all its changes, a page at a time."""
    first = (number - 1) * ITEMS

    def read(connection: Connection) -> ShownSet:
        one = _with_approvals(edge, connection, hash_)
        return _shown(connection, one, list(one.items[first : first + ITEMS]))

    one = await in_transaction(edge, read)
    around = neighbours(f"/ops/held/{hash_}", {}, number, more=len(one.set.items) > first + ITEMS)
    return await large_page(
        request, "operators/held_set.html", one=one, may_decide=operator.may(holds.approve), **around
    )


@router.get("/{hash_}/{decision}")
async def ask_once_more(
    request: Request, edge: EdgeOf, operator: Operator, hash_: Hash, decision: Decision
) -> Response:
    """The page before a decision. It names each record that the decision deletes or keeps."""

    def read(connection: Connection) -> tuple[ShownSet, ShownSet]:
        one = _with_approvals(edge, connection, hash_)
        gone = [item for item in one.items if item["action"] in {"delete", "merge"}]
        return _shown(connection, one, list(one.items[:ITEMS])), _shown(connection, one, gone[:NAMED])

    one, gone = await in_transaction(edge, read)
    count = one.actions.get("delete", 0) + one.actions.get("merge", 0)
    return await large_page(
        request,
        "operators/held_confirm.html",
        one=one,
        gone=gone.items,
        gone_count=count,
        decision=decision.value,
        may_decide=operator.may(DECIDE[decision]),
    )


@router.post("/{hash_}/{decision}")
async def decide(request: Request, edge: EdgeOf, operator: Operator, hash_: Hash, decision: Decision) -> Response:
    """Approve or reject exactly the set that was shown."""
    action = DECIDE[decision]
    await action_form(request, operator, action)
    return await perform(edge, operator, action, f"/ops/held/{hash_}", hash_, edge.settings.second_approval_above)
