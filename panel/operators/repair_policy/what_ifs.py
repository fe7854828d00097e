"""What-ifs: plans that operators asked for under another repair policy. A worker makes them; nothing else is written.

The API has no access to the sources, so it stores the question, and the relay sends it on to the workers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field
from sqlalchemy import ColumnElement, Connection, Row, insert, literal_column, select, text, update

from panel.api_answer import api_answer
from panel.operator_error import OperatorError
from panel.operators.repair_policy.outcome import Outcome, loaded, stored
from panel.operators.repair_policy.policies import checked_policy
from panel.runs.run_requests import request_task
from panel.schema.what_if_tables import what_ifs

TASK = "reconcile.what_if"
LOST_MIN = 30
"""After so many minutes without an outcome a what-if counts as lost. A worker waits for its turn for 10 minutes at
most, and a run takes at most 10."""

LOST = f"no worker made it within {LOST_MIN} minutes: see that workers of the queue reconcile run, and ask again"


@api_answer
@dataclass(frozen=True, slots=True)
class WhatIf:
    """A plan under another repair policy. ``policy``: what was asked, beside what ``REPAIR_POLICY`` says. ``run_id``:
    of the dry run, as ``/api/ops/runs`` lists it."""

    id: int
    asked_at: datetime
    asked_by: str
    policy: dict[str, str]
    state: Annotated[Literal["waiting", "done", "failed"], Field(description="waiting: a worker makes it")]
    ended_at: datetime | None
    run_id: int | None
    problem: Annotated[str | None, Field(description="Why there is no outcome")]
    outcome: Outcome | None


def ask_what_if(connection: Connection, policy: Mapping[str, str], by: str) -> WhatIf:
    """Ask the workers what the next run would do under this policy. One at a time, because each reads every source.
    Raises OperatorError."""
    checked = checked_policy(policy)
    connection.execute(ONE_ASKS)  # or two that ask at once would not see each other
    if (other := connection.scalar(WAITING, {"minutes": LOST_MIN})) is not None:
        raise OperatorError("conflict", f"what-if {other} is being made; ask again once it is done")
    row = connection.execute(
        insert(what_ifs).values(asked_by=by, policy=checked, state="waiting").returning(*what_ifs.c)
    ).one()
    request_task(connection, TASK, str(row.id))
    return _what_if(row, late=False)


def what_if(connection: Connection, id_: int) -> WhatIf:
    """One what-if. Raises OperatorError."""
    row = connection.execute(select(what_ifs, LATE).where(what_ifs.c.id == id_)).one_or_none()
    if row is None:
        raise OperatorError("unknown", f"there is no what-if {id_}; they are kept for 14 days")
    return _what_if(row, late=row.late)


def latest_what_ifs(connection: Connection, limit: int = 20) -> list[WhatIf]:
    """The latest what-ifs, newest first."""
    rows = connection.execute(select(what_ifs, LATE).order_by(what_ifs.c.id.desc()).limit(limit))
    return [_what_if(row, late=row.late) for row in rows]


def waiting_policy(connection: Connection, id_: int) -> dict[str, str] | None:
    """The policy of a what-if that is still to be made; None if it is not."""
    policy: dict[str, str] | None = connection.scalar(
        select(what_ifs.c.policy).where(what_ifs.c.id == id_, what_ifs.c.state == "waiting")
    )
    return policy


def keep_outcome(connection: Connection, id_: int, run_id: int | None, outcome: Outcome) -> None:
    """Keep what came of it."""
    _end(connection, id_, state="done", run_id=run_id, outcome=stored(outcome))


def keep_problem(connection: Connection, id_: int, problem: str) -> None:
    """Keep why nothing came of it. ``problem``: a sentence without secrets."""
    _end(connection, id_, state="failed", problem=problem)


def _end(connection: Connection, id_: int, **values: Any) -> None:  # noqa: ANN401 - columns
    connection.execute(
        update(what_ifs)
        .where(what_ifs.c.id == id_, what_ifs.c.state == "waiting")
        .values(ended_at=text("clock_timestamp()"), **values)
    )


def _what_if(row: Row[Any], *, late: bool) -> WhatIf:
    lost = row.state == "waiting" and late
    return WhatIf(
        row.id,
        row.asked_at,
        row.asked_by,
        row.policy,
        "failed" if lost else row.state,
        row.ended_at,
        row.run_id,
        LOST if lost else row.problem,
        loaded(row.outcome) if row.outcome is not None else None,
    )


LATE: ColumnElement[bool] = literal_column(f"asked_at < statement_timestamp() - interval '{LOST_MIN} minutes'").label(
    "late"
)
ONE_ASKS = text("SELECT pg_advisory_xact_lock(hashtextextended('what-ifs', 0))")
WAITING = text(
    "SELECT id FROM what_ifs WHERE state = 'waiting'"
    " AND asked_at > statement_timestamp() - make_interval(mins => :minutes) ORDER BY asked_at LIMIT 1"
)
