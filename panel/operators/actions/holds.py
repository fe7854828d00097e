"""Approve and reject held sets. The first 8 characters of the hash, or more, name the set."""

from __future__ import annotations

from sqlalchemy import Connection

from panel.operators.actions.action import Done, action
from panel.operators.audit import Actor
from panel.operators.first_filling import filling_since
from panel.operators.holds import CREATES, Decision, HeldSet, decide_hold

FILLING = "This covers the first filling: every order that is known now, for 24 hours."


@action("approve", "/held/{held_hash}/approve")
def approve(connection: Connection, actor: Actor, prefix: str) -> Done[HeldSet]:
    """Let runs write exactly the items of this set within 24 hours. Each is confirmed singly before it is written."""
    return _decide(connection, actor, prefix, Decision.APPROVED)


@action("reject", "/held/{held_hash}/reject")
def reject(connection: Connection, actor: Actor, prefix: str) -> Done[HeldSet]:
    """Refuse this set. For 30 days runs do not write its items, and ask again only about an item that changes."""
    return _decide(connection, actor, prefix, Decision.REJECTED)


def _decide(connection: Connection, actor: Actor, prefix: str, decision: Decision) -> Done[HeldSet]:
    decided = decide_hold(connection, prefix, decision, actor.by)
    message = f"{decided.hash[:12]} {decided.scope}: {len(decided.items)} {decision.value}"
    if decided.scope == CREATES and decision is Decision.APPROVED and filling_since(connection) is not None:
        message = f"{message}\n{FILLING}"
    return Done((decided.hash,), message, decided)
