"""What operators ask and are answered about the events for the main site."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, model_validator
from pydantic.config import JsonDict

from api.operators.whole_numbers import Id
from panel.webhooks.views import EndpointView, EventView, Wanted

TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


def _time(value: object) -> object:
    if not isinstance(value, str) or not TIME.fullmatch(value):
        raise ValueError("must be a time with its offset, such as 2026-03-01T12:00:00Z")
    return datetime.fromisoformat(value.upper())


Time = Annotated[datetime, BeforeValidator(_time)]

_EXACTLY_ONE: JsonDict = {
    "oneOf": [
        {"required": ["event"], "properties": {"event": {"not": {"type": "null"}}}},
        {"required": ["since"], "properties": {"since": {"not": {"type": "null"}}}},
        {"required": ["dead"], "properties": {"dead": {"const": True}}},
    ]
}


class ReplayBody(BaseModel):
    """Which events are sent again: one by its id, all that are dead, or all that were noted since a time."""

    model_config = ConfigDict(extra="forbid", strict=True, json_schema_extra=_EXACTLY_ONE)

    event: Id | None = None
    dead: bool = False
    since: Time | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> ReplayBody:
        if (self.event is not None) + self.dead + (self.since is not None) != 1:
            raise ValueError("give exactly one of event, dead and since")
        return self

    @property
    def wanted(self) -> Wanted:
        """As the action takes it."""
        return Wanted(self.event, self.dead, self.since)


class WebhooksView(BaseModel):
    """How the main site takes events, and the latest of them."""

    endpoint: EndpointView
    events: list[EventView]


class WebhooksAnswer(BaseModel):
    """The events for the main site, newest first."""

    status: Literal["success"]
    data: WebhooksView


class WebhookNumbers(BaseModel):
    """The events for the main site. ``failing_s``: for how long it has taken nothing."""

    waiting: int
    oldest_waiting_s: float | None
    dead: int
    disabled: bool
    failing_s: float | None
