"""Pause and resume a source, a VPS or a customer. ``clusters``: the names of the configured clusters."""

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
    """Leave a source, a VPS or a customer alone. Runs do not read a paused source, and do not write a paused VPS or the
    VPSes of a paused customer. The pause ends by itself."""
    view = pauses.pause(connection, pauses.target_of(name, clusters), reason, length, actor.by)
    return Done((view.target,), f"{view.target} is {view}", None)


@action("resume", "/resume")
def resume(connection: Connection, _actor: Actor, name: str, clusters: Iterable[str]) -> Done[None]:
    """End a pause before its time."""
    target = pauses.target_of(name, clusters)
    pauses.resume(connection, target)
    return Done((target,), f"{name} is resumed", None)
