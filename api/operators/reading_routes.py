"""The routes that operators read: held sets, findings, histories, runs, sources, pauses, quarantine, dead calls,
events for the main site, metrics, the service level and the audit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel
from sqlalchemy import Connection
from starlette.responses import Response

from api import openapi
from api.dependencies import EdgeOf, Operator
from api.operators import operator_models
from api.operators.audit_models import AuditAnswer
from api.operators.held_models import HeldAnswer
from api.operators.power_models import PowerEntry
from api.operators.reports.service_level_models import ServiceLevelsAnswer
from api.operators.transactions import data_response, in_transaction
from api.operators.webhook_models import WebhooksAnswer
from domain.record_columns import MAX_ID
from panel.journal.dead_letters import list_dead
from panel.operators.audit import list_access, list_actions, list_refused_calls
from panel.operators.findings import FindingFilter, FindingView, finding_as_json, list_findings
from panel.operators.holds import HeldFilter, HeldSet, list_holds, with_approvals
from panel.operators.metrics import metrics
from panel.operators.pauses import current_pauses
from panel.operators.quarantine import list_quarantined
from panel.operators.service_levels import service_levels
from panel.records.history import History, recent_runs, vps_history
from panel.records.labels import VpsLabel, labels_of, with_label
from panel.runs.source_states import SourceView, list_sources
from panel.webhooks.views import EndpointView, EventView, State, endpoint, list_events

router = APIRouter(prefix="/api/ops", tags=["operators"])

READS = openapi.problems(401, 404, 422, 429, 500, 503)

VpsId = Annotated[int, Path(ge=1, le=MAX_ID)]
Limit = Annotated[int, Query(ge=1, le=1000)]
Offset = Annotated[int, Query(ge=0, le=1_000_000, description="How many to leave out: the next page")]
OfClass = Annotated[str | None, Query(alias="class", pattern=r"^[a-z-]{1,64}$")]
OfCluster = Annotated[str | None, Query(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$")]
OfUser = Annotated[int | None, Query(ge=1, le=MAX_ID, description="The panel's id of a customer")]


@router.get("/held", summary="Held sets", responses={200: {"model": HeldAnswer}, **READS})
async def get_held(
    edge: EdgeOf,
    _by: Operator,
    everything: Annotated[bool, Query(alias="all")] = False,
    class_: OfClass = None,
    cluster: OfCluster = None,
    user: OfUser = None,
    limit: Limit = 100,
    offset: Offset = 0,
) -> Response:
    """The sets of changes that wait for a decision; ``all``: also those that were decided in the last 30 days.

    ``class``, ``cluster`` and ``user`` leave only the items about them, and only the sets that have such items.
    """

    wanted = HeldFilter(class_, cluster, user)

    def read(connection: Connection) -> tuple[list[HeldSet], Mapping[str, VpsLabel]]:
        listed = list_holds(connection, wanted, decided=everything, limit=limit, offset=offset)
        held_sets = with_approvals(connection, listed, edge.settings.second_approval_above)
        return held_sets, labels_of(connection, {item["subject"] for one in held_sets for item in one.items})

    def shown(what: tuple[list[HeldSet], Mapping[str, VpsLabel]]) -> list[dict[str, Any]]:
        answered, (held_sets, labels) = [], what
        for held_set in held_sets:
            items = [item for item in (with_label(item, labels) for item in held_set.items) if wanted.matches(item)]
            if items:
                told = {field.name: getattr(held_set, field.name) for field in fields(held_set)}
                answered.append(told | {"items": items, "items_total": len(held_set.items)})
        return answered

    return await data_response(await in_transaction(edge, read), shown)


@router.get("/findings", summary="Findings", responses={200: {"model": operator_models.FindingsAnswer}, **READS})
async def get_findings(
    edge: EdgeOf,
    _by: Operator,
    class_: OfClass = None,
    everything: Annotated[bool, Query(alias="all")] = False,
    cluster: OfCluster = None,
    user: OfUser = None,
    limit: Limit = 200,
    offset: Offset = 0,
) -> Response:
    """The open findings, the most severe first. ``all``: also the snoozed and ignored ones, and those that were
    resolved in the last 30 days."""

    def read(connection: Connection) -> list[FindingView]:
        wanted = FindingFilter(class_, cluster, user)
        return list_findings(connection, wanted, everything=everything, limit=limit, offset=offset)

    return await data_response(await in_transaction(edge, read), lambda found: [finding_as_json(one) for one in found])


@router.get("/vps/{vps_id:id}/history", responses={200: {"model": operator_models.HistoryAnswer}, **READS})
async def get_history(edge: EdgeOf, _by: Operator, vps_id: VpsId, limit: Limit = 1000, offset: Offset = 0) -> Response:
    """Why this VPS is as it is: every change with its reason, its evidence, and the values before and after.

    ``limit``: so many of the latest changes, oldest first. ``offset`` leaves out the very latest ones.
    """

    def read(connection: Connection) -> History:
        return vps_history(connection, vps_id, limit=limit, offset=offset)

    def shown(history: History) -> dict[str, Any]:
        live = history.record is not None and history.record.deleted_at is None
        entries = [_fields_of(row, operator_models.JournalEntry) for row in history.operations]
        told = {"entries": entries, "older": history.older, "removed": history.removed, "identity": history.identity}
        power = [_fields_of(row, PowerEntry) for row in history.power]
        return {"vps_id": vps_id, "live": live, **told, "power": power}

    return await data_response(await in_transaction(edge, read), shown)


@router.get("/runs", summary="Runs", responses={200: {"model": operator_models.RunsAnswer}, **READS})
async def get_runs(
    edge: EdgeOf,
    _by: Operator,
    kind: Annotated[str | None, Query(pattern="^(full|fast|plan)$")] = None,
    limit: Limit = 20,
) -> Response:
    """The latest runs, newest first."""
    runs = await in_transaction(edge, lambda connection: recent_runs(connection, kind=kind, limit=limit))
    return await data_response(runs, lambda rows: [_fields_of(row, operator_models.RunView) for row in rows])


@router.get("/sources", summary="Sources", responses={200: {"model": operator_models.SourcesAnswer}, **READS})
async def get_sources(edge: EdgeOf, _by: Operator) -> Response:
    """Each source: when it was last read completely, and whether it is paused. If it is not believed: since when, why,
    and what to do."""

    def read(connection: Connection) -> list[SourceView]:
        current_pauses(connection)  # deletes the pauses whose time is over, and resolves their findings
        return list_sources(connection)

    return await data_response(await in_transaction(edge, read))


@router.get("/pauses", summary="Pauses", responses={200: {"model": operator_models.PausesAnswer}, **READS})
async def get_pauses(edge: EdgeOf, _by: Operator) -> Response:
    """The pauses in force: what is paused, by whom, why and until when."""
    return await data_response(list((await in_transaction(edge, current_pauses)).values()))


@router.get("/quarantine", summary="Quarantine", responses={200: {"model": operator_models.QuarantineAnswer}, **READS})
async def get_quarantine(edge: EdgeOf, _by: Operator, limit: Limit = 200) -> Response:
    """The subjects at which runs keep failing, why, and when runs try them again."""
    return await data_response(await in_transaction(edge, lambda connection: list_quarantined(connection, limit)))


@router.get("/dead", summary="Dead calls", responses={200: {"model": operator_models.DeadAnswer}, **READS})
async def get_dead(edge: EdgeOf, _by: Operator, limit: Limit = 100) -> Response:
    """Calls that were accepted and failed for good, newest first."""
    return await data_response(await in_transaction(edge, lambda connection: list_dead(connection, limit)))


@router.get("/webhooks", summary="Events for the main site", responses={200: {"model": WebhooksAnswer}, **READS})
async def get_webhooks(
    edge: EdgeOf,
    _by: Operator,
    state: Annotated[State | None, Query()] = None,
    vps: Annotated[int | None, Query(ge=1, le=MAX_ID, description="Only those of this VPS")] = None,
    limit: Limit = 100,
) -> Response:
    """How the main site takes events, and the latest of them: which wait, which were given up, and why."""

    def read(connection: Connection) -> dict[str, EndpointView | list[EventView]]:
        return {"endpoint": endpoint(connection), "events": list_events(connection, state, vps_id=vps, limit=limit)}

    return await data_response(await in_transaction(edge, read))


@router.get("/metrics", summary="Numbers", responses={200: {"model": operator_models.MetricsAnswer}, **READS})
async def get_metrics(edge: EdgeOf, _by: Operator) -> Response:
    """Numbers for monitoring: the journal, runs, sources, findings, held sets, pauses, quarantine, repairs."""
    return await data_response(await in_transaction(edge, metrics))


@router.get("/service-levels", summary="Service level", responses={200: {"model": ServiceLevelsAnswer}, **READS})
async def get_service_levels(edge: EdgeOf, _by: Operator) -> Response:
    """By class of drift: what is open and since when; of the last 24 hours and 30 days, how many differences runs
    mended, how long they had lasted, and the share that was mended within `MEND_WITHIN_S`."""
    within_s = edge.settings.mend_within_s
    return await data_response(await in_transaction(edge, lambda connection: service_levels(connection, within_s)))


@router.get("/audit", summary="Audit", responses={200: {"model": AuditAnswer}, **READS})
async def get_audit(
    edge: EdgeOf,
    _by: Operator,
    refused: Annotated[bool, Query(description="Of the uses of credentials, only the refused ones")] = False,
    limit: Limit = 100,
) -> Response:
    """Operators' decisions, the uses of each credential hour by hour, and the refused sync calls; newest first."""

    def read(connection: Connection) -> dict[str, Any]:
        return {
            "actions": list_actions(connection, limit),
            "access": list_access(connection, limit, refused=refused),
            "refused_calls": list_refused_calls(connection, limit),
        }

    return await data_response(await in_transaction(edge, read))


def _fields_of(row: Any, model: type[BaseModel]) -> dict[str, Any]:  # noqa: ANN401 - a Row
    return {name: row._mapping[name] for name in model.model_fields}
