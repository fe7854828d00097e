"""The models of power actions in the OpenAPI document."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, Field

from api import openapi
from api.record_models import Id


class PowerAction(BaseModel):
    """A power action, and where to follow it."""

    id: Id
    vps_id: Id
    action: Literal["start", "stop", "reboot", "restart"]
    force: bool
    state: Annotated[
        Literal["queued", "running", "done", "failed", "refused", "unknown"],
        Field(description="`unknown`: nobody can tell whether it was done, and it is not sent again"),
    ]
    url: str
    code: Annotated[str | None, Field(description="Why it ended as it did, as one word")]
    reason: Annotated[str | None, Field(description="What it waits for, or what came of it, as a sentence")]
    asked_at: AwareDatetime
    ended_at: AwareDatetime | None


class PowerAnswer(BaseModel):
    """A power action that was accepted."""

    status: Literal["success"]
    message: str
    operation: PowerAction


class PowerActionAnswer(BaseModel):
    """One power action."""

    status: Literal["success"]
    operation: PowerAction


class PowerActionsAnswer(BaseModel):
    """The latest power actions of a VPS, newest first."""

    status: Literal["success"]
    data: list[PowerAction]


def _told(responses: openapi.Responses, **texts: str) -> openapi.Responses:
    """The same responses, some with another description: ``_409="..."``."""
    return {
        code: {**response, "description": texts[f"_{code}"]} if f"_{code}" in texts else response
        for code, response in responses.items()
    }


POWER_RESPONSES: openapi.Responses = {
    202: {
        "model": PowerAnswer,
        "description": "Accepted; a worker does it",
        "headers": {"Location": {"description": "The action to follow", "schema": {"type": "string"}}},
    },
    **_told(
        openapi.problems(400, 401, 403, 404, 408, 409, 413, 415, 422, 429, 500, 503),
        _403="Power actions are switched off",
        _409="Another action is not over, or something stands against this one; `code` says what",
        _429="Too many power actions in the last hour",
        _503="The cluster or the database is away, or it is not known whether the action was accepted",
    ),
}
ACTION_RESPONSES: openapi.Responses = {200: {"model": PowerActionAnswer}, **openapi.problems(401, 404, 422, 500, 503)}
ACTIONS_RESPONSES: openapi.Responses = {200: {"model": PowerActionsAnswer}, **openapi.problems(401, 404, 422, 500, 503)}

STOP_REQUEST: dict[str, Any] = {
    "requestBody": {
        "required": False,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "force": {
                            "type": "boolean",
                            "default": False,
                            "description": "Cut the power instead of asking the system to shut down",
                        }
                    },
                }
            }
        },
    }
}
