"""A customer asks to switch a VPS: what was accepted, or a ProblemError that says why not. The JSON routes and the
pages ask here, so both follow the same rules."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row

from api.dependencies import Edge
from api.http.problems import ProblemError
from api.operators.transactions import in_transaction
from domain.power.permission import Refusal
from panel.journal.calls import DatabaseAwayError
from panel.power.facts import PowerRules
from panel.power.requests import Limited, Wanted, ask, open_action
from panel.power.views import public_action
from panel.records.client_records import client_record


async def require_own(edge: Edge, user_id: int, vps_id: int, began: float) -> None:
    """Raise ProblemError 404 unless the VPS is the caller's. It is read in the client's role, for which other
    customers' records do not exist, whatever the statement says."""
    if await edge.read(client_record(edge.clients, user_id, vps_id), began) is None:
        raise ProblemError(404, "vps_unknown", f"VPS {vps_id} does not exist")


def require_power_actions(edge: Edge) -> None:
    """Raise ProblemError 403 while the settings allow no power actions."""
    if not edge.settings.power_actions:
        message = "This panel switches no VPS on or off: power actions are not enabled"
        raise ProblemError(403, "power_actions_off", message)


async def accept(edge: Edge, wanted: Wanted) -> dict[str, Any]:
    """Accept the action of a customer whose VPS it is (``require_own``); a worker does it later. Returns it as its
    customer sees it. Raises ProblemError."""
    require_power_actions(edge)
    rules = PowerRules.of(edge.settings)

    def work(connection: Connection) -> tuple[Row[Any] | Refusal | Limited, Row[Any] | None]:
        outcome = ask(connection, wanted, rules)
        refused = isinstance(outcome, Refusal) and outcome.code == "power_action_in_progress"
        return outcome, open_action(connection, wanted.vps_id, wanted.user_id) if refused else None

    try:
        outcome, going_on = await in_transaction(edge, work)
    except DatabaseAwayError:
        # The commit may have been lost, so "nothing was accepted" would be a guess.
        path = f"/api/vps/{wanted.vps_id}/actions"
        message = f"It is not known whether the action was accepted; look at {path} before you repeat"
        raise ProblemError(503, "outcome_unknown", message, headers={"Retry-After": "5"}) from None
    if isinstance(outcome, Limited):
        message = f"More than {rules.an_hour} power actions in one hour; try again later"
        headers = {"Retry-After": str(outcome.retry_after_s)}
        raise ProblemError(429, "too_many_power_actions", message, headers=headers)
    if isinstance(outcome, Refusal):
        raise _problem(outcome, going_on)
    return public_action(dict(outcome._mapping))


def _problem(refusal: Refusal, going_on: Row[Any] | None) -> ProblemError:
    headers = {"Retry-After": "10"} if refusal.passing or refusal.status == 503 else None
    extra = {} if going_on is None else {"operation": public_action(dict(going_on._mapping))}
    return ProblemError(refusal.status, refusal.code, refusal.message, headers=headers, **extra)
