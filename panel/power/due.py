"""Which power actions are to be published now. The relay asks; docs/life-of-a-power-action.md says why so often."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, text

from panel.schema.power_tables import IS_OPEN

TASK = "power.act"
"""The task that does an action's next step."""

LIMIT = 200


def claim_due(connection: Connection) -> list[int]:
    """The open actions whose next step is due. Each is due again later, also if its message is lost or its worker dies.

    A worker that ends its step says itself when the next one is due.
    """
    return list(connection.scalars(CLAIM, {"limit": LIMIT}))


def make_due_again(connection: Connection, ids: Sequence[int]) -> None:
    """These were perhaps not published: they are due again in a second."""
    if ids:
        connection.execute(DUE_AGAIN, {"ids": list(ids)})


CLAIM = text(
    "UPDATE power_actions SET publishes = publishes + 1,"
    " publish_at = clock_timestamp() + make_interval(secs => 30 * power(2, least(publishes, 3)))"
    " WHERE id IN (SELECT id FROM power_actions"
    f" WHERE {IS_OPEN} AND publish_at <= statement_timestamp()"
    " ORDER BY publish_at, id LIMIT :limit FOR UPDATE SKIP LOCKED) RETURNING id"
)
DUE_AGAIN = text(
    "UPDATE power_actions SET publish_at = clock_timestamp() + interval '1 second',"
    f" publishes = greatest(publishes - 1, 0) WHERE id = ANY(:ids) AND {IS_OPEN}"
)
