"""An operator approves or rejects a held set. Above SECOND_APPROVAL_ABOVE it takes two operators to approve it."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, text

from panel.operator_error import OperatorError
from panel.operators.approvals.second_operator import APPROVED_FOR, proven_name
from panel.operators.approvals.stored_words import load_standings
from panel.operators.first_filling import begin_filling, first_word_given
from panel.operators.holds import CREATES, RESOLVE_HELD, Decision, HeldSet, held_of, with_approvals
from panel.runs.run_requests import request_run

SHORTEST_PREFIX = 8


def decide_hold(connection: Connection, prefix: str, decision: Decision, by: str, *, above: int | None) -> HeldSet:
    """Approve or reject the set whose hash begins with ``prefix`` (at least 8 characters), and ask for a run.

    A set that has expired can still be decided for 24 hours: the decision counts for each of its items that did not
    change. A later decision may be the opposite. ``above``: SECOND_APPROVAL_ABOVE. Above it the first approval leaves
    the set open, and the second operator's decides. Raises OperatorError.
    """
    connection.execute(ONE_DECIDES)
    newest = _decidable(connection, prefix)
    if decision is Decision.REJECTED:
        if newest.decision == decision.value and not (newest.first_at and newest.first_at > newest.decided_at):
            raise OperatorError("conflict", f"{newest.plan_hash[:12]} is rejected already")
        row, asks_for_run = _decide(connection, newest, decision, by, second=False), True
    else:
        row, asks_for_run = _approve(connection, newest, by, above)
    connection.execute(RESOLVE_HELD)
    if row.decision == "approved" and row.scope == CREATES and not first_word_given(connection):
        begin_filling(connection)
    if asks_for_run:
        request_run(connection)
    return with_approvals(connection, [held_of(row)], above)[0]


def _decidable(connection: Connection, prefix: str) -> Row[Any]:
    """The newest row of the one set that the prefix names, locked against a run that replaces it."""
    if not re.fullmatch(rf"[0-9a-f]{{{SHORTEST_PREFIX},64}}", prefix):
        raise OperatorError("invalid", f"a hash is {SHORTEST_PREFIX} to 64 characters out of 0-9 and a-f")
    matching = connection.execute(DECIDABLE, {"prefix": prefix}).all()
    if not matching:
        raise OperatorError("unknown", f"no held set's hash begins with {prefix}; `panel-sync held` lists them")
    if len({row.plan_hash for row in matching}) > 1:
        raise OperatorError("conflict", f"several held sets' hashes begin with {prefix}; give more of the hash")
    return matching[0]


def _decide(connection: Connection, row: Row[Any], decision: Decision, by: str, *, second: bool) -> Row[Any]:
    values = {"id": row.id, "decision": decision.value, "by": by, "second": second}
    return connection.execute(DECIDE, values).one()


def _approve(connection: Connection, row: Row[Any], by: str, above: int | None) -> tuple[Row[Any], bool]:
    """The row with this approval, and whether a run should come soon: it may write an item now, or the set is closed
    and the run must hold again what is not released."""
    short = row.plan_hash[:12]
    standings = load_standings(connection, above, (item["hash"] for item in row.items))
    if row.decision == "approved":
        # If that is not enough any more, because the number was lowered, the next run holds the items anew.
        raise OperatorError("conflict", f"{short} is approved already")
    found = standings.of(row.items)
    if not standings.needs_second(row.items, above):
        return _decide(connection, row, Decision.APPROVED, by, second=False), True
    missing = [item.operators for item in found if len(item.operators) < 2]
    if not missing:
        raise OperatorError("conflict", f"{short} is approved already, by two operators")
    name = proven_name(by)
    if name is None:
        raise OperatorError("conflict", NOT_PROVEN.format(short=short, hash=row.plan_hash))
    if all(name in names for names in missing):
        raise OperatorError("conflict", f"{name} approved {short} already; a second operator must approve it, too")
    releases = [bool(names - {name}) for names in missing]
    if all(releases) or _first_of_another(row, name, standings.now):
        return _decide(connection, row, Decision.APPROVED, by, second=True), True
    return connection.execute(FIRST, {"id": row.id, "by": by}).one(), any(releases)


def _first_of_another(row: Row[Any], name: str, now: datetime) -> bool:
    """Whether the row keeps the first approval of another operator, in force. It must not be written over."""
    if row.first_at is None or proven_name(row.first_by) == name or now - row.first_at >= APPROVED_FOR:
        return False
    return row.decision != "rejected" or bool(row.first_at > row.decided_at)


NOT_PROVEN = (
    "{short} needs the approval of two operators (SECOND_APPROVAL_ABOVE), and a command cannot prove who gives it; "
    "approve it with your own key, on the page /ops/held/{hash} or by POST /api/ops/held/{hash}/approve"
)


# Two operators may decide at once about sets that share items. Each must see what the other said.
ONE_DECIDES = text("SELECT pg_advisory_xact_lock(hashtextextended('held sets', 0))")
DECIDABLE = text(
    "SELECT * FROM holds WHERE starts_with(plan_hash, :prefix)"
    " AND (decision IS NULL OR decided_at > statement_timestamp() - interval '24 hours' OR decision = 'rejected')"
    " ORDER BY id DESC FOR UPDATE"
)
# The last rejection stays when an approval follows it, also one by a process of the version before. Otherwise the
# approvals before the rejection would count again.
DECIDE = text(
    "UPDATE holds SET decision = :decision, decided_by = :by, decided_at = clock_timestamp(), needs_second = :second,"
    " rejected_at = CASE WHEN :decision = 'rejected' THEN clock_timestamp()"
    " WHEN decision = 'rejected' THEN decided_at ELSE rejected_at END"
    " WHERE id = :id RETURNING *"
)
FIRST = text(
    "UPDATE holds SET first_by = :by, first_at = clock_timestamp(), needs_second = true WHERE id = :id RETURNING *"
)
