"""Drift in a whole panel: how it is made, and what the journal and its commands tell of it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lab.simulators.main_site.calls import CallOutcome
from lab.simulators.main_site.faults import CallFaultKind
from lab.simulators.main_site.model import Order
from tests.support.live_panel import LivePanel, Outside
from tests.support.waiting import wait_until

CLIENT = 5
BEGINNING_S, HELD_S = 2.0, 30.0
"""For so long Proxmox keeps each answer, or until the test takes that back. Its clients wait for 40 s."""


def sold(panel: LivePanel, world: Outside, name: str) -> tuple[Order, int]:
    """A running VPS that the panel shows, and whose guest and order it knows; its order and its id."""
    order = world.site.place_order(user_id=1, name=name)
    world.site.set_status(order.id, "running")
    record = panel.wait_status(CLIENT, name, "running")
    statement = "SELECT link_state, order_id FROM vps WHERE id = :id"
    expected = [{"link_state": "verified", "order_id": str(order.id)}]
    wait_until(lambda: panel.rows(statement, id=record["id"]) == expected, f"{name} to be linked")
    return world.site.get_order(order.id), record["id"]


def drop_next(world: Outside, action: Any) -> None:
    """The main site's next call of that kind never leaves it."""
    world.site.fault_calls(CallFaultKind.DROP, action=action)


def assert_dropped(world: Outside, order: Order, action: str) -> None:
    """The fault bit: the call was to be made and was not sent."""
    call = world.site.list_calls(order_id=order.id)[-1]
    assert (call.action, call.outcome, call.deliveries) == (action, CallOutcome.DROPPED, 0)


@contextmanager
def nobody_repairs(panel: LivePanel) -> Iterator[None]:
    """What goes wrong within the block stays wrong as long as it lasts: the worker that repairs is frozen."""
    worker = panel.process("worker-reconcile")
    worker.pause()
    try:
        yield
    finally:
        worker.resume()


def stop_guest(world: Outside, order: Order) -> None:
    assert order.vmid is not None
    world.pve.set_status(order.vmid, "stopped")


def newest_repair(panel: LivePanel, vps_id: int, action: str) -> dict[str, Any]:
    """The last repair of that kind, which must say why, on what grounds and in which run."""
    found = [repair for repair in panel.repairs(vps_id) if repair["action"] == action]
    assert found, f"the journal has no {action} of VPS {vps_id}"
    assert found[-1]["state"] == "applied"
    assert found[-1]["reason"]
    assert found[-1]["evidence"]
    assert found[-1]["run_id"]
    return found[-1]


def history(panel: LivePanel, vps_id: int) -> str:
    """What ``panel-sync vps history`` tells an operator, without the line breaks of its table."""
    ran = subprocess.run(  # noqa: S603 - our own command
        [sys.executable, "-P", "-m", "cli.main", "vps", "history", str(vps_id)],
        env={**os.environ, "DATABASE_URL": panel.settings.database_url, "COLUMNS": "500"},
        cwd=panel.directory,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return ran.stdout


def held_run(panel: LivePanel, world: Outside) -> int:
    """A full run that has just begun, and that Proxmox keeps waiting until the test lets it go on; its id."""
    world.pve.slow_down(BEGINNING_S)
    latest = "SELECT id, state FROM runs WHERE kind = 'full' ORDER BY id DESC LIMIT 1"
    before = panel.rows(latest)[0]["id"]

    def under_way() -> list[int]:
        return [run["id"] for run in panel.rows(latest) if run["state"] == "running" and run["id"] > before]

    found = wait_until(under_way, "a slow full run to be under way")[0]
    world.pve.slow_down(HELD_S)  # for the answers that it waits for already, too
    return found
