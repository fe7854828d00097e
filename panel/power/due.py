"""Which power actions are to be published now. The relay asks; docs/life-of-a-power-action.md says why so often."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, text

from domain.power import conduct
from panel.power.progress import LONGEST_S
from panel.schema.power_tables import IS_OPEN
from panel.webhooks.events import note_power_actions

TASK = "power.act"
"""The task that does an action's next step."""

LIMIT = 200

GIVEN_UP_S = LONGEST_S + 300
"""A worker ends an action after ``LONGEST_S``. One that is open for longer than this has no worker."""


def claim_due(connection: Connection) -> list[Row[Any]]:
    """The open actions whose next step is due: ``id`` and ``traceparent``. Each is due again later, also if its message
    is lost or its worker dies.

    A worker that ends its step says itself when the next one is due.
    """
    return list(connection.execute(CLAIM, {"limit": LIMIT}))


def make_due_again(connection: Connection, ids: Sequence[int]) -> None:
    """These were perhaps not published: they are due again in a second."""
    if ids:
        connection.execute(DUE_AGAIN, {"ids": list(ids)})


def end_given_up(connection: Connection) -> list[int]:
    """End the actions that no worker takes any more, as when the queue's worker was switched off. Otherwise they would
    stand against every later action of their VPS. Returns their ids."""
    never, lost = conduct.not_taken(), conduct.not_told()
    values = {
        "given_up_s": GIVEN_UP_S, "halfway": conduct.HALFWAY,
        "never": never.state.value, "never_code": never.code, "never_reason": never.reason,
        "lost": lost.state.value, "lost_code": lost.code, "lost_reason": lost.reason,
    }  # fmt: skip
    ended = list(connection.scalars(END_GIVEN_UP, values))
    note_power_actions(connection, ended)
    return ended


CLAIM = text(
    "UPDATE power_actions SET publishes = publishes + 1,"
    " publish_at = clock_timestamp() + make_interval(secs => 30 * power(2, least(publishes, 3)))"
    " WHERE id IN (SELECT id FROM power_actions"
    f" WHERE {IS_OPEN} AND publish_at <= statement_timestamp()"
    " ORDER BY publish_at, id LIMIT :limit FOR UPDATE SKIP LOCKED) RETURNING id, traceparent"
)
DUE_AGAIN = text(
    "UPDATE power_actions SET publish_at = clock_timestamp() + interval '1 second',"
    f" publishes = greatest(publishes - 1, 0) WHERE id = ANY(:ids) AND {IS_OPEN}"
)
END_GIVEN_UP = text(
    "UPDATE power_actions SET ended_at = clock_timestamp(), taken_until = NULL,"
    " state = CASE WHEN sending_at IS NULL THEN CAST(:never AS text) ELSE :lost END,"
    " code = CASE WHEN sending_at IS NULL THEN CAST(:never_code AS text) ELSE :lost_code END,"
    " reason = CASE WHEN step > 0 THEN CAST(:halfway AS text) ELSE '' END"
    " || CASE WHEN sending_at IS NULL THEN CAST(:never_reason AS text) ELSE :lost_reason END"
    f" WHERE {IS_OPEN} AND asked_at < statement_timestamp() - make_interval(secs => :given_up_s)"
    " AND coalesce(taken_until < statement_timestamp(), true) RETURNING id"
)
