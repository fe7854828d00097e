"""Approve and reject held sets. The first 8 characters of the hash, or more, name the set."""

from __future__ import annotations

from sqlalchemy import Connection

from panel.operators.actions.action import Done, action
from panel.operators.approvals.deciding import decide_hold
from panel.operators.audit import Actor
from panel.operators.first_filling import filling_since
from panel.operators.holds import CREATES, Decision, HeldSet

WAITS_WHOLLY = (
    "This is the first of two approvals: runs write nothing before a second operator approves it, within 24 hours "
    "(SECOND_APPROVAL_ABOVE)."
)
WAITS_PARTLY = (
    "Another operator approved {count} of them before, so runs write these; the others need a second operator, within "
    "24 hours (SECOND_APPROVAL_ABOVE)."
)
FILLING = "This covers the first filling: every order that is known now, for 24 hours."


@action("approve", "/held/{held_hash}/approve")
def approve(connection: Connection, actor: Actor, prefix: str, second_above: int | None) -> Done[HeldSet]:
    """Let runs write exactly the items of this set within 24 hours. Each is confirmed singly before it is written.

    A set above `SECOND_APPROVAL_ABOVE` needs two operators, each with a key of their own. After the first approval the
    set stays open and nothing is written.
    """
    return _decide(connection, actor, prefix, Decision.APPROVED, second_above)


@action("reject", "/held/{held_hash}/reject")
def reject(connection: Connection, actor: Actor, prefix: str, second_above: int | None) -> Done[HeldSet]:
    """Refuse this set. For 30 days runs do not write its items, and ask again only about an item that changes.

    This also takes back a first approval, whoever gave it.
    """
    return _decide(connection, actor, prefix, Decision.REJECTED, second_above)


def _decide(connection: Connection, actor: Actor, prefix: str, decision: Decision, above: int | None) -> Done[HeldSet]:
    decided = decide_hold(connection, prefix, decision, actor.by, above=above)
    message = f"{decided.hash[:12]} {decided.scope}: {len(decided.items)} {decision.value}"
    if decided.waits_for_second and decision is Decision.APPROVED:
        waits = WAITS_WHOLLY if not decided.released else WAITS_PARTLY.format(count=decided.released)
        return Done((f"{decided.hash} first of two",), f"{message}. {waits}", decided)
    if decided.scope == CREATES and decision is Decision.APPROVED and filling_since(connection) is not None:
        message = f"{message}\n{FILLING}"
    if decided.needs_second and decision is Decision.APPROVED:
        return Done((f"{decided.hash} second of two",), f"{message}, by two operators", decided)
    return Done((decided.hash,), message, decided)
