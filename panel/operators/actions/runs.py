"""Start a run, by the workers or by the operator's own command, or ask what one would do under another policy."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection, text

from panel.operators.actions.action import Done, action
from panel.operators.audit import Actor
from panel.operators.gate_context import PLAN_SEEN
from panel.operators.pauses import ALL, USER, VPS, pauses_in_force
from panel.operators.repair_policy import what_ifs
from panel.operators.repair_policy.policies import policy_text
from panel.operators.repair_policy.what_ifs import WhatIf
from panel.runs.run_requests import request_run

EVERYTHING = "everything"
WHERE_RUNS = "the list of runs shows what it did"
OWNER = text("SELECT user_id FROM vps WHERE id = :id")


@action("reconcile", "/reconcile", later=True)
def ask_for_run(connection: Connection, _actor: Actor, subject: str = "") -> Done[None]:
    """Ask the workers for a run now: of everything, or of what concerns one VPS, user or cluster."""
    request_run(connection, subject)
    about = subject or EVERYTHING
    told = f"the workers were asked for a run for {about}; {WHERE_RUNS}"
    return Done((about,), f"{told}\n{paused}" if (paused := _left_alone(connection, subject)) else told, None)


def _left_alone(connection: Connection, subject: str) -> str | None:
    """What a run for this subject will not write because of a pause."""
    in_force = pauses_in_force(connection)
    owner = None
    if subject.startswith(VPS) and subject.removeprefix(VPS).isdecimal():
        owner = connection.scalar(OWNER, {"id": int(subject.removeprefix(VPS))})
    targets = (ALL, subject) if owner is None else (ALL, subject, f"{USER}{owner}")
    found = next((in_force[target] for target in targets if target in in_force), None)
    return None if found is None else f"But {found.target} is {found}. A run leaves it alone."


@action("reconcile")
def apply_now(_connection: Connection, _actor: Actor, subject: str = "") -> Done[None]:
    """Let the operator's own command apply the plan that it showed. Without a subject this also acknowledges the plan.

    The run notes that acknowledgement itself once it has read the orders (``reconcile.run.run_full``, ``plan_seen``).
    """
    if subject:
        return Done((subject,), f"what concerns {subject} is applied now", None)
    return Done((EVERYTHING,), PLAN_SEEN, None)


@action("plan", "/what-if", later=True)
def ask_what_if(connection: Connection, actor: Actor, policy: Mapping[str, str]) -> Done[WhatIf]:
    """Ask the workers what the next run would do if these classes were handled otherwise. They make a plan as
    `panel-sync plan` does; no record, proof, hold or finding changes. `GET /api/ops/what-ifs/{id}` shows the outcome.
    """
    asked = what_ifs.ask_what_if(connection, policy, actor.by)
    told = (
        f"a worker makes what-if {asked.id} ({policy_text(asked.policy)}); it reads every source, so it takes a while"
    )
    return Done((f"what-if:{asked.id}",), told, asked)
