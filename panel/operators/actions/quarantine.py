"""Release quarantined subjects."""

from __future__ import annotations

from sqlalchemy import Connection

from panel.operators import quarantine
from panel.operators.actions.action import Done, action
from panel.operators.audit import Actor


@action("release", "/release")
def release(connection: Connection, _actor: Actor, subject: str) -> Done[None]:
    """End a quarantine before its time: the next run tries the subject at once."""
    released = quarantine.release(connection, subject)
    return Done((subject,), f"released: {', '.join(released)}", None)
