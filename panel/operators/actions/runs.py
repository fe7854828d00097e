"""Start a run, by the workers or by the operator's own command."""

from __future__ import annotations

from sqlalchemy import Connection

from panel.operators.actions.action import Done, action
from panel.operators.audit import Actor
from panel.operators.gate_context import PLAN_SEEN
from panel.runs.run_requests import request_run

EVERYTHING = "everything"


@action("reconcile", "/reconcile", later=True)
def ask_for_run(connection: Connection, _actor: Actor, subject: str = "") -> Done[None]:
    """Ask the workers for a run now: of everything, or of what concerns one VPS, user or cluster."""
    request_run(connection, subject)
    about = subject or EVERYTHING
    return Done((about,), f"the workers were asked for a run for {about}; /api/ops/runs shows what it did", None)


@action("reconcile")
def apply_now(_connection: Connection, _actor: Actor, subject: str = "") -> Done[None]:
    """Let the operator's own command apply the plan that it showed. Without a subject this also acknowledges the plan.

    The run notes that acknowledgement itself once it has read the orders (``reconcile.run.run_full``, ``plan_seen``).
    """
    if subject:
        return Done((subject,), f"what concerns {subject} is applied now", None)
    return Done((EVERYTHING,), PLAN_SEEN, None)
