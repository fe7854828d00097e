"""Acknowledge what a degraded source lost, or the first plan of a new panel."""

from __future__ import annotations

from sqlalchemy import Connection, text

from panel.operator_error import OperatorError
from panel.operators.actions.action import Done, action
from panel.operators.audit import Actor
from panel.operators.gate_context import PLAN_SEEN, acknowledge_first_plan
from panel.runs.run_requests import request_run
from panel.runs.source_states import acknowledge_source, acknowledged_in_words

PLAN = "plan"

READ_BY_A_RUN = "SELECT 1 FROM runs WHERE kind = 'full' AND state = 'done' LIMIT 1"

# The operator's word covers the orders that the panel knows at that moment, and a plan stores none.
NOTHING_READ = (
    "no run has read the orders yet, so the panel knows none that this could cover: start the workers and look at "
    "the plan again, or use panel-sync reconcile --apply"
)


@action("acknowledge", "/acknowledge")
def acknowledge(connection: Connection, _actor: Actor, source: str) -> Done[None]:
    """Confirm that a source which lost much at once is right, or, with ``plan``, that you have seen the first plan."""
    if source == PLAN:
        if connection.scalar(text(READ_BY_A_RUN)) is None:
            raise OperatorError("conflict", NOTHING_READ)
        acknowledge_first_plan(connection)
        message = PLAN_SEEN
    else:
        message = acknowledged_in_words(source, acknowledge_source(connection, source))
    request_run(connection)
    return Done((source,), message, None)
