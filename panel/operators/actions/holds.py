"""Decide held sets, by the first 8 characters of their hash or more."""

from __future__ import annotations

from sqlalchemy import Connection

from panel.operators.actions.action import Done, action
from panel.operators.audit import Actor
from panel.operators.first_filling import filling_since
from panel.operators.holds import CREATES, Decision, HeldSet, decide_hold

FILLING = "This covers the first filling: every order that is known now, for 24 hours."


@action("approve", "/held/{held_hash}/approve")
def approve(connection: Connection, actor: Actor, prefix: str) -> Done[HeldSet]:
    """Let a set happen: exactly its items, each confirmed by itself before it is written, within 24 hours."""
    return _decide(connection, actor, prefix, Decision.APPROVED)


@action("reject", "/held/{held_hash}/reject")
def reject(connection: Connection, actor: Actor, prefix: str) -> Done[HeldSet]:
    """Refuse a set: its items stay as they are while they do not change."""
    return _decide(connection, actor, prefix, Decision.REJECTED)


def _decide(connection: Connection, actor: Actor, prefix: str, decision: Decision) -> Done[HeldSet]:
    decided = decide_hold(connection, prefix, decision, actor.by)
    said = f"{decided.hash[:12]} {decided.scope}: {len(decided.items)} {decision.value}"
    if decided.scope == CREATES and decision is Decision.APPROVED and filling_since(connection) is not None:
        said = f"{said}\n{FILLING}"
    return Done((decided.hash,), said, decided)
