"""A guest moves to another node. The record follows, and nothing is deleted."""

from __future__ import annotations

from lab.demo.errors import DemoError
from lab.demo.fault_and_repair import heal
from lab.demo.stage import Stage

TITLE = "A guest migrates"
NAME, TARGET = "web-01", "pve2"


def play(stage: Stage) -> None:
    """Move the guest, and see the same VPS on its new node."""
    order = stage.existing(NAME)
    if order.cluster is None or order.vmid is None:
        raise DemoError(f"{NAME} has a guest", "none", ("main-site",))
    cluster, vmid = order.cluster, order.vmid
    vps_id, deletes = stage.vps_id(NAME), stage.journal.deletes()
    stage.screen.say(f"Proxmox moves guest {cluster}/{vmid} of {NAME} to node {TARGET}.")

    def wrong() -> str | None:
        guest, node = stage.guest(order), stage.journal.column(vps_id, "node")
        if guest is not None and guest.node == node:
            return None
        return f"guest {cluster}/{vmid} is on {guest.node if guest else 'no node'}, the record says {node}"

    heal(
        stage,
        scene=TITLE,
        fault=f"guest moved to {TARGET}",
        make=lambda: stage.clusters[cluster].migrate(vmid, TARGET),
        wrong=wrong,
        repaired=lambda o: o.vps_id == vps_id and o.action == "update" and TARGET in (o.reason or ""),
    )
    if stage.vps_id(NAME) != vps_id or stage.journal.deletes() != deletes:
        raise DemoError("the VPS keeps its id and nothing is deleted", "another id, or a delete")
    stage.screen.right(f"still VPS {vps_id}; nothing was deleted")
