"""The models of requests and answers in the OpenAPI document. They only describe: ``api.main_site.sync_call`` validates
the calls. The models of a VPS are in ``api.record_models``."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import FastAPI, Query
from fastapi.openapi.utils import get_openapi
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from pydantic.json_schema import models_json_schema

from api.client.record_view import CURSOR_PATTERN
from api.main_site.call_batch import MAX_ITEMS
from api.main_site.event_models import EVENT_WEBHOOK, PanelEvent
from api.operators import adoption_models, operator_models, repair_policy_models
from api.readiness_states import description_of, pattern_of
from api.record_models import ChangedVps, ClientRecord, DeletedVps, Id, NewVps, Record
from domain.changes import OperationState
from panel.records.public import Place

Status = Literal["creating", "running", "stopped", "suspended", "error"]


class OperationRef(BaseModel):
    """The operation of an accepted call, and where to follow it."""

    id: Id
    state: OperationState
    url: str


class OperationView(OperationRef):
    """One operation of the journal."""

    action: Literal["create", "update", "delete", "merge", "link", "unlink", "restore"]
    vps_id: Id
    attempts: int
    result: str | None
    why: str | None
    accepted_at: AwareDatetime
    applied_at: AwareDatetime | None


class SyncAnswer(BaseModel):
    """A sync call that was accepted."""

    status: Literal["success"]
    message: str
    vps: Record
    operation: OperationRef


class OperationAnswer(BaseModel):
    """An operation and its record, null while it is not written."""

    status: Literal["success"]
    operation: OperationView
    vps: Record | None


class RecordsAnswer(BaseModel):
    """Records found for the main site."""

    status: Literal["success"]
    data: list[Record]


class ListAnswer(BaseModel):
    """One page of a client's records."""

    status: Literal["success"]
    data: list[ClientRecord]
    next_cursor: str | None


class OneAnswer(BaseModel):
    """One record of a client."""

    status: Literal["success"]
    data: ClientRecord


class Alive(BaseModel):
    """The process answers."""

    status: Literal["success"]


class Checks(BaseModel):
    """The state of each part. Only the database decides whether the panel is ready."""

    database: Annotated[str, Field(pattern=pattern_of("database"), description=description_of("database"))]
    redis: Annotated[str, Field(pattern=pattern_of("redis"), description=description_of("redis"))]
    relay: Annotated[str, Field(pattern=pattern_of("relay"), description=description_of("relay"))]


class Ready(BaseModel):
    """It can serve."""

    status: Literal["success"]
    checks: Checks


class Problem(BaseModel):
    """RFC 9457, with a human ``message`` and a stable ``code``. ``status`` is an integer here and the text
    "success" in answers that are no problem."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    detail: str
    instance: str
    message: str
    code: str
    request_id: str | None
    field: Annotated[str, Field(default="", description="The field that is wrong")]
    missing: Annotated[list[str], Field(default=[], description="The fields that are missing")]


class NotReady(Problem):
    """The database cannot serve."""

    checks: Checks


class Create(BaseModel):
    """A new VPS."""

    action: Literal["create"]
    vps: NewVps


class Update(BaseModel):
    """A change of a VPS."""

    action: Literal["update"]
    vps: ChangedVps


class Delete(BaseModel):
    """The end of a VPS."""

    action: Literal["delete"]
    vps: DeletedVps


ItemKey = Annotated[str, Field(min_length=1, max_length=255, pattern="^[!-~]+$")]


class BatchCreate(Create):
    """A create in a batch."""

    idempotency_key: ItemKey | None = None


class BatchUpdate(Update):
    """An update in a batch."""

    idempotency_key: ItemKey | None = None


class BatchDelete(Delete):
    """A delete in a batch."""

    idempotency_key: ItemKey | None = None


class Batch(BaseModel):
    """Sync calls, journaled in this order."""

    items: Annotated[
        list[Annotated[BatchCreate | BatchUpdate | BatchDelete, Field(discriminator="action")]],
        Field(min_length=1, max_length=MAX_ITEMS),
    ]


ACTION_BODIES = ("Create", "Update", "Delete")

Responses = dict[int | str, dict[str, Any]]

CURSOR = Query(
    max_length=64,
    description="``next_cursor`` of the page before",
    json_schema_extra={"pattern": CURSOR_PATTERN},
)

_PROBLEM = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
_PROBLEM_TEXTS = {
    400: "Something is missing, or the body is not JSON",
    401: "The credential is missing or not valid",
    403: "The key's role does not allow it",
    404: "It does not exist",
    405: "Not possible here",
    408: "The body did not arrive in time",
    409: "A call with the key is under way, this call was not applied, or the request does not fit the state",
    413: "The body is too large",
    415: "The body is not application/json",
    422: "A field or parameter is wrong, or the user is unknown",
    429: "Too many calls with an invalid API key",
    500: "The panel failed",
    503: "The database is away, overloaded, or did not confirm the outcome",
}
_HEADER_TEXT = {"schema": {"type": "string"}}
_LOCATION = {"Location": {"description": "The operation to follow", **_HEADER_TEXT}}
_RETRY_AFTER = {"Retry-After": {"description": "Seconds", "schema": {"type": "integer"}}}
_ETAG = {"ETag": {"description": "For If-None-Match", **_HEADER_TEXT}}


def problems(*codes: int) -> Responses:
    """The documented errors of a route."""
    responses: Responses = {}
    for code in codes:
        responses[code] = {"description": _PROBLEM_TEXTS[code], "content": _PROBLEM}
        if code in {429, 503}:
            responses[code]["headers"] = _RETRY_AFTER
    return responses


SYNC_RESPONSES: Responses = {
    200: {
        "model": SyncAnswer,
        "description": "Applied (Prefer: wait), or nothing was left to do",
        "headers": _LOCATION,
    },
    201: {"model": SyncAnswer, "description": "Created and written (Prefer: wait)", "headers": _LOCATION},
    202: {"model": SyncAnswer, "description": "Accepted; its id is final", "headers": _LOCATION},
    **problems(400, 401, 404, 408, 409, 413, 415, 422, 429, 500, 503),
}
OPERATION_RESPONSES: Responses = {200: {"model": OperationAnswer}, **problems(401, 404, 422, 429, 500, 503)}
RECORDS_RESPONSES: Responses = {200: {"model": RecordsAnswer}, **problems(400, 401, 422, 429, 500, 503)}
LIST_RESPONSES: Responses = {
    200: {"model": ListAnswer, "headers": _ETAG},
    304: {"description": "The caller has it already"},
    **problems(401, 422, 500, 503),
}
ONE_RESPONSES: Responses = {
    200: {"model": OneAnswer, "headers": _ETAG},
    304: {"description": "The caller has it already"},
    **problems(401, 404, 422, 500, 503),
}
EVENT_RESPONSES: Responses = {
    200: {
        "description": "Server-sent events, until the stream ends",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    },
    **problems(401, 500, 503),
}
HEALTH_RESPONSES: Responses = {200: {"model": Alive}}
_NOT_READY = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/NotReady"}}}
READY_RESPONSES: Responses = {
    200: {"model": Ready, "description": "It can serve"},
    503: {
        "description": "The database cannot serve; each check says why",
        "content": _NOT_READY,
        "headers": _RETRY_AFTER,
    },
}

SYNC_REQUEST: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "oneOf": [{"$ref": f"#/components/schemas/{name}"} for name in ACTION_BODIES],
                    "discriminator": {
                        "propertyName": "action",
                        "mapping": {name.lower(): f"#/components/schemas/{name}" for name in ACTION_BODIES},
                    },
                }
            }
        },
    },
    "parameters": [
        {
            "name": "Idempotency-Key",
            "in": "header",
            "description": "Same key and same call: the first answer again. Kept for at least 24 hours",
            "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
        },
        {
            "name": "Prefer",
            "in": "header",
            "description": "wait=N: answer once it is written, or after N seconds (capped)",
            "schema": {"type": "string"},
        },
        {
            "name": "traceparent",
            "in": "header",
            "description": "The caller's trace (W3C Trace Context), which the call continues. A wrong one is ignored",
            "schema": {"type": "string"},
        },
    ],
}


def describe(app: FastAPI) -> dict[str, Any]:
    """The document, made once: FastAPI's own, with the schemas that FastAPI cannot find."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        bodies: list[type[BaseModel]] = [
            Problem,
            NotReady,
            Create,
            Update,
            Delete,
            Batch,
            PanelEvent,
            *operator_models.BODIES,
            *adoption_models.BODIES,
            *repair_policy_models.BODIES,
        ]
        _, extra = models_json_schema(
            [(model, "validation") for model in bodies],
            ref_template="#/components/schemas/{model}",
        )
        document["components"]["schemas"] |= extra["$defs"]
        document["webhooks"] = EVENT_WEBHOOK
        if Place.root:
            document["servers"] = [{"url": Place.root}]
        app.openapi_schema = document
    return app.openapi_schema
