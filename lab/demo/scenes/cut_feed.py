"""The order feed breaks off. Orders that it did not show do not count as gone, and repairs from Proxmox go on."""

from __future__ import annotations

import time

from lab.demo.errors import DemoError
from lab.demo.fault_and_repair import heal, update_of
from lab.demo.journal import Run
from lab.demo.scenes.lost_calls import stop_guest
from lab.demo.screen import Sight
from lab.demo.stage import Stage
from lab.demo.world import PROOF_N
from lab.simulators.main_site.faults import FeedFaultKind

TITLE = "The feed breaks off"
NAME = "shop-01"


def play(stage: Stage) -> None:
    """Nothing is deleted while as many full runs as a proof needs read half answers. Then the feed is whole again."""
    deletes, mark, began = stage.journal.deletes(), stage.journal.last_run(), time.monotonic()
    stage.screen.say("Every answer of the main site's order feed ends in mid body from now on.")
    stage.site.fault_feed(FeedFaultKind.CUT_BODY, path="/orders")
    heal(
        stage,
        scene=TITLE,
        fault="a guest is stopped meanwhile",
        make=lambda: stop_guest(stage, NAME),
        wrong=lambda: stage.difference(NAME),
        repaired=update_of(stage.vps_id(NAME), "stopped"),
    )

    def cut_runs() -> list[str]:
        problems = (_problem(run) for run in stage.journal.runs_since(mark))
        return [problem for problem in problems if problem is not None]

    def endured() -> bool:
        if stage.journal.deletes() != deletes or stage.differences():
            raise DemoError("nothing is deleted or changed", "; ".join(stage.differences()) or "a delete")
        return len(cut_runs()) >= PROOF_N

    stage.until(
        f"{PROOF_N} full runs without a whole feed delete nothing",
        endured,
        progress=lambda: f"{len(cut_runs())} of {PROOF_N} runs, 0 deletes",
        seen=lambda: f"{len(cut_runs())} runs saw the feed break off",
    )
    reason, seconds = cut_runs()[0], time.monotonic() - began
    stage.screen.right(f"nothing deleted in {seconds:.0f} s")
    stage.screen.why(reason)
    broken = f"{len(cut_runs())} runs got half an answer"
    stage.sights.append(
        Sight(TITLE, "the order feed is cut off", broken, f"no need: 0 deletes in {seconds:.0f} s", reason)
    )
    stage.site.clear_faults()
    mark = stage.journal.last_run()
    stage.site.set_status(stage.existing(NAME).id, "running")
    stage.until(
        "the feed is whole again and all is well",
        lambda: any(_problem(run) is None for run in stage.journal.runs_since(mark)) and not stage.differences(),
        seen=lambda: "; ".join(stage.differences()) or "no run without a problem",
    )


def _problem(run: Run) -> str | None:
    return next((problem for problem in run.problems if problem.startswith("orders:")), None)
