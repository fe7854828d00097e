"""What operators look at: what is held, found and journaled, runs, sources, numbers, and who did what."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel
from sqlalchemy import Connection
from starlette.responses import Response

from api import openapi
from api.client.record_view import MAX_ID
from api.dependencies import EdgeOf, Operator
from api.operators import operator_models
from api.operators.answering import asked, data
from api.operators.audit_models import AuditAnswer
from panel.journal.dead_letters import list_dead
from panel.operators.audit import list_access, list_actions, list_refused_calls
from panel.operators.findings import FindingFilter, finding_as_json, list_findings
from panel.operators.holds import list_holds
from panel.operators.metrics import metrics
from panel.operators.pauses import current_pauses
from panel.operators.quarantine import list_quarantined
from panel.records.history import recent_runs, vps_history
from panel.records.ownership import described, whose
from panel.runs.source_states import list_sources

router = APIRouter(prefix="/api/ops", tags=["operators"])

READS = openapi.problems(401, 404, 422, 429, 500, 503)

VpsId = Annotated[int, Path(ge=1, le=MAX_ID)]
Limit = Annotated[int, Query(ge=1, le=1000)]
Offset = Annotated[int, Query(ge=0, le=1_000_000, description="How many to leave out: the next page")]
OfClass = Annotated[str | None, Query(alias="class", pattern=r"^[a-z-]{1,64}$")]
OfCluster = Annotated[str | None, Query(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$")]
OfUser = Annotated[int | None, Query(ge=1, le=MAX_ID, description="The panel's id of a customer")]


@router.get("/held", summary="Held sets", responses={200: {"model": operator_models.HeldAnswer}, **READS})
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
    """The sets of changes that exceed a limit and wait for a decision; ``all``: decided ones of 30 days too.

    With ``class``, ``cluster`` or ``user`` only the items about it, and the sets that have some.
    """

    def wanted(item: dict[str, Any]) -> bool:
        return (
            class_ in (None, item["kind"])
            and (cluster is None or cluster in item["clusters"])
            and user in (None, item["user_id"])
        )

    def look(connection: Connection) -> list[dict[str, Any]]:
        found = list_holds(connection, decided=everything, limit=limit, offset=offset)
        of = whose(connection, {item["subject"] for one in found for item in one.items})
        shown = []
        for one in found:
            items = [item for item in (described(item, of) for item in one.items) if wanted(item)]
            if items:
                shown.append(asdict(one) | {"items": items, "items_total": len(one.items)})
        return shown

    return data(await asked(edge, look))


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
    """What runs found and may not mend, the loudest first; ``all``: snoozed, ignored and resolved ones too."""
    wanted = FindingFilter(class_, cluster, user)
    found = await asked(edge, lambda c: list_findings(c, wanted, everything=everything, limit=limit, offset=offset))
    return data([finding_as_json(one) for one in found])


@router.get("/vps/{vps_id:id}/history", responses={200: {"model": operator_models.HistoryAnswer}, **READS})
async def get_history(edge: EdgeOf, _by: Operator, vps_id: VpsId) -> Response:
    """Why is this VPS as it is: every change with its reason, evidence, before and after."""
    history = await asked(edge, lambda c: vps_history(c, vps_id))
    live = history.record is not None and history.record.deleted_at is None
    listed = [_part_of(row, operator_models.JournalEntry) for row in history.operations]
    identity = asdict(history.identity) if history.identity is not None else None
    story = {"vps_id": vps_id, "live": live, "entries": listed, "removed": history.removed, "identity": identity}
    return data(story)


@router.get("/runs", summary="Runs", responses={200: {"model": operator_models.RunsAnswer}, **READS})
async def get_runs(
    edge: EdgeOf,
    _by: Operator,
    kind: Annotated[str | None, Query(pattern="^(full|fast|plan)$")] = None,
    limit: Limit = 20,
) -> Response:
    """What the reconciler did lately, newest first."""
    found = await asked(edge, lambda c: recent_runs(c, kind=kind, limit=limit))
    return data([_part_of(row, operator_models.RunView) for row in found])


@router.get("/sources", summary="Sources", responses={200: {"model": operator_models.SourcesAnswer}, **READS})
async def get_sources(edge: EdgeOf, _by: Operator) -> Response:
    """When each was last read completely; which are not believed, since when, why, what to do; which are paused."""

    def look(connection: Connection) -> list[dict[str, Any]]:
        current_pauses(connection)  # one whose time is over is none
        return [asdict(one) for one in list_sources(connection)]

    return data(await asked(edge, look))


@router.get("/pauses", summary="Pauses", responses={200: {"model": operator_models.PausesAnswer}, **READS})
async def get_pauses(edge: EdgeOf, _by: Operator) -> Response:
    """What is paused now, by whom, why and until when."""
    found = await asked(edge, current_pauses)
    return data([asdict(one) for one in found.values()])


@router.get("/quarantine", summary="Quarantine", responses={200: {"model": operator_models.QuarantineAnswer}, **READS})
async def get_quarantine(edge: EdgeOf, _by: Operator, limit: Limit = 200) -> Response:
    """What runs failed at again and again, why, and when it is tried again."""
    found = await asked(edge, lambda c: list_quarantined(c, limit))
    return data([asdict(one) for one in found])


@router.get("/dead", summary="Dead calls", responses={200: {"model": operator_models.DeadAnswer}, **READS})
async def get_dead(edge: EdgeOf, _by: Operator, limit: Limit = 100) -> Response:
    """Calls that were accepted and failed for good, newest first."""
    found = await asked(edge, lambda c: list_dead(c, limit))
    return data([asdict(one) for one in found])


@router.get("/metrics", summary="Numbers", responses={200: {"model": operator_models.MetricsAnswer}, **READS})
async def get_metrics(edge: EdgeOf, _by: Operator) -> Response:
    """Numbers for monitoring: the journal, runs, sources, findings, held sets, pauses, quarantine, repairs."""
    return data(await asked(edge, metrics))


@router.get("/audit", summary="Audit", responses={200: {"model": AuditAnswer}, **READS})
async def get_audit(
    edge: EdgeOf,
    _by: Operator,
    refused: Annotated[bool, Query(description="Of uses only those that were refused")] = False,
    limit: Limit = 100,
) -> Response:
    """What operators decided, how each credential was used, hour by hour, and refused sync calls; newest first."""

    def look(connection: Connection) -> dict[str, Any]:
        return {
            "actions": [asdict(one) for one in list_actions(connection, limit)],
            "access": [asdict(one) for one in list_access(connection, limit, refused=refused)],
            "refused_calls": [asdict(one) for one in list_refused_calls(connection, limit)],
        }

    return data(await asked(edge, look))


def _part_of(row: Any, model: type[BaseModel]) -> dict[str, Any]:  # noqa: ANN401 - a Row
    return {name: row._mapping[name] for name in model.model_fields}
