"""Believe a source again, or let a new panel go ahead."""

from __future__ import annotations

from sqlalchemy import Connection

from panel.operators.actions.action import Done, action
from panel.operators.audit import Actor
from panel.operators.gate_context import PLAN_SEEN, acknowledge_first_plan
from panel.runs.run_requests import request_run
from panel.runs.source_memory import acknowledge_source, acknowledged_in_words

PLAN = "plan"


@action("acknowledge", "/acknowledge")
def acknowledge(connection: Connection, _actor: Actor, source: str) -> Done[None]:
    """Say that a source which lost much at once is right, or that a plan was looked at before the first deletes."""
    if source == PLAN:
        acknowledge_first_plan(connection)
        said = PLAN_SEEN
    else:
        said = acknowledged_in_words(source, acknowledge_source(connection, source))
    request_run(connection)
    return Done((source,), said, None)
