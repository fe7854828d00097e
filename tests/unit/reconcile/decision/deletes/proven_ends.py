"""Worlds in which a delete is proven, and the deletes that a plan has."""

from __future__ import annotations

from typing import Any

from domain.changes import Change, ChangePlan
from domain.confirmations import GuestIsGone, OrderIsOver
from domain.orders import OrderState
from reconcile.decision.cases import World
from tests.unit.reconcile.worlds import KEY, absence, ago, asks, order, record, world

ENDED: dict[str, Any] = {"state": OrderState.ENDED, "status": "cancelled", "state_since": ago(days=1)}

BOTH = (GuestIsGone, OrderIsOver)


def ended(order_values: dict[str, Any] | None = None, **values: Any) -> World:
    """The order ended and its guest is proven absent: a missed delete."""
    sold = order(**ENDED | (order_values or {}))
    return world(**{"orders": (sold,), "records": (record(),), "guest_absences": {KEY: absence()}} | values)


def orphan(**values: Any) -> World:
    """Neither order nor guest exist any more, proven."""
    proof = {"guest_absences": {KEY: absence(hours=30)}, "order_absences": {"1": absence(hours=30)}}
    return world(**{"records": (record(),)} | proof | values)


def deletes(made: ChangePlan) -> list[Change]:
    """Those that may happen by themselves."""
    return [c for c in made.changes if c.action == "delete" and asks(c) is None]


def asked(made: ChangePlan) -> list[Change]:
    """Those that wait for an operator, each for a word of its own."""
    return [c for c in made.changes if asks(c) is not None]
