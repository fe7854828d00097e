"""Send the main site events again, and send at all after it answered 410 Gone."""

from __future__ import annotations

from datetime import UTC

from sqlalchemy import Connection

from panel.operators.actions.action import Done, action
from panel.operators.audit import Actor
from panel.webhooks import views
from panel.webhooks.deliveries import SUBJECT
from panel.webhooks.views import MOST, Wanted


@action("webhooks enable", "/webhooks/enable", later=True)
def enable(connection: Connection, _actor: Actor) -> Done[None]:
    """Send the main site events again, after it answered 410 Gone. What waited is sent now."""
    views.enable(connection)
    return Done((SUBJECT,), "the main site is told of changes again", None)


@action("webhooks replay", "/webhooks/replay", later=True)
def replay(connection: Connection, _actor: Actor, wanted: Wanted) -> Done[None]:
    """Send events again: one by its id, all that are dead (10,000 at once, the oldest first), or all that were noted
    since a time (refused if they are more). Each keeps its message id, by which a main site knows it."""
    count = views.send_again(connection, wanted)
    if wanted.id is not None:
        return Done((f"webhook-event:{wanted.id}",), f"event {wanted.id} is sent again", None)
    since = "" if wanted.since is None else f"since {wanted.since.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    which = "dead" if wanted.dead else since
    more = "; there may be more: ask once more" if wanted.dead and count == MOST else ""
    return Done((f"{SUBJECT}: {which}",), f"{count} events are sent again ({which}){more}", None)
