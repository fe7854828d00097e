"""Answer a finding: seen, later, or never again."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import Connection

from panel.operators.actions.action import Done, action
from panel.operators.audit import Actor
from panel.operators.findings import (
    FindingView,
    acknowledge_finding,
    ignore_finding,
    snooze_finding,
    unignore_finding,
)


@action("findings ack", "/findings/{finding_id:id}/ack")
def acknowledge(connection: Connection, actor: Actor, finding_id: int) -> Done[FindingView]:
    """Note that somebody has seen it."""
    return _done(acknowledge_finding(connection, finding_id, actor.by), "is acknowledged")


@action("findings snooze", "/findings/{finding_id:id}/snooze")
def snooze(connection: Connection, actor: Actor, finding_id: int, length: timedelta) -> Done[FindingView]:
    """Leave it out of the list and of alarms for a while."""
    found = snooze_finding(connection, finding_id, length, actor.by)
    return _done(found, f"is snoozed until {found.snoozed_until:%Y-%m-%d %H:%M:%S} UTC")


@action("findings ignore", "/findings/{finding_id:id}/ignore")
def ignore(connection: Connection, actor: Actor, finding_id: int, reason: str) -> Done[FindingView]:
    """Hear no more of a guest that no order names, for good; whoever is given its VMID is told of again."""
    return _done(ignore_finding(connection, finding_id, reason, actor.by), "is ignored")


@action("findings unignore", "/findings/{finding_id:id}/unignore")
def unignore(connection: Connection, _actor: Actor, finding_id: int) -> Done[FindingView]:
    """Take an ``ignore`` back."""
    return _done(unignore_finding(connection, finding_id), "is no longer ignored")


def _done(found: FindingView, became: str) -> Done[FindingView]:
    return Done((f"finding:{found.id}",), f"{found.class_} {found.subject} {became}", found)
