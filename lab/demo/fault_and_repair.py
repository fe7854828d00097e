"""One fault and its repair: right before it, broken after it, then repaired, with a reason in the journal."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from lab.demo.errors import DemoError
from lab.demo.journal import Operation
from lab.demo.screen import Sight
from lab.demo.stage import Stage


@dataclass(frozen=True, slots=True)
class Healed:
    """How a drift ended: the repair, the seconds until then, and the sentence about what had been wrong."""

    repair: Operation
    seconds: float
    broken: str


def heal(
    stage: Stage,
    *,
    scene: str,
    fault: str,
    make: Callable[[], object],
    wrong: Callable[[], str | None],
    repaired: Callable[[Operation], bool],
    within_s: float = 180.0,
    progress: Callable[[], str] | None = None,
) -> Healed:
    """Make the fault, see that it does harm, wait until it is repaired, and find the repair in the journal.

    `wrong` says what is wrong at this moment, `repaired` recognises the repair. Raises DemoError if the fault does no
    harm, is not repaired in time, or is repaired without a reason.
    """
    if (already := wrong()) is not None:
        raise DemoError(f"all is right before this fault: {fault}", already)
    mark = stage.journal.last_id()
    # Without the pause a run could repair the fault before the demo sees it.
    with stage.paused("worker-reconcile"):
        make()
        broken = wrong()
        if broken is None:
            raise DemoError(f"this fault does harm: {fault}", "all is still right", ("main-site", "worker-sync"))
        stage.screen.broken(broken)
        began = time.monotonic()
    stage.until(
        "reconciliation heals it",
        lambda: wrong() is None,
        within_s=within_s,
        progress=progress,
        seen=lambda: wrong() or "healed just after the deadline",
    )
    seconds = time.monotonic() - began
    repairs = stage.journal.since(mark, kind="repair")
    repair = next((r for r in repairs if repaired(r)), None)
    if repair is None or not repair.reason:
        raise DemoError("the journal holds the repair and its reason", f"{len(repairs)} other repairs")
    stage.screen.right(f"healed in {seconds:.1f} s: {repair.action} of VPS {repair.vps_id}, {repair.result}")
    stage.screen.why(repair.reason)
    stage.sights.append(Sight(scene, fault, broken, f"{seconds:.1f} s", repair.reason))
    return Healed(repair, seconds, broken)


def update_of(vps_id: int, outcome: str) -> Callable[[Operation], bool]:
    """A function that recognises the repair which brought a VPS to that status."""
    return lambda o: o.action == "update" and o.vps_id == vps_id and (o.result or "").endswith(f"-> {outcome}")
