"""Events and their deliveries as operators see them, and what operators do about them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field
from sqlalchemy import Connection, Row, select, text

from panel.api_answer import api_answer
from panel.operator_error import OperatorError
from panel.schema import webhook_tables
from panel.webhooks.deliveries import DISABLED

MOST = 10_000
"""How many events one command sends again at most."""

State = Literal["waiting", "delivered", "dead"]


@api_answer
@dataclass(frozen=True, slots=True)
class EndpointView:
    """How the main site takes events."""

    wanted: Annotated[bool, Field(description="Whether events are noted: `MAIN_SITE_WEBHOOK_URL` is set")]
    disabled_at: Annotated[datetime | None, Field(description="When it answered 410 Gone. Since then nothing is sent")]
    failing_since: Annotated[
        datetime | None, Field(description="Since when it has taken nothing, though it was sent something")
    ]
    not_before: Annotated[datetime | None, Field(description="While it is away: when one event is tried next")]
    waiting: int
    oldest_waiting_s: Annotated[float | None, Field(description="Age of the oldest event that waits")]
    dead: Annotated[int, Field(description="Events that were given up")]


@api_answer
@dataclass(frozen=True, slots=True)
class EventView:
    """One event and how its delivery went. ``last_error``: why the main site did not take it at the last try."""

    id: int
    message_id: Annotated[str, Field(description="The header `webhook-id`, the same at each try")]
    type: str
    vps_id: int
    state: State
    created_at: datetime
    attempts: int
    tried_at: datetime | None
    due_at: Annotated[
        datetime | None, Field(description="When it is tried next; null once it has ended, and while nothing is sent")
    ]
    ended_at: Annotated[datetime | None, Field(description="When it was delivered, or given up")]
    last_status: int | None
    last_error: str | None


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which events to send again: one, all that are dead, or all that were noted since a time. Exactly one of these."""

    id: int | None = None
    dead: bool = False
    since: datetime | None = None


def endpoint(connection: Connection) -> EndpointView:
    """How the main site takes events, with the numbers of those that wait and are dead."""
    return EndpointView(**connection.execute(ENDPOINT).one()._mapping)


def list_events(
    connection: Connection, state: State | None = None, *, vps_id: int | None = None, limit: int = 100
) -> list[EventView]:
    """Events, newest first. Their next tries are those that there will be: none while nothing is sent, and none before
    the main site is tried again."""
    events = webhook_tables.webhook_events
    wanted = select(*(events.c[name] for name in EventView.__slots__)).order_by(events.c.id.desc()).limit(limit)
    if state is not None:
        wanted = wanted.where(events.c.state == state)
    if vps_id is not None:
        wanted = wanted.where(events.c.vps_id == vps_id)
    found = [EventView(**row._mapping) for row in connection.execute(wanted)]
    told = connection.execute(SENDING).one()
    return [replace(event, due_at=_next_try(event, told)) for event in found]


def _next_try(event: EventView, told: Row[Any]) -> datetime | None:
    if event.state != "waiting" or event.due_at is None or not told.sends:
        return None
    return max(event.due_at, told.not_before or event.due_at)


def enable(connection: Connection) -> None:
    """Send events again after the main site answered 410 Gone. Raises OperatorError."""
    if connection.execute(ENABLE).rowcount == 0:
        raise OperatorError("conflict", "the webhook to the main site is not disabled")
    connection.execute(RESOLVE, {"class": DISABLED})
    connection.execute(ALL_DUE)


def send_again(connection: Connection, wanted: Wanted) -> int:
    """Send events again, each with the message id that it had. Returns how many, at most ``MOST``, the oldest first.
    Raises OperatorError."""
    if (wanted.id is not None) + wanted.dead + (wanted.since is not None) != 1:
        raise OperatorError("invalid", "name one event, or all that are dead, or all since a time")
    if not endpoint(connection).wanted:
        raise OperatorError("conflict", "the main site is told nothing: MAIN_SITE_WEBHOOK_URL is not set")
    if wanted.id is not None:
        if connection.execute(ONE, {"id": wanted.id}).rowcount == 0:
            raise OperatorError("unknown", f"event {wanted.id} does not exist; `panel-sync webhooks list` lists them")
        return 1
    if wanted.dead:
        return connection.execute(EVERY_DEAD, {"most": MOST}).rowcount
    values = {"since": wanted.since, "most": MOST}
    if (connection.scalar(HOW_MANY_SINCE, values) or 0) > MOST:
        raise OperatorError("conflict", f"more than {MOST:,} events were noted since then: name a later time")
    return connection.execute(SINCE, values).rowcount


ENDPOINT = text(
    "SELECT wanted, disabled_at, failing_since, not_before,"
    " (SELECT count(*) FROM webhook_events WHERE state = 'waiting') AS waiting,"
    " (SELECT CAST(extract(epoch FROM clock_timestamp() - created_at) AS float8) FROM webhook_events"
    " WHERE state = 'waiting' ORDER BY id LIMIT 1) AS oldest_waiting_s,"
    " (SELECT count(*) FROM webhook_events WHERE state = 'dead') AS dead"
    " FROM webhook_endpoint"
)
SENDING = text("SELECT wanted AND disabled_at IS NULL AS sends, not_before FROM webhook_endpoint")
ENABLE = text(
    "UPDATE webhook_endpoint SET disabled_at = NULL, failing_since = NULL, away_tries = 0, not_before = NULL,"
    " rung_at = NULL WHERE disabled_at IS NOT NULL"
)
RESOLVE = text("UPDATE findings SET resolved_at = clock_timestamp() WHERE class = :class AND resolved_at IS NULL")
# The days in which nothing was sent count for no event's three days.
ALL_DUE = text(
    "UPDATE webhook_events SET due_at = clock_timestamp(), attempts = 0, first_tried_at = NULL"
    " WHERE state = 'waiting' AND (due_at > statement_timestamp() OR first_tried_at IS NOT NULL)"
)
_AGAIN = (
    "UPDATE webhook_events SET state = 'waiting', due_at = clock_timestamp(), attempts = 0, first_tried_at = NULL,"
    " ended_at = NULL WHERE "
)
ONE = text(_AGAIN + "id = :id")
EVERY_DEAD = text(
    _AGAIN + "id = ANY(ARRAY(SELECT id FROM webhook_events WHERE state = 'dead' ORDER BY id LIMIT :most))"
)
HOW_MANY_SINCE = text(
    "SELECT count(*) FROM (SELECT 1 FROM webhook_events WHERE created_at >= :since LIMIT :most + 1) AS since"
)
SINCE = text(
    _AGAIN + "id = ANY(ARRAY(SELECT id FROM webhook_events WHERE created_at >= :since AND state <> 'waiting'"
    " ORDER BY created_at LIMIT :most))"
)
