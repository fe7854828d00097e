"""The events that the panel sends the main site, in the OpenAPI document. ``panel.webhooks.events`` makes them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, Field

from api.record_models import Id, Record


class EndedPowerAction(BaseModel):
    """A power action of a customer that is over."""

    id: Id
    action: Literal["start", "stop", "reboot", "restart"]
    force: bool
    state: Literal["done", "failed", "refused", "unknown"]
    code: str
    reason: str
    asked_at: AwareDatetime
    ended_at: AwareDatetime


class Cause(BaseModel):
    """Why it happened. ``source``: by whose word. ``evidence``: as the panel's journal keeps it."""

    source: str
    reason: str | None
    evidence: dict[str, Any]
    operation_id: Id | None = None
    run_id: Id | None = None


class EventData(BaseModel):
    """What happened to a VPS. ``vps``: the record after it. ``before`` and ``after``: the columns that changed."""

    sequence: Annotated[int, Field(description="Keep the highest for each VPS; a lower one is older")]
    vps: Record
    before: dict[str, Any] | None = None
    after: dict[str, Any] | None = None
    action: EndedPowerAction | None = None
    cause: Cause


class PanelEvent(BaseModel):
    """One event, by the Standard Webhooks specification."""

    type: Literal[
        "vps.created",
        "vps.status_changed",
        "vps.updated",
        "vps.deleted",
        "vps.merged",
        "vps.restored",
        "vps.power_action_ended",
    ]
    timestamp: Annotated[AwareDatetime, Field(description="When it happened")]
    data: EventData


_HEADERS = {
    "webhook-id": "The event's id, the same each time it is sent",
    "webhook-timestamp": "When it was sent, in seconds since 1970",
    "webhook-signature": "`v1,` and base64 of HMAC-SHA256 over id, timestamp and body, joined by dots; one or two",
}
EVENT_WEBHOOK: dict[str, Any] = {
    "vps-event": {
        "post": {
            "summary": "An event for the main site",
            "description": "Sent to MAIN_SITE_WEBHOOK_URL for each change that the panel makes by itself",
            "parameters": [
                {"name": name, "in": "header", "required": True, "description": told, "schema": {"type": "string"}}
                for name, told in _HEADERS.items()
            ],
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/PanelEvent"}}},
            },
            "responses": {
                "2XX": {"description": "The main site has it"},
                "410": {"description": "The main site wants no more events"},
                "default": {"description": "The event is sent again later"},
            },
        }
    }
}
