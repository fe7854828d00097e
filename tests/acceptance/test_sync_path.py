"""The way of a sync call through real processes, and what killing each of them costs: delay, and nothing else."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import text

from runtime.processes.children import descendants, kill_paused, pause_tree
from tests.support.databases import Databases
from tests.support.fleets.world import add_user, journal
from tests.support.keys import random_key
from tests.support.live_panel import LivePanel, live_panel
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.faults, pytest.mark.acceptance, pytest.mark.xdist_group("sync-path")]

PLAN = {"user_id": 5, "cpu": 4, "ram": 8192, "disk": 100, "os": "Ubuntu 22.04 LTS", "hypervisor": "proxmox"}
REPUBLISHED_S = 300.0
"""A message that died with its worker is sent again after 30 s without progress."""


@pytest.fixture(scope="module")
def panel(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LivePanel]:
    database = databases.clone()
    parts, environment = frozenset({"api", "worker-sync"}), {"WAIT_CAP_S": "60", "OPS_API_KEY": random_key()}
    with live_panel(database, tmp_path_factory.mktemp("sync-path"), parts=parts, environment=environment) as running:
        add_user(running.engine, 5)
        yield running
    databases.drop(database)


def create(panel: LivePanel, name: str, **more: Any) -> int:
    """A create as the integration guide sends it; the id of the answer."""
    answer = panel.sync("create", PLAN | {"name": name, "status": "creating"} | more)
    assert answer.status_code == 202, answer.text
    vps_id = answer.json()["vps"]["id"]
    assert isinstance(vps_id, int)
    return vps_id


def update(panel: LivePanel, vps_id: int, status: str) -> None:
    answer = panel.sync("update", {"id": vps_id, "status": status})
    assert answer.status_code == 202, answer.text


def applied(panel: LivePanel, vps_id: int) -> bool:
    return {row["state"] for row in journal(panel.engine, vps_id)} == {"applied"}


def kept_running(panel: LivePanel, name: str) -> None:
    """Start a process again that ended by itself, as ``up``, ``run`` and a container's restart policy do.

    kombu 5.7 can end a worker that loses Redis with messages in hand (it closes the connection's transport
    before it gives them back).
    """
    if panel.process(name).died:
        panel.restart(name)


def worker_waits_for_a_lock(panel: LivePanel) -> bool:
    return bool(
        panel.rows(
            "SELECT 1 FROM pg_stat_activity WHERE datname = current_database()"
            " AND application_name = 'panel-sync worker' AND wait_event_type = 'Lock'"
        )
    )


def test_create_update_delete_as_the_client_sees_them(panel: LivePanel) -> None:
    vps_id = create(panel, "shop")
    assert panel.wait_status(5, "shop", "creating")["id"] == vps_id
    update(panel, vps_id, "running")
    assert panel.wait_status(5, "shop", "running")["ram"] == 8192
    answer = panel.sync("delete", {"id": vps_id})
    assert answer.json()["status"] == "success"
    wait_until(lambda: vps_id not in panel.listed(5), "the deleted VPS to leave the client's list")


def test_waiting_for_the_outcome(panel: LivePanel) -> None:
    answer = httpx.post(
        f"{panel.url}/api/vps/sync",
        json={"action": "create", "vps": PLAN | {"name": "waited"}},
        headers={"X-API-Key": panel.sync_key, "Prefer": "wait=60"},
        timeout=120,
        trust_env=False,
    )
    assert (answer.status_code, answer.headers["preference-applied"]) == (201, "wait=60")
    assert answer.json()["vps"]["id"] in panel.listed(5)


def counted(panel: LivePanel, name: str, **labels: str) -> float:
    """What ``/metrics`` of the API shows for these labels, added up."""
    headers = {"Authorization": f"Bearer {panel.settings.ops_api_key.get_secret_value()}"}

    def scraped() -> str:  # 503: the processes' files could not be read in time
        answer = httpx.get(f"{panel.url}/metrics", headers=headers, trust_env=False)
        return "" if answer.status_code == 503 else answer.raise_for_status().text

    return sum(
        sample.value
        for family in text_string_to_metric_families(wait_until(scraped, "the numbers"))
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def test_the_api_shows_what_the_workers_count(panel: LivePanel) -> None:
    def all_counted() -> tuple[float, float, float]:
        return (
            counted(panel, "panel_sync_sync_calls_total", outcome="accepted"),
            counted(panel, "panel_sync_calls_finished_total", state="applied"),
            counted(panel, "panel_sync_tasks_total", task="sync.apply", outcome="success"),
        )

    def settled() -> tuple[float, float, float] | None:
        """Once every call of the journal is counted: a worker counts after it has written."""
        calls, counted = panel.rows("SELECT count(*) AS n FROM operations")[0]["n"], all_counted()
        return counted if counted[:2] == (calls, calls) else None

    before = wait_until(settled, "what came before to be counted")
    assert before is not None
    for number in range(4):
        create(panel, f"counted-{number}")
    accepted, finished, tasks = before
    # One task may take all four calls, and a message may be sent twice.
    expected = (accepted + 4, finished + 4, tasks + 1)
    wait_until(lambda: all(seen >= least for seen, least in zip(all_counted(), expected, strict=True)), "the numbers")
    assert all_counted()[:2] == expected[:2]


def test_many_calls_at_once_keep_each_vps_order(panel: LivePanel) -> None:
    ids = [create(panel, f"many-{n}") for n in range(10)]
    for status in ("running", "stopped", "running", "suspended"):
        for vps_id in ids:
            update(panel, vps_id, status)
    wait_until(lambda: all(applied(panel, vps_id) for vps_id in ids), "every call to be applied")
    results = {tuple(row["result"] for row in journal(panel.engine, vps_id)) for vps_id in ids}
    assert results == {
        ("created creating", "creating -> running", "running -> stopped", "stopped -> running", "running -> suspended")
    }


def test_a_task_s_process_killed_in_mid_task(panel: LivePanel) -> None:
    """The worker stays and makes itself new processes; what they were at is done again."""
    vps_id = create(panel, "child-killed")
    panel.wait_status(5, "child-killed", "creating")
    killed = {"task": "sync.apply", "outcome": "killed"}
    before = counted(panel, "panel_sync_tasks_total", **killed)
    with panel.engine.begin() as held:
        held.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
        held.execute(text("SELECT 1 FROM vps WHERE id = :id FOR UPDATE"), {"id": vps_id})
        update(panel, vps_id, "running")
        wait_until(lambda: worker_waits_for_a_lock(panel), "a worker in the middle of the task")
        for pid in descendants(panel.process("worker-sync").pid):
            kill_paused(pause_tree(pid))
    panel.wait_status(5, "child-killed", "running", timeout_s=REPUBLISHED_S)
    assert panel.process("worker-sync").running
    wait_until(lambda: counted(panel, "panel_sync_tasks_total", **killed) >= before + 1, "the killed one to be counted")


def test_the_whole_worker_killed_in_mid_task(panel: LivePanel) -> None:
    """Its message is lost with it; the journal is not, and publishes again."""
    vps_id = create(panel, "worker-killed")
    panel.wait_status(5, "worker-killed", "creating")
    with panel.engine.begin() as held:
        held.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
        held.execute(text("SELECT 1 FROM vps WHERE id = :id FOR UPDATE"), {"id": vps_id})
        update(panel, vps_id, "running")
        wait_until(lambda: worker_waits_for_a_lock(panel), "a worker in the middle of the task")
        panel.process("worker-sync").kill()
    assert panel.listed(5)[vps_id]["status"] == "creating"
    panel.restart("worker-sync")
    panel.wait_status(5, "worker-killed", "running", timeout_s=REPUBLISHED_S)
    assert [row["result"] for row in journal(panel.engine, vps_id)] == ["created creating", "creating -> running"]


def test_a_later_call_brings_the_forgotten_one_along(panel: LivePanel) -> None:
    """Whatever message arrives, the VPS's calls are applied in the order in which they were accepted."""
    vps_id = create(panel, "brought-along")
    panel.wait_status(5, "brought-along", "creating")
    panel.process("worker-sync").kill()
    update(panel, vps_id, "running")
    wait_until(lambda: panel.rows("SELECT 1 FROM operations WHERE state = 'queued' AND publishes > 0"), "the message")
    with redis.Redis.from_url(panel.redis.url, socket_timeout=60) as client:
        client.delete("sync")
    panel.restart("worker-sync")
    update(panel, vps_id, "stopped")
    panel.wait_status(5, "brought-along", "stopped")
    assert [row["result"] for row in journal(panel.engine, vps_id)] == [
        "created creating",
        "creating -> running",
        "running -> stopped",
    ]


def test_redis_stopped_during_calls(panel: LivePanel) -> None:
    """Calls are accepted as ever; once Redis is back, all of them are applied."""
    before = create(panel, "before")
    panel.redis.kill()
    ids = [create(panel, f"while-away-{n}") for n in range(5)]
    for vps_id in (before, *ids):
        update(panel, vps_id, "running")
    panel.redis.start()

    def all_applied() -> bool:
        kept_running(panel, "worker-sync")
        return all(applied(panel, vps_id) for vps_id in (before, *ids))

    wait_until(all_applied, "every call made while Redis was away to be applied", timeout_s=REPUBLISHED_S)
    assert {panel.listed(5)[vps_id]["status"] for vps_id in (before, *ids)} == {"running"}


def test_the_api_killed_between_accepting_and_publishing(panel: LivePanel) -> None:
    """What was answered is in the journal; the next API process publishes it."""
    panel.redis.pause()
    try:
        vps_id = create(panel, "api-killed")
        panel.process("api").kill()
    finally:
        panel.redis.resume()
    panel.restart("api")
    panel.wait_status(5, "api-killed", "creating", timeout_s=REPUBLISHED_S)
    assert vps_id in panel.listed(5)


def test_no_secret_stands_in_a_command_line_or_a_log(panel: LivePanel) -> None:
    secrets = [
        panel.sync_key,
        panel.settings.jwt_secret.get_secret_value(),
        panel.settings.database_url.split(":")[2].split("@")[0],
        panel.redis.url.split(":")[2].split("@")[0],
    ]
    shown = ""
    for process in panel.supervisor.processes:
        for pid in (process.pid, *descendants(process.pid)):
            with contextlib.suppress(OSError):  # it has ended since
                shown += Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8", errors="replace")
        shown += process.log_path.read_text(encoding="utf-8")
    assert "celery" in shown
    assert not [secret for secret in secrets if secret in shown]
