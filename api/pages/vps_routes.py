"""The list of a customer's VPS, and the page of one with its power buttons."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response

from api.client.power_requests import accept, require_own
from api.client.record_view import cursor_after, id_before
from api.client.statistics_requests import statistics_of
from api.dependencies import Edge, EdgeOf
from api.http.problems import ProblemError
from api.pages.rendering import PageRoute, link, page, redirect
from api.pages.shown_activity import happened
from api.pages.shown_power import HARD, NOT_CHECKED, WISHES, ShownPower, shown_power, wish_of
from api.pages.shown_statistics import ShownStatistics, shown_statistics
from api.pages.shown_vps import ShownVps, shown
from api.pages.sign_in_routes import main_site_of
from api.pages.signed_in import LOAD_ANEW, Customer, SignedIn, session_form
from domain.record_columns import MAX_ID, STATUSES
from domain.statistics.measurements import Timeframe
from panel.journal.calls import DatabaseAwayError
from panel.power.facts import PowerRules
from panel.power.requests import Wanted
from panel.power.views import actions_query, hindrance_now, open_actions_query
from panel.records.client_activity import activity_query
from panel.records.client_records import records_query
from panel.records.maintenance import ANY_PAUSE, paused_among
from panel.statistics.requests import Wanted as WantedStatistics

router = APIRouter(include_in_schema=False, route_class=PageRoute)

PER_PAGE = 25
AGES_RENEWED_EVERY_S = 60
"""How often a list that shows ages is read again."""
RENEWED_EVERY_S = 300
"""How often any other list is read again, besides whenever its stream tells of a change. No stream tells of a pause by
operators, and a page may have no stream."""
CHANGES = 30
"""How many changes and power actions the page of a VPS shows, the newest ones."""

CONTROL = re.compile(r"[\x00-\x1f\x7f]+")

VpsId = Annotated[int, Path(ge=1, le=MAX_ID)]
Status = Literal["", "creating", "running", "stopped", "suspended", "error"]


@router.get("/")
async def list_vps(
    request: Request,
    edge: EdgeOf,
    customer: Customer,
    q: Annotated[str, Query(max_length=255)] = "",
    status: Status = "",
    cursor: str | None = None,
) -> Response:
    """The customer's VPS, newest first, a page at a time."""
    search = CONTROL.sub(" ", q).strip()
    before = id_before(cursor) if cursor is not None else None
    wanted = records_query(customer.user_id, status=status, search=search, before_id=before, limit=PER_PAGE + 1)
    began = request.scope["began"]
    [pauses], rows, open_ones = await edge.read(
        edge.clients.rows_as_client(customer.user_id, wanted, open_actions_query(customer.user_id), before=[ANY_PAUSE]),
        began,
    )
    paused = await _paused(edge, rows, began) if pauses["in_force"] else frozenset()
    asked = {name: value for name, value in (("q", search), ("status", status)) if value}
    all_vps = [shown(row, paused=row["id"] in paused) for row in rows[:PER_PAGE]]
    following = None
    if len(rows) > PER_PAGE:
        following = link("/?" + urlencode(asked | {"cursor": cursor_after(rows[PER_PAGE - 1]["id"])}))
    return page(
        request,
        "list.html",
        all_vps=all_vps,
        renewed_every_s=AGES_RENEWED_EVERY_S if any(vps.tells_age for vps in all_vps) else RENEWED_EVERY_S,
        under_way={one["vps_id"]: wish_of(one["action"], force=one["force"]) for one in open_ones},
        statuses=STATUSES,
        search=search,
        status=status,
        first=link("/?" + urlencode(asked)) if before is not None else None,
        following=following,
        main_site=main_site_of(edge),
    )


@router.get("/vps/{vps_id:id}")
async def one_vps(
    request: Request, edge: EdgeOf, customer: Customer, vps_id: VpsId, timeframe: Timeframe = Timeframe.HOUR
) -> Response:
    """One VPS, its statistics and what happened to it. Another customer's does not exist for this one."""
    return await _vps_page(request, edge, customer, vps_id, timeframe=timeframe)


@router.post("/vps/{vps_id:id}/power")
async def switch(request: Request, edge: EdgeOf, customer: Customer, vps_id: VpsId) -> Response:
    """A button of the page asks for a power action. A refusal is the page again, with a notice that says why."""
    fields = await session_form(request, customer.token)
    wish = fields.get("action", "")
    if wish not in WISHES:
        raise ProblemError(422, "invalid_field", f"action must be one of {', '.join(WISHES)}", field="action")
    action, force = WISHES[wish]
    await require_own(edge, customer.user_id, vps_id, request.scope["began"])
    wanted = Wanted(vps_id, customer.user_id, action, force, request.scope["request_id"], request.scope["traceparent"])
    refused = await _refusal(edge, wanted, sure=wish not in HARD or fields.get("sure") == "yes")
    if refused is None:
        return redirect(f"/vps/{vps_id}")
    request.scope["problem_code"] = refused.code  # for the audit of use
    try:
        return await _vps_page(request, edge, customer, vps_id, refused)
    except DatabaseAwayError:
        if refused.code != "outcome_unknown":
            raise
        raise refused from None  # "the panel cannot read its data" would say nothing of the action


async def _refusal(edge: Edge, wanted: Wanted, *, sure: bool) -> ProblemError | None:
    """Ask for the action. Returns why it was refused, or None once it is accepted."""
    if not sure:
        return ProblemError(422, "confirmation_missing", "sure must be yes", field="sure")
    try:
        await accept(edge, wanted)
    except ProblemError as refused:
        return refused
    return None


async def _vps_page(
    request: Request,
    edge: Edge,
    customer: SignedIn,
    vps_id: int,
    refused: ProblemError | None = None,
    timeframe: Timeframe = Timeframe.HOUR,
) -> Response:
    """The page of one VPS. ``refused``: why the button that was pressed did nothing."""
    began = request.scope["began"]
    user_id = customer.user_id
    [pauses], rows, history, actions = await edge.read(
        edge.clients.rows_as_client(
            user_id,
            records_query(user_id, vps_id=vps_id),
            activity_query(vps_id, limit=CHANGES),
            actions_query(user_id, vps_id, limit=CHANGES),
            before=[ANY_PAUSE],
        ),
        began,
    )
    if not rows:
        raise ProblemError(404, "vps_unknown", f"VPS {vps_id} does not exist", headers=LOAD_ANEW)
    paused = await _paused(edge, rows, began) if pauses["in_force"] else frozenset()
    vps = shown(rows[0], paused=vps_id in paused)
    return page(
        request,
        "vps.html",
        200 if refused is None else refused.status_code,
        None if refused is None else refused.headers,
        here=f"/vps/{vps_id}",  # also after a form of the page was refused
        vps=vps,
        power=await _power_of(edge, customer, vps, actions, began) if edge.settings.power_actions else None,
        statistics=await _statistics_of(edge, customer, vps_id, timeframe, began),
        refused=None if refused is None else refused.code,
        changes=happened(history, actions, CHANGES),
        main_site=main_site_of(edge),
    )


async def _paused(edge: Edge, rows: Sequence[Mapping[str, Any]], began: float) -> frozenset[int]:
    """Those of a customer's records that operators paused."""
    return await edge.read(paused_among(edge.reader, [row["id"] for row in rows]), began)


async def _statistics_of(
    edge: Edge, customer: SignedIn, vps_id: int, timeframe: Timeframe, began: float
) -> ShownStatistics | None:
    """What is kept of them; newer ones are asked for, and not waited for. None: the panel reads no Proxmox."""
    if not edge.settings.proxmox_clusters:
        return None
    try:
        return shown_statistics(await statistics_of(edge, WantedStatistics(vps_id, customer.user_id, timeframe), began))
    except (DatabaseAwayError, ProblemError) as error:  # the page must not fail with them
        code = error.code if isinstance(error, ProblemError) and error.status_code == 429 else "not_read"
        return ShownStatistics(timeframe, code=code)


async def _power_of(
    edge: Edge, customer: SignedIn, vps: ShownVps, actions: Sequence[Mapping[str, Any]], began: float
) -> ShownPower:
    vps_id = vps.view["id"]
    rules = PowerRules.of(edge.settings)
    try:
        hindrance = await edge.read(hindrance_now(edge.reader, customer.user_id, vps_id, rules), began)
    except DatabaseAwayError:  # it looks at many tables; the page must not fail with it
        hindrance = NOT_CHECKED
    return shown_power(vps.view["power_state"], actions[0] if actions else None, hindrance)
