"""Leave something alone for a while, and end that. ``clusters``: the names of the configured clusters."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from sqlalchemy import Connection

from panel.operators import pauses
from panel.operators.actions.action import Done, action
from panel.operators.audit import Actor


@action("pause", "/pause")
def pause(
    connection: Connection, actor: Actor, name: str, clusters: Iterable[str], reason: str, length: timedelta
) -> Done[None]:
    """Leave it alone: a source is not read, a VPS or a customer's are not written by runs. Ends by itself."""
    made = pauses.pause(connection, pauses.target_of(name, clusters), reason, length, actor.by)
    return Done((made.target,), f"{made.target} is {made}", None)


@action("resume", "/resume")
def resume(connection: Connection, _actor: Actor, name: str, clusters: Iterable[str]) -> Done[None]:
    """End a pause before its time."""
    target = pauses.target_of(name, clusters)
    pauses.resume(connection, target)
    return Done((target,), f"{name} is resumed", None)
