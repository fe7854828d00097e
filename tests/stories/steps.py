"""Steps that many stories begin with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import text

from panel.operators.approvals.deciding import decide_hold
from panel.operators.holds import Decision, HeldSet, list_holds
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


def converge(world: Bench, *sold: Sold) -> None:
    """Reconcile until the records are linked and identified."""
    world.run()
    for sale in sold:
        row = record(world, sale.vps_id)
        assert (row["order_id"], row["link_state"], row["status"]) == (str(sale.order_id), "verified", "running")


def sell_converged(world: Bench, name: str = "web-01", **order: Any) -> Sold:
    """One order, sold and converged."""
    sold = sell(world, name, **order)
    converge(world, sold)
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
    for sale in sold:
        world.site.cancel_order(sale.order_id, remove_guest=False, notify=False)
        world.pve.remove_guest(sale.vmid)


def held_sets(world: Bench) -> list[HeldSet]:
    with world.engine.connect() as connection:
        return list_holds(connection)


def decide(world: Bench, prefix: str, decision: Decision) -> HeldSet:
    with world.engine.begin() as connection:
        return decide_hold(connection, prefix, decision, "cli:test", above=None)


def live(world: Bench) -> list[int]:
    return [row["id"] for row in world.vps()]


def swap(world: Bench, sold: Sold, status: str = "running", **guest: Any) -> str:
    """Replace a guest between two reads by one that looks the same in every list; the new one's fingerprint."""
    old = world.pve.find_guest(sold.vmid)
    assert old is not None
    world.pve.remove_guest(sold.vmid)
    values: dict[str, Any] = {
        "name": old.name,
        "node": old.node,
        "cores": old.cores,
        "memory_mb": old.memory_mb,
        "disk_gb": old.disk_gb,
    }
    new = world.pve.add_guest(sold.vmid, status=status, **values | guest)
    return f"smbios:{new.uuid}"


def long_running(world: Bench, name: str = "web-01", **order: Any) -> Sold:
    """A sold machine that was started an hour before its configuration was read, as far as Proxmox tells."""
    sold = sell_converged(world, name, **order)
    age(world, sold)
    assert guest_row(world, sold)["fingerprint_state"] == "read"
    return sold


def age(world: Bench, *sold: Sold) -> None:
    """Let every guest have been started an hour ago."""
    for sale in sold:
        world.pve.set_uptime(sale.vmid, 3600)


def guest_row(world: Bench, sold: Sold) -> dict[str, Any]:
    (row,) = [r for r in world._rows("SELECT * FROM guests") if r["vmid"] == sold.vmid]
    return row


def guest_facts(world: Bench, sold: Sold) -> dict[str, Any]:
    """What the record says of its guest."""
    row = record(world, sold.vps_id)
    return {key: row[key] for key in ("power_state", "node", "fingerprint", "name", "cpu", "ram_mb", "disk_gb")}


def reasons(world: Bench, class_: str) -> list[str]:
    """What the open findings of a class say."""
    rows = world._rows(f"SELECT reason FROM findings WHERE class = '{class_}' AND resolved_at IS NULL ORDER BY subject")
    return [str(row["reason"]) for row in rows]


def reason(world: Bench, class_: str) -> str:
    """What the only open finding of a class says."""
    (only,) = reasons(world, class_)
    return only
