"""The models of a batch's answer in the OpenAPI document. They only describe. Its request is ``api.openapi.Batch``."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from api.openapi import Problem, Responses, SyncAnswer, problems


class AcceptedItem(SyncAnswer):
    """The answer that the item would have got as a single call."""

    http_status: Literal[200, 201, 202]
    idempotent_replayed: Annotated[bool, Field(default=False, description="Whether this is the first answer again")]


class RefusedItem(Problem):
    """The problem that the item would have got as a single call."""

    http_status: Annotated[int, Field(ge=400, le=599)]
    retry_after: Annotated[int, Field(default=0, description="Seconds, if the item is to be sent again")]
    idempotent_replayed: Annotated[bool, Field(default=False, description="Whether this is the first answer again")]


class BatchAnswer(BaseModel):
    """One result for each item, in the order of the items."""

    status: Literal["success"]
    items: list[AcceptedItem | RefusedItem]
    accepted: Annotated[int, Field(description="Items that were answered 200, 201 or 202")]
    refused: Annotated[int, Field(description="All other items")]


RESPONSES: Responses = {
    200: {"model": BatchAnswer, "description": "The batch was read; each item tells what became of it"},
    **problems(400, 401, 408, 413, 415, 422, 429, 500, 503),
}

REQUEST: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Batch"}}},
    }
}
