"""Answer a finding: acknowledge it, snooze it, or ignore its guest for good."""

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
    """Note that an operator has seen the finding."""
    return _done(acknowledge_finding(connection, finding_id, actor.by), "is acknowledged")


@action("findings snooze", "/findings/{finding_id:id}/snooze")
def snooze(connection: Connection, actor: Actor, finding_id: int, length: timedelta) -> Done[FindingView]:
    """Leave the finding out of the list and of alarms for a while."""
    finding = snooze_finding(connection, finding_id, length, actor.by)
    return _done(finding, f"is snoozed until {finding.snoozed_until:%Y-%m-%d %H:%M:%S} UTC")


@action("findings ignore", "/findings/{finding_id:id}/ignore")
def ignore(connection: Connection, actor: Actor, finding_id: int, reason: str) -> Done[FindingView]:
    """Ignore a guest that no order names, for good. Another guest that gets its VMID later is reported again."""
    return _done(ignore_finding(connection, finding_id, reason, actor.by), "is ignored")


@action("findings unignore", "/findings/{finding_id:id}/unignore")
def unignore(connection: Connection, _actor: Actor, finding_id: int) -> Done[FindingView]:
    """Take an ``ignore`` back: the guest is listed again."""
    return _done(unignore_finding(connection, finding_id), "is no longer ignored")


def _done(finding: FindingView, outcome: str) -> Done[FindingView]:
    return Done((f"finding:{finding.id}",), f"{finding.class_} {finding.subject} {outcome}", finding)
