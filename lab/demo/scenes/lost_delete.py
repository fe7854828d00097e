"""A delete that never arrives. Only a proof of absence removes a customer's record."""

from __future__ import annotations

from lab.demo.errors import DemoError
from lab.demo.fault_and_repair import heal
from lab.demo.scenes.lost_calls import assert_dropped, drop_next
from lab.demo.stage import Stage
from lab.demo.world import PROOF_N, PROOF_T_S

TITLE = "A delete gets lost"
NAME = "old-01"
PROOF = f"{PROOF_N} complete reads in a row over {PROOF_T_S:g} s"


def play(stage: Stage) -> None:
    """Show how the proof grows, wait for the delete, and check the evidence in the journal."""
    order = stage.existing(NAME)
    if order.cluster is None or order.vmid is None:
        raise DemoError(f"{NAME} has a guest", "none", ("main-site",))
    cluster, vmid, vps_id = order.cluster, order.vmid, stage.vps_id(NAME)
    stage.screen.say(f"The order of {NAME} is cancelled and its guest destroyed; the delete is dropped on its way.")
    stage.screen.say(
        f"Absence must be proven: the demo uses N={PROOF_N}, T={PROOF_T_S:g} s for the proof of absence"
        " (the default is 3 and 600 s, because Proxmox may show a stale list for 5 minutes)."
    )

    def cancel() -> None:
        drop_next(stage, "delete")
        stage.site.cancel_order(order.id)
        assert_dropped(stage, order.id, "delete")

    def count() -> str:
        absent = stage.journal.absence(cluster, vmid)
        if absent is None:
            return f"guest {cluster}/{vmid} not missed yet"
        times, seconds = min(absent.times, PROOF_N), min(absent.seconds, PROOF_T_S)
        if times < PROOF_N:
            return f"missing {times}/{PROOF_N}"
        if seconds < PROOF_T_S:
            return f"missing {PROOF_N}/{PROOF_N}, for {int(seconds / 5) * 5} of {PROOF_T_S:g} s"
        return f"missing {PROOF_N}/{PROOF_N} for {PROOF_T_S:g} s, confirming"

    healed = heal(
        stage,
        scene=TITLE,
        fault="a delete is lost",
        make=cancel,
        wrong=lambda: stage.difference(NAME),
        repaired=lambda operation: operation.action == "delete" and operation.vps_id == vps_id,
        within_s=PROOF_T_S + 180,
        progress=count,
    )
    evidence = healed.repair.evidence or {}
    times = int(evidence.get("guest_absent_times", 0))
    confirmed = [evidence.get("confirmed_guest"), evidence.get("confirmed_order")]
    if healed.seconds < PROOF_T_S or times < PROOF_N or None in confirmed:
        seen = f"{times} reads, {healed.seconds:.1f} s, confirmations {confirmed}"
        raise DemoError(f"a delete rests on {PROOF} and on both confirmations", seen)
    snapshots = ", ".join(map(str, evidence.get("guest_snapshots", [])))
    stage.screen.say(f"Evidence: missing in {times} complete reads, the proof's snapshots {snapshots};")
    stage.screen.say(f"asked once more just before the write: guest: {confirmed[0]}; order: {confirmed[1]}.")
