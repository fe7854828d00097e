"""A worker and a beat that were started alone show their numbers on a port of their own."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from runtime.processes.free_ports import free_port
from runtime.processes.supervisor import ManagedProcess
from tests.support.databases import Database
from tests.support.sockets import port_open
from tests.support.waiting import wait_until


@pytest.mark.parametrize("part", [("worker", "--queue", "reconcile"), ("beat",)], ids=lambda part: part[0])
def test_numbers_of_a_part_alone(part: tuple[str, ...], database: Database, redis_url: str, tmp_path: Path) -> None:
    port = free_port()
    environment = {
        "PATH": os.environ["PATH"],
        "TMPDIR": str(tmp_path),
        "DATABASE_URL": database.app_url,
        "REDIS_URL": redis_url,
        "METRICS_PORT": str(port),
    }
    process = ManagedProcess(
        part[0],
        [sys.executable, "-P", "-m", "cli.main", *part],
        environment,
        tmp_path / "log",
        ready=port_open(port),
        cwd=tmp_path,
    )
    process.start()
    try:
        process.wait_ready()

        def shown() -> dict[str, set[str]]:
            text = httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).text
            families = text_string_to_metric_families(text)
            return {one.name: {sample.labels.get("task", "") for sample in one.samples} for one in families}

        if part[0] == "beat":
            wait_until(lambda: "reconcile.run" in shown()["panel_sync_beat_sent"], "beat to ask for a run")
        else:
            assert {"sync.apply", "reconcile.run"} <= shown()["panel_sync_tasks"], "with zero, before the first"
            directory = tmp_path / f"panel-sync-metrics-{os.geteuid()}-{port}"
            assert stat.S_IMODE(directory.stat().st_mode) == 0o700
            counting = "the pool's processes to count beside their parent"
            wait_until(lambda: len(list(directory.glob("counter_*.db"))) > 1, counting)
    finally:
        process.stop()
