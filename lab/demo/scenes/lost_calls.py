"""Calls that never arrive, and a guest that is stopped without a call."""

from __future__ import annotations

from lab.demo.errors import DemoError
from lab.demo.fault_and_repair import heal, update_of
from lab.demo.scenes.orders import ORDERS
from lab.demo.stage import Stage
from lab.demo.world import ANNA
from lab.simulators.main_site.calls import CallOutcome
from lab.simulators.main_site.faults import Action, CallFaultKind

TITLE = "Calls get lost"
LATE = "lost-01"


def play(stage: Stage) -> None:
    """A lost create, two lost status changes, and a change without any call."""
    stage.screen.say(f"A create is dropped on its way: the order and its guest {LATE} exist, the panel knows nothing.")
    heal(
        stage,
        scene=TITLE,
        fault="a create is lost",
        make=lambda: _order_without_call(stage),
        wrong=lambda: stage.difference(LATE),
        repaired=lambda operation: operation.action == "create",
    )
    for status in ("stopped", "suspended"):
        name = {"stopped": "web-01", "suspended": "mail-01"}[status]
        stage.screen.say(f"{name} becomes {status} at the main site, and that call is dropped too.")
        heal(
            stage,
            scene=TITLE,
            fault=f"a change to {status} is lost",
            make=lambda name=name, status=status: _status_without_call(stage, name, status),  # type: ignore[misc]
            wrong=lambda name=name: stage.difference(name),  # type: ignore[misc]
            repaired=update_of(stage.vps_id(name), status),
        )
    stage.screen.say("An administrator stops the guest of db-01 on the Proxmox node itself; no call is ever made.")
    heal(
        stage,
        scene=TITLE,
        fault="a guest is stopped without a call",
        make=lambda: stop_guest(stage, "db-01"),
        wrong=lambda: stage.difference("db-01"),
        repaired=update_of(stage.vps_id("db-01"), "stopped"),
    )
    _all_running(stage)


def stop_guest(stage: Stage, name: str) -> None:
    """Stop an order's guest on its cluster, without a call."""
    order = stage.existing(name)
    if order.cluster is None or order.vmid is None:
        raise DemoError(f"{name} has a guest", "none", ("main-site",))
    stage.clusters[order.cluster].set_status(order.vmid, "stopped")


def drop_next(stage: Stage, action: Action, kind: CallFaultKind = CallFaultKind.DROP) -> None:
    """Let the fault hit the main site's next call of that action."""
    stage.site.fault_calls(kind, action=action)


def assert_dropped(stage: Stage, order_id: int, action: Action) -> None:
    """Raise DemoError unless the order's last call of that action was dropped."""
    outcomes = [call.outcome for call in stage.site.list_calls(order_id=order_id) if call.action == action]
    if not outcomes or outcomes[-1] is not CallOutcome.DROPPED:
        raise DemoError(f"the {action} was dropped", str(outcomes), ("main-site",))


def _order_without_call(stage: Stage) -> None:
    drop_next(stage, "create")
    order = stage.site.place_order(user_id=ANNA.main_site_id, name=LATE, cluster="berlin")
    # The main site got no answer to the create, so it knows no id and cannot send this change either.
    stage.site.set_status(order.id, "running")
    assert_dropped(stage, order.id, "create")


def _status_without_call(stage: Stage, name: str, status: str) -> None:
    order = stage.existing(name)
    drop_next(stage, "update")
    stage.site.set_status(order.id, status)
    assert_dropped(stage, order.id, "update")


def _all_running(stage: Stage) -> None:
    for name in (*(name for name, *_ in ORDERS), LATE):
        order = stage.existing(name)
        if order.status != "cancelled":
            stage.site.set_status(order.id, "running")
    stage.until_true("all run again")
