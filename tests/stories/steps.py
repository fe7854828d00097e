"""Steps that many stories begin with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import text

from panel.holds import Decision, HeldSet, decide_hold, list_holds
from tests.support.bench import Bench

ABSENT = 3
"""Runs until an absence is proven."""


@dataclass(frozen=True, slots=True)
class Sold:
    """An order whose calls arrived, its record and its guest."""

    order_id: int
    vps_id: int
    vmid: int


def sell(world: Bench, name: str, *, user_id: int = 1, node: str | None = None, **order: Any) -> Sold:
    """An order that is paid, created and running, with both calls answered; not reconciled yet."""
    placed = world.site.place_order(user_id=user_id, name=name, **order)
    placed = world.site.set_status(placed.id, "running")
    world.drain()
    assert placed.panel_vps_id is not None
    assert placed.vmid is not None
    if node is not None:
        world.clusters[placed.cluster or world.pve.name].migrate(placed.vmid, node)
    return Sold(placed.id, placed.panel_vps_id, placed.vmid)


def settle(world: Bench, *sold: Sold) -> None:
    """Reconcile until the records are linked and identified."""
    world.run()
    for one in sold:
        row = record(world, one.vps_id)
        assert (row["order_id"], row["link_state"], row["status"]) == (str(one.order_id), "verified", "running")


def settled(world: Bench, name: str = "web-01", **order: Any) -> Sold:
    """One order, sold and settled."""
    sold = sell(world, name, **order)
    settle(world, sold)
    return sold


def record(world: Bench, vps_id: int) -> dict[str, Any]:
    """One record as stored, a tombstone too."""
    (row,) = [r for r in world.every_vps() if r["id"] == vps_id]
    return row


def statuses(world: Bench) -> dict[int, str]:
    """The status of every live record."""
    return {row["id"]: row["status"] for row in world.vps()}


def repairs_since(world: Bench, last_id: int) -> list[dict[str, Any]]:
    """The journal's repairs after an operation."""
    return [r for r in world.repairs() if r["id"] > last_id]


def last_repair(world: Bench) -> int:
    """The id of the newest repair; 0 if there is none."""
    return max((r["id"] for r in world.repairs()), default=0)


def execute(world: Bench, statement: str, **values: Any) -> None:
    """Change the database directly, as time would."""
    with world.engine.begin() as connection:
        connection.execute(text(statement), values)


def end_silently(world: Bench, *sold: Sold) -> None:
    """Orders end and guests go, and no call says so."""
    for one in sold:
        world.site.cancel_order(one.order_id, remove_guest=False, notify=False)
        world.pve.remove_guest(one.vmid)


def held_sets(world: Bench) -> list[HeldSet]:
    with world.engine.connect() as connection:
        return list_holds(connection)


def decide(world: Bench, prefix: str, decision: Decision) -> HeldSet:
    with world.engine.begin() as connection:
        return decide_hold(connection, prefix, decision, "cli:test")


def live(world: Bench) -> list[int]:
    return [row["id"] for row in world.vps()]
