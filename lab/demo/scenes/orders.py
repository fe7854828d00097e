"""Orders come in through the main site and appear to their owners."""

from __future__ import annotations

import json

from lab.demo.errors import DemoError
from lab.demo.screen import Sight
from lab.demo.stage import Stage
from lab.demo.world import ANNA, BORIS, CLARA, CUSTOMERS, Customer
from lab.simulators.main_site.calls import CallOutcome, CallRecord

TITLE = "Orders come in"

ORDERS: tuple[tuple[str, Customer, str, str], ...] = (
    ("web-01", ANNA, "berlin", "qemu"),
    ("db-01", ANNA, "riga", "lxc"),
    ("shop-01", BORIS, "berlin", "qemu"),
    ("mail-01", CLARA, "riga", "qemu"),
    ("old-01", CLARA, "berlin", "qemu"),
    ("trial-01", BORIS, "berlin", "qemu"),
)


def play(stage: Stage) -> None:
    """The import of customers, orders, the three documented calls, and which client sees what."""
    _users(stage)
    stage.screen.say("The main site creates each guest on Proxmox and makes its documented calls, by key:")
    for name, customer, cluster, guest_type in ORDERS:
        order = stage.site.place_order(user_id=customer.main_site_id, name=name, cluster=cluster, guest_type=guest_type)
        stage.site.set_status(order.id, "running")
    for call in stage.site.list_calls(order_id=stage.existing(ORDERS[0][0]).id):
        show_call(stage, call)
    stage.screen.say(f"... and the same for {len(ORDERS) - 1} more orders.")
    took = stage.until(
        "every client sees its own VPS running, each linked to its order and guest",
        lambda: not stage.differences() and not stage.journal.unlinked(),
        seen=lambda: "; ".join(stage.differences()) or f"{stage.journal.unlinked()} records not linked yet",
    )
    for customer in CUSTOMERS:
        listed = ", ".join(f"{r['id']} {r['name']} {r['status']}" for r in stage.panel.list_vps(customer.panel_id))
        stage.screen.call(f"GET /api/vps as panel user {customer.panel_id} (JWT) -> {listed}")
    _isolated(stage)
    _deleted(stage)
    seen = f"{len(ORDERS)} orders, each seen by its owner alone"
    stage.sights.append(Sight(TITLE, "none", seen, f"{took:.1f} s until all linked", "sync calls, applied in order"))


def show_call(stage: Stage, call: CallRecord) -> None:
    """Print a call and its answer; raise DemoError unless it was accepted."""
    if call.outcome is not CallOutcome.ANSWERED:
        raise DemoError(f"the panel accepts {call.action}", f"{call.outcome} {call.status} {call.message}")
    body = json.dumps(call.body, ensure_ascii=False)
    stage.screen.call(f"POST /api/vps/sync {body} -> {call.status}, VPS {call.vps_id}")


def _users(stage: Stage) -> None:
    pairs = ", ".join(f"panel {c.panel_id} = main site {c.main_site_id}" for c in CUSTOMERS)
    wanted = {customer.panel_id: str(customer.main_site_id) for customer in CUSTOMERS}
    stage.until("beat's users.import brings the customers", lambda: stage.journal.known_users() == wanted)
    stage.screen.right(f"{len(CUSTOMERS)} customers imported; the two sites number them differently: {pairs}")


def _isolated(stage: Stage) -> None:
    other = stage.vps_id("shop-01")
    answer = stage.panel.get_vps(ANNA.panel_id, other)
    if answer.status_code != 404:
        raise DemoError("another customer's VPS is 404", str(answer.status_code), ("api",))
    stage.screen.call(f"GET /api/vps/{other} as panel user {ANNA.panel_id} -> 404 (it is user {BORIS.panel_id}'s)")


def _deleted(stage: Stage) -> None:
    order = stage.existing("trial-01")
    stage.site.cancel_order(order.id)
    show_call(stage, stage.site.list_calls(order_id=order.id)[-1])
    stage.until("the cancelled VPS is gone from its owner's list", lambda: stage.difference("trial-01") is None)
    stage.screen.right("created, updated and deleted by the three documented calls")
