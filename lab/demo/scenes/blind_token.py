"""A token loses its rights. Proxmox answers `200 []`, and the panel does not believe it."""

from __future__ import annotations

import ssl
import time

import httpx

from lab.demo.errors import DemoError
from lab.demo.fault_and_repair import heal, update_of
from lab.demo.journal import Run
from lab.demo.scenes.lost_calls import stop_guest
from lab.demo.screen import Sight
from lab.demo.stage import Stage
from lab.demo.world import CUSTOMERS, PROOF_N, PROOF_T_S

TITLE = "A token goes blind"
BLIND, HEALTHY = "berlin", "db-01"
MARGIN_S = 2.0
MORE_RUNS = PROOF_N + 1


def play(stage: Stage) -> None:
    """Nothing is deleted for longer than a proof takes, and VPSes on the other cluster are still repaired."""
    guests = len(stage.clusters[BLIND].list_guests())
    before, deletes, mark = _statuses(stage), stage.journal.deletes(), stage.journal.last_run()
    stage.screen.say(f"The panel's token on cluster {BLIND} keeps its login and loses every right.")
    stage.clusters[BLIND].blind_token()
    began = time.monotonic()
    status, listed = _list_as_the_panel(stage)
    if (status, listed) != (200, 0) or not guests:
        raise DemoError(f"{BLIND} answers 200 [] and has guests", f"{status}, {listed} listed, {guests} guests")
    broken = f"{BLIND} has {guests} guests and answers 200 []"
    stage.screen.broken(f"{broken}: it looks as if all of them were gone")
    stage.screen.say("Meanwhile the other cluster is repaired as usual:")
    heal(
        stage,
        scene=TITLE,
        fault="a guest elsewhere is stopped meanwhile",
        make=lambda: stop_guest(stage, HEALTHY),
        wrong=lambda: stage.difference(HEALTHY),
        repaired=update_of(stage.vps_id(HEALTHY), "stopped"),
    )
    changed = before | {stage.vps_id(HEALTHY): "stopped"}

    def runs() -> list[Run]:
        return stage.journal.runs_since(mark)

    def endured() -> bool:
        if _statuses(stage) != changed or stage.journal.deletes() != deletes:
            raise DemoError("nothing is deleted or given another status", str(_statuses(stage)))
        return time.monotonic() - began > PROOF_T_S + MARGIN_S and len(runs()) >= MORE_RUNS

    stage.until(
        f"nothing is deleted for longer than a proof takes ({PROOF_T_S:g} s)",
        endured,
        progress=lambda: f"{int((time.monotonic() - began) / 5) * 5} s, {len(runs())} full runs, 0 deletes",
        seen=lambda: f"{len(runs())} full runs",
    )
    seconds, problems = time.monotonic() - began, [_problem(run) for run in runs()]
    # The first run may have read the list before the token lost its rights.
    if any(problem is None for problem in problems[1:]):
        raise DemoError(f"every run says what is wrong with {BLIND}", f"{problems.count(None)} runs say nothing")
    reason = next(problem for problem in problems if problem is not None)
    stage.screen.right(f"nothing deleted in {seconds:.0f} s and {len(problems)} full runs")
    stage.screen.why(reason)
    stage.sights.append(
        Sight(TITLE, f"{BLIND}'s token loses its rights", broken, f"no need: 0 deletes in {seconds:.0f} s", reason)
    )
    _restore(stage)


def _restore(stage: Stage) -> None:
    stage.clusters[BLIND].restore_token()
    mark = stage.journal.last_run()

    def well() -> bool:
        return any(_problem(run) is None for run in stage.journal.runs_since(mark))

    stage.site.set_status(stage.existing(HEALTHY).id, "running")
    took = stage.until(
        f"rights restored: {BLIND} is read again and all is well", lambda: well() and not stage.differences()
    )
    stage.screen.right(f"rights restored, all well after {took:.1f} s")


def _problem(run: Run) -> str | None:
    return next((problem for problem in run.problems if problem.startswith(f"{BLIND}:")), None)


def _statuses(stage: Stage) -> dict[int, str]:
    return {
        int(record["id"]): str(record["status"])
        for customer in CUSTOMERS
        for record in stage.panel.list_vps(customer.panel_id)
    }


def _list_as_the_panel(stage: Stage) -> tuple[int, int]:
    """(status, number of guests) of the bulk list, asked for with the panel's own token."""
    cluster = next(c for c in stage.settings.proxmox_clusters if c.name == BLIND)
    secret = cluster.token_secret.get_secret_value()
    trust = ssl.create_default_context(cafile=cluster.ca_file)
    with httpx.Client(base_url=cluster.urls[0], verify=trust, trust_env=False, timeout=10) as client:
        answer = client.get(
            "/api2/json/cluster/resources",
            params={"type": "vm"},
            headers={"Authorization": f"PVEAPIToken={cluster.token_id}={secret}"},
        )
    return answer.status_code, len(answer.json()["data"]) if answer.is_success else -1
