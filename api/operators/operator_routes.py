"""The operators' side: what is held, found and journaled, and what they decide about it. Own key, own paths."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from datetime import timedelta
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Path, Query, Request
from fastapi.encoders import jsonable_encoder
from pydantic import BaseModel, ValidationError
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.responses import JSONResponse, Response

from api import openapi
from api.client.record_view import MAX_ID
from api.dependencies import Acting, Edge, EdgeOf, Operator
from api.http.bodies import json_body
from api.http.deadline import within
from api.http.problems import ProblemError
from api.operators import operator_models
from api.operators.audit_models import AuditAnswer
from panel.journal.calls import DatabaseAwayError
from panel.journal.dead_letters import discard, list_dead, requeue
from panel.journal.restore import restore_vps
from panel.operator_error import OperatorError
from panel.operators.audit import Actor, list_access, list_actions, list_refused_calls, note_action
from panel.operators.findings import (
    FindingFilter,
    FindingRow,
    acknowledge_finding,
    heed_finding,
    ignore_finding,
    list_findings,
    snooze_finding,
)
from panel.operators.gate_context import PLAN_SEEN, acknowledge_first_plan
from panel.operators.holds import Decision, HeldSet, decide_hold, list_holds
from panel.operators.metrics import metrics
from panel.operators.pauses import Pause, current_pauses, pause, resume, target_of
from panel.operators.quarantine import list_quarantined, release
from panel.records.history import recent_runs, vps_history
from panel.records.ownership import described, whose
from panel.records.projection import Row
from panel.runs.run_requests import nudge_run
from panel.runs.source_health import list_sources
from panel.runs.source_memory import acknowledge_source, acknowledged_in_words
from panel.sessions import is_away

router = APIRouter(prefix="/api/ops", tags=["operators"])

T = TypeVar("T")
B = TypeVar("B", bound=BaseModel)

READS = openapi.problems(401, 404, 422, 429, 500, 503)
WRITES = openapi.problems(400, 401, 403, 404, 408, 409, 413, 415, 422, 429, 500, 503)
STATUS_OF = {"unknown": 404, "conflict": 409, "invalid": 422}

VpsId = Annotated[int, Path(ge=1, le=MAX_ID)]
FindingId = Annotated[int, Path(ge=1, le=MAX_ID)]
OperationId = Annotated[int, Path(ge=1, le=MAX_ID)]
Limit = Annotated[int, Query(ge=1, le=1000)]
Offset = Annotated[int, Query(ge=0, le=1_000_000, description="How many to leave out: the next page")]
OfClass = Annotated[str | None, Query(alias="class", pattern=r"^[a-z-]{1,64}$")]
OfCluster = Annotated[str | None, Query(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$")]
OfUser = Annotated[int | None, Query(ge=1, le=MAX_ID, description="The panel's id of a customer")]
HeldHash = Annotated[
    str,
    Path(
        min_length=1,
        max_length=64,
        description="8 characters of it, or more",
        json_schema_extra={"minLength": 8, "pattern": "^[0-9a-f]{8,64}$"},
    ),
]


def _takes(model: type[BaseModel]) -> dict[str, Any]:
    schema = {"$ref": f"#/components/schemas/{model.__name__}"}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


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

    return _answer(await _asked(edge, look))


@router.post("/held/{held_hash}/approve", responses={200: {"model": operator_models.DecisionAnswer}, **WRITES})
async def approve(edge: EdgeOf, acting: Acting, held_hash: HeldHash) -> Response:
    """Let a set happen: exactly its items, each confirmed by itself before it is written, within 24 hours."""

    def decide(connection: Connection) -> HeldSet:
        return decide_hold(connection, held_hash, Decision.APPROVED, acting.by)

    return _answer(asdict(await _decided(edge, acting, "approve", held_hash, decide)))


@router.post("/held/{held_hash}/reject", responses={200: {"model": operator_models.DecisionAnswer}, **WRITES})
async def reject(edge: EdgeOf, acting: Acting, held_hash: HeldHash) -> Response:
    """Refuse a set: its items stay as they are while they do not change."""

    def decide(connection: Connection) -> HeldSet:
        return decide_hold(connection, held_hash, Decision.REJECTED, acting.by)

    return _answer(asdict(await _decided(edge, acting, "reject", held_hash, decide)))


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
    found = await _asked(edge, lambda c: list_findings(c, wanted, everything=everything, limit=limit, offset=offset))
    return _answer([_finding(one) for one in found])


@router.post("/findings/{finding_id:id}/ack", responses={200: {"model": operator_models.FindingAnswer}, **WRITES})
async def acknowledge(edge: EdgeOf, acting: Acting, finding_id: FindingId) -> Response:
    """Note that somebody has seen it."""

    def note(connection: Connection) -> FindingRow:
        return acknowledge_finding(connection, finding_id, acting.by)

    return _answer(_finding(await _decided(edge, acting, "findings ack", f"finding:{finding_id}", note)))


@router.post(
    "/findings/{finding_id:id}/snooze",
    responses={200: {"model": operator_models.FindingAnswer}, **WRITES},
    openapi_extra=_takes(operator_models.SnoozeBody),
)
async def snooze(request: Request, edge: EdgeOf, acting: Acting, finding_id: FindingId) -> Response:
    """Leave it out of the list and of alarms for a while."""
    body = await _body(request, edge, operator_models.SnoozeBody)
    length = timedelta(seconds=body.for_s)

    def leave_out(connection: Connection) -> FindingRow:
        return snooze_finding(connection, finding_id, length, acting.by)

    return _answer(_finding(await _decided(edge, acting, "findings snooze", f"finding:{finding_id}", leave_out)))


@router.post(
    "/findings/{finding_id:id}/ignore",
    responses={200: {"model": operator_models.FindingAnswer}, **WRITES},
    openapi_extra=_takes(operator_models.IgnoreBody),
)
async def ignore(request: Request, edge: EdgeOf, acting: Acting, finding_id: FindingId) -> Response:
    """Hear no more of a guest that no order names, for good; whoever is given its VMID is told of again."""
    reason = (await _body(request, edge, operator_models.IgnoreBody)).reason

    def leave_out(connection: Connection) -> FindingRow:
        return ignore_finding(connection, finding_id, reason, acting.by)

    return _answer(_finding(await _decided(edge, acting, "findings ignore", f"finding:{finding_id}", leave_out)))


@router.post("/findings/{finding_id:id}/heed", responses={200: {"model": operator_models.FindingAnswer}, **WRITES})
async def heed(edge: EdgeOf, acting: Acting, finding_id: FindingId) -> Response:
    """Take an ``ignore`` back."""

    def take_back(connection: Connection) -> FindingRow:
        return heed_finding(connection, finding_id)

    return _answer(_finding(await _decided(edge, acting, "findings heed", f"finding:{finding_id}", take_back)))


@router.get("/vps/{vps_id:id}/history", responses={200: {"model": operator_models.HistoryAnswer}, **READS})
async def get_history(edge: EdgeOf, _by: Operator, vps_id: VpsId) -> Response:
    """Why is this VPS as it is: every change with its reason, evidence, before and after."""
    history = await _asked(edge, lambda c: vps_history(c, vps_id))
    live = history.record is not None and history.record.deleted_at is None
    listed = [_part_of(row, operator_models.JournalEntry) for row in history.operations]
    known = history.identity
    identity = asdict(known) | {"in_doubt": known.in_doubt} if known is not None else None
    story = {"vps_id": vps_id, "live": live, "entries": listed, "removed": history.removed, "identity": identity}
    return _answer(story)


@router.post(
    "/vps/{vps_id:id}/restore",
    responses={200: {"model": operator_models.DoneAnswer}, **WRITES},
    openapi_extra=_takes(operator_models.RestoreBody),
)
async def restore(request: Request, edge: EdgeOf, acting: Acting, vps_id: VpsId) -> Response:
    """Bring a deleted record back within 7 days. Its evidence starts anew, and it is protected for 7 more days."""
    body = await _body(request, edge, operator_models.RestoreBody)

    def bring_back(connection: Connection) -> Row:
        return restore_vps(connection, vps_id, body.reason, acting.by)

    row = await _decided(edge, acting, "vps restore", f"vps:{vps_id}", bring_back)
    return _done(f"VPS {vps_id} is {row['status']} again, protected until {row['protected_until'].isoformat()}")


@router.get("/runs", summary="Runs", responses={200: {"model": operator_models.RunsAnswer}, **READS})
async def get_runs(
    edge: EdgeOf,
    _by: Operator,
    kind: Annotated[str | None, Query(pattern="^(full|fast|plan)$")] = None,
    limit: Limit = 20,
) -> Response:
    """What the reconciler did lately, newest first."""
    found = await _asked(edge, lambda c: recent_runs(c, kind=kind, limit=limit))
    return _answer([_part_of(row, operator_models.RunView) for row in found])


@router.get("/sources", summary="Sources", responses={200: {"model": operator_models.SourcesAnswer}, **READS})
async def get_sources(edge: EdgeOf, _by: Operator) -> Response:
    """When each was last read completely; which are not believed, since when, why, what to do; which are paused."""

    def look(connection: Connection) -> list[dict[str, Any]]:
        current_pauses(connection)  # one whose time is over is none
        return [
            {name: getattr(one, name) for name in operator_models.SourceView.model_fields}
            for one in list_sources(connection)
        ]

    return _answer(await _asked(edge, look))


@router.post(
    "/pause",
    responses={200: {"model": operator_models.DoneAnswer}, **WRITES},
    openapi_extra=_takes(operator_models.PauseBody),
)
async def pause_target(request: Request, edge: EdgeOf, acting: Acting) -> Response:
    """Leave it alone: a source is not read, a VPS or a customer's are not written by runs. Ends by itself."""
    body = await _body(request, edge, operator_models.PauseBody)
    length = timedelta(seconds=body.for_s)

    def begin(connection: Connection) -> Pause:
        return pause(connection, _target(edge, body.target), body.reason, length, acting.by)

    made = await _decided(edge, acting, "pause", body.target, begin)
    return _done(f"{made.target} is {made}")


@router.post(
    "/resume",
    responses={200: {"model": operator_models.DoneAnswer}, **WRITES},
    openapi_extra=_takes(operator_models.ResumeBody),
)
async def resume_target(request: Request, edge: EdgeOf, acting: Acting) -> Response:
    """End a pause before its time."""
    body = await _body(request, edge, operator_models.ResumeBody)
    await _decided(edge, acting, "resume", body.target, lambda c: resume(c, _target(edge, body.target)))
    return _done(f"{body.target} is resumed")


@router.get("/pauses", summary="Pauses", responses={200: {"model": operator_models.PausesAnswer}, **READS})
async def get_pauses(edge: EdgeOf, _by: Operator) -> Response:
    """What is paused now, by whom, why and until when."""
    found = await _asked(edge, current_pauses)
    return _answer([asdict(one) for one in found.values()])


@router.get("/quarantine", summary="Quarantine", responses={200: {"model": operator_models.QuarantineAnswer}, **READS})
async def get_quarantine(edge: EdgeOf, _by: Operator, limit: Limit = 200) -> Response:
    """What runs failed at again and again, why, and when it is tried again."""
    found = await _asked(edge, lambda c: list_quarantined(c, limit))
    return _answer([asdict(one) for one in found])


@router.post(
    "/release",
    responses={200: {"model": operator_models.DoneAnswer}, **WRITES},
    openapi_extra=_takes(operator_models.ReleaseBody),
)
async def release_subject(request: Request, edge: EdgeOf, acting: Acting) -> Response:
    """End a quarantine before its time: the next run tries at once."""
    body = await _body(request, edge, operator_models.ReleaseBody)
    released = await _decided(edge, acting, "release", body.subject, lambda c: release(c, body.subject))
    return _done(f"released: {', '.join(released)}")


@router.get("/dead", summary="Dead calls", responses={200: {"model": operator_models.DeadAnswer}, **READS})
async def get_dead(edge: EdgeOf, _by: Operator, limit: Limit = 100) -> Response:
    """Calls that were accepted and failed for good, newest first."""
    found = await _asked(edge, lambda c: list_dead(c, limit))
    return _answer([asdict(one) for one in found])


@router.post(
    "/dead/{operation_id:id}/requeue", status_code=202, responses={202: {"model": operator_models.DoneAnswer}, **WRITES}
)
async def requeue_dead(edge: EdgeOf, acting: Acting, operation_id: OperationId) -> Response:
    """Journal a dead call anew, as if it had come now; refused where that would undo what came after it."""
    subject = f"operation:{operation_id}"
    again = await _decided(edge, acting, "requeue", subject, lambda c: requeue(c, operation_id, acting.by))
    return _done(f"operation {operation_id} is queued again as operation {again}", 202)


@router.post(
    "/dead/{operation_id:id}/discard",
    responses={200: {"model": operator_models.DoneAnswer}, **WRITES},
    openapi_extra=_takes(operator_models.DiscardBody),
)
async def discard_dead(request: Request, edge: EdgeOf, acting: Acting, operation_id: OperationId) -> Response:
    """Leave a dead call undone, and say why."""
    body = await _body(request, edge, operator_models.DiscardBody)
    subject = f"operation:{operation_id}"
    await _decided(edge, acting, "discard", subject, lambda c: discard(c, operation_id, body.reason, acting.by))
    return _done(f"operation {operation_id} is discarded")


@router.get("/metrics", summary="Numbers", responses={200: {"model": operator_models.MetricsAnswer}, **READS})
async def get_metrics(edge: EdgeOf, _by: Operator) -> Response:
    """Numbers for monitoring: the journal, runs, sources, findings, held sets, pauses, quarantine, repairs."""
    return _answer(await _asked(edge, metrics))


@router.post(
    "/acknowledge",
    responses={200: {"model": operator_models.DoneAnswer}, **WRITES},
    openapi_extra=_takes(operator_models.AcknowledgeBody),
)
async def acknowledge_what_was_seen(request: Request, edge: EdgeOf, acting: Acting) -> Response:
    """Say that a source which lost much at once is right, or that a plan was looked at before the first deletes."""
    body = await _body(request, edge, operator_models.AcknowledgeBody)

    def note(connection: Connection) -> str:
        said = PLAN_SEEN
        if body.source == "plan":
            acknowledge_first_plan(connection)
        else:
            said = acknowledged_in_words(body.source, acknowledge_source(connection, body.source))
        nudge_run(connection)
        return said

    return _done(await _decided(edge, acting, "acknowledge", body.source, note))


@router.post(
    "/reconcile",
    status_code=202,
    responses={202: {"model": operator_models.DoneAnswer}, **WRITES},
    openapi_extra=_takes(operator_models.ReconcileBody),
)
async def reconcile(request: Request, edge: EdgeOf, acting: Acting) -> Response:
    """Ask the workers for a run now, of everything or of what concerns one VPS, user or cluster."""
    body = await _body(request, edge, operator_models.ReconcileBody)
    subject = "".join(body.named)
    await _decided(edge, acting, "reconcile", subject or "everything", lambda c: nudge_run(c, subject))
    return _done(f"a run for {subject or 'everything'} is on its way; see /api/ops/runs", 202)


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

    return _answer(await _asked(edge, look))


async def _decided(edge: Edge, acting: Actor, action: str, subject: str, work: Callable[[Connection], T]) -> T:
    """Do what an operator decides, and note it in the same transaction. Raises as ``_asked`` does."""

    def noted(connection: Connection) -> T:
        done = work(connection)
        note_action(connection, acting, action, subject)
        return done

    return await _asked(edge, noted)


async def _asked(edge: Edge, work: Callable[[Connection], T]) -> T:
    """Do it in one transaction, in time. Raises ProblemError and DatabaseAwayError."""

    async def done() -> T:
        try:
            async with edge.reader.begin() as connection:
                return await connection.run_sync(work)
        except DBAPIError as error:
            if is_away(error):
                raise DatabaseAwayError(type(error.orig).__name__) from error
            raise
        except (PoolTimeoutError, OSError) as error:
            raise DatabaseAwayError(type(error).__name__) from error

    try:
        return await within(edge.deadlines.read_s, done())
    except OperatorError as error:
        raise ProblemError(STATUS_OF[error.fault], f"operator_{error.fault}", str(error)) from error
    except TimeoutError:
        message = "The database did not answer in time; look whether it was done before you ask again"
        raise ProblemError(503, "outcome_unknown", message, headers={"Retry-After": "5"}) from None


async def _body(request: Request, edge: Edge, model: type[B]) -> B:
    """The body as the model has it. Raises ProblemError; the message repeats no value."""
    given = await json_body(request, edge.settings.body_limit_bytes)
    try:
        return model.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        name = ".".join(str(part) for part in first["loc"]) or "body"
        raise ProblemError(422, "invalid_field", f"{name}: {first['msg']}", field=name) from None


def _target(edge: Edge, name: str) -> str:
    return target_of(name, (cluster.name for cluster in edge.settings.proxmox_clusters))


def _part_of(row: Any, model: type[BaseModel]) -> dict[str, Any]:  # noqa: ANN401 - a Row
    return {name: row._mapping[name] for name in model.model_fields}


def _finding(found: FindingRow) -> dict[str, Any]:
    values = asdict(found)
    return {"class": values.pop("class_"), **values}


def _answer(data: object) -> Response:
    return JSONResponse({"status": "success", "data": jsonable_encoder(data)})


def _done(message: str, status_code: int = 200) -> Response:
    return JSONResponse({"status": "success", "message": message}, status_code)
