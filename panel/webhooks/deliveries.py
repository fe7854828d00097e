"""How the delivery of an event goes on. A worker takes one event, sends it, and notes what came of it.

The events of one VPS are sent in order: while one of them waits, the later ones of the same VPS wait behind it. No
transaction is open while a request is under way. A worker that dies between the request and the note leaves the event
taken for a minute; then it is sent again, with the same message id.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

import structlog
from sqlalchemy import Connection, text

from panel.journal.rows import raise_finding
from panel.webhooks.retries import GIVEN_UP_AFTER, delay, pause

log = structlog.get_logger(__name__)

TAKEN_S = 60.0
"""For so long nobody else sends an event that was taken. A request takes less."""

LOOKED_AT = 50
"""How many due events are looked at for one that no earlier one of its VPS stands before."""

FAILED_LONG = timedelta(minutes=5)
"""If the main site was away for longer than this, what was tried meanwhile is sent as soon as it takes something."""

WOKEN_AT_ONCE = 1000
"""How many events one transaction makes due then."""

ERROR_LENGTH = 200

DISABLED, SUBJECT = "webhook-disabled", "webhook:main-site"
GONE = (
    "the main site answered 410 Gone to an event, so it wants no more of them. Nothing is sent until an operator says"
    " so: panel-sync webhooks enable. Until then events are kept, for 30 days"
)


@dataclass(frozen=True, slots=True)
class Taken:
    """An event that this worker has taken. ``away_tries``: how many tries in a row found the main site away. The body
    names a customer, so it is kept out of repr."""

    id: int
    message_id: str
    vps_id: int
    body: str = field(repr=False)
    attempts: int
    away_tries: int


def take(connection: Connection) -> Taken | None:
    """Take the event that is due for longest. None if none is due, or the main site is away or wants none."""
    endpoint = connection.execute(OPEN).one_or_none()
    if endpoint is None:
        return None
    while True:
        due, moved = connection.execute(DUE, {"limit": LOOKED_AT, "away": endpoint.away_tries > 0}).all(), 0
        for row in due:
            if row.waits_until is not None:
                # It waits for an earlier event of its VPS: look at it again when that one is due, or has ended.
                moved += connection.execute(PUT_BEHIND, {"id": row.id, "until": row.waits_until}).rowcount
                continue
            values = {"id": row.id, "for": timedelta(seconds=TAKEN_S)}
            if (taken := connection.execute(TAKE, values).one_or_none()) is not None:
                return Taken(**taken._mapping, away_tries=endpoint.away_tries)
        if len(due) < LOOKED_AT or not moved:
            return None


def note_delivered(connection: Connection, taken: Taken, status: int) -> bool:
    """The main site took it. Returns whether it is back after it was away for long: then the caller commits and calls
    ``wake``, else nobody does until the next delivery."""
    connection.execute(DELIVERED, {"id": taken.id, "status": status})
    connection.execute(NEXT_OF_VPS, {"vps_id": taken.vps_id})
    if connection.scalar(LONG_AWAY, {"long": FAILED_LONG}):
        return True
    connection.execute(BACK)
    return False


def wake(connection: Connection) -> bool:
    """Make due what was tried while the main site was away. Returns whether there is more: then the caller commits and
    calls again. Only the last time forgets that it was away, so what is rolled back is made up for."""
    values = {"taken": timedelta(seconds=TAKEN_S), "limit": WOKEN_AT_ONCE}
    if connection.execute(ALL_DUE, values).rowcount == WOKEN_AT_ONCE:
        return True
    connection.execute(BACK)
    return False


def note_refused(connection: Connection, taken: Taken, status: int | None, problem: str) -> bool:
    """The main site did not take it. Returns whether it is given up now."""
    values = {
        "id": taken.id, "attempts": taken.attempts, "status": status, "error": problem[:ERROR_LENGTH],
        "delay": delay(taken.attempts), "given_up": GIVEN_UP_AFTER,
    }  # fmt: skip
    connection.execute(FAILING)
    state: str | None = connection.scalar(REFUSED, values)
    if state == "dead":
        connection.execute(NEXT_OF_VPS, {"vps_id": taken.vps_id})
        log.warning("webhook_given_up", event_id=taken.id, vps_id=taken.vps_id, attempts=taken.attempts)
    return state == "dead"


def note_away(
    connection: Connection, taken: Taken, status: int | None, problem: str, asked_s: float | None = None
) -> bool:
    """The main site takes nothing now. ``asked_s``: the ``Retry-After`` of its answer. Returns as ``note_refused``."""
    tries = taken.away_tries + 1
    connection.execute(AWAY, {"tries": tries, "pause": pause(tries, asked_s)})
    return note_refused(connection, taken, status, problem)


def note_gone(connection: Connection, taken: Taken, status: int, problem: str) -> None:
    """The main site wants no more events."""
    if connection.execute(DISABLE).rowcount:
        raise_finding(connection, DISABLED, SUBJECT, GONE, severity="alarm")
        log.warning("webhook_disabled", event_id=taken.id)
    note_refused(connection, taken, status, problem)


OPEN = text(
    "SELECT away_tries FROM webhook_endpoint WHERE wanted AND disabled_at IS NULL"
    " AND coalesce(not_before <= clock_timestamp(), true)"
)
# While the main site is away, an event that was tried less comes first: if it fails at some events alone, these do not
# keep the others waiting.
DUE = text(
    "SELECT e.id, (SELECT b.due_at FROM webhook_events b WHERE b.vps_id = e.vps_id AND b.state = 'waiting'"
    " AND b.id < e.id ORDER BY b.id LIMIT 1) AS waits_until"
    " FROM webhook_events e WHERE e.state = 'waiting' AND e.due_at <= statement_timestamp()"
    " ORDER BY CASE WHEN :away THEN e.attempts END, e.due_at, e.id LIMIT :limit"
)
# Unless another worker has it by now.
_STILL_DUE = (
    "SELECT id FROM webhook_events WHERE id = :id AND state = 'waiting' AND due_at <= clock_timestamp()"
    " FOR UPDATE SKIP LOCKED"
)
PUT_BEHIND = text(
    "UPDATE webhook_events SET due_at = greatest(CAST(:until AS timestamptz), clock_timestamp()) + interval '1 second'"
    f" WHERE id = ({_STILL_DUE})"
)
TAKE = text(
    "UPDATE webhook_events SET attempts = attempts + 1, tried_at = clock_timestamp(),"
    " first_tried_at = coalesce(first_tried_at, clock_timestamp()), due_at = clock_timestamp() + :for"
    f" WHERE id = ({_STILL_DUE}) RETURNING id, message_id, vps_id, body, attempts"
)
DELIVERED = text(
    "UPDATE webhook_events SET state = 'delivered', ended_at = clock_timestamp(), last_status = :status,"
    " last_error = NULL WHERE id = :id AND state = 'waiting'"
)
# Another worker may have taken it meanwhile, after this one hung: then the note is that one's.
REFUSED = text(
    "UPDATE webhook_events SET last_status = :status, last_error = :error, due_at = clock_timestamp() + :delay,"
    " state = CASE WHEN first_tried_at < clock_timestamp() - :given_up THEN 'dead' ELSE 'waiting' END,"
    " ended_at = CASE WHEN first_tried_at < clock_timestamp() - :given_up THEN clock_timestamp() END"
    " WHERE id = :id AND state = 'waiting' AND attempts = :attempts RETURNING state"
)
NEXT_OF_VPS = text(
    "UPDATE webhook_events SET due_at = clock_timestamp() WHERE due_at > clock_timestamp() AND attempts = 0 AND id ="
    " (SELECT id FROM webhook_events WHERE vps_id = :vps_id AND state = 'waiting' ORDER BY id LIMIT 1)"
)
# An event that was taken has just come back, or is under way.
ALL_DUE = text(
    "UPDATE webhook_events SET due_at = clock_timestamp() WHERE id = ANY(ARRAY(SELECT id FROM webhook_events"
    " WHERE state = 'waiting' AND due_at > statement_timestamp() AND tried_at < clock_timestamp() - :taken"
    " ORDER BY due_at LIMIT :limit FOR UPDATE SKIP LOCKED))"
)
# What was only refused keeps its own times: that the main site takes others says nothing of it.
LONG_AWAY = text(
    "SELECT away_tries > 0 AND failing_since <= clock_timestamp() - CAST(:long AS interval) FROM webhook_endpoint"
)
BACK = text(
    "UPDATE webhook_endpoint SET failing_since = NULL, away_tries = 0, not_before = NULL"
    " WHERE failing_since IS NOT NULL"
)
AWAY = text("UPDATE webhook_endpoint SET away_tries = :tries, not_before = clock_timestamp() + :pause")
FAILING = text("UPDATE webhook_endpoint SET failing_since = clock_timestamp() WHERE failing_since IS NULL")
DISABLE = text("UPDATE webhook_endpoint SET disabled_at = clock_timestamp() WHERE disabled_at IS NULL")
