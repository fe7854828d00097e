"""A worker that takes no messages any more ends by itself, or is ended where it cannot, and another takes its place."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from cli.environment import with_overrides
from cli.serving.stack import processes
from runtime.paths import DataDirectory
from runtime.processes.supervisor import RestartPolicy, Supervisor
from tests.support.databases import Database
from tests.support.keys import random_key
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.faults, pytest.mark.acceptance]

WORKER = """
    import sys, time
    from panel import heartbeat
    heartbeat.INTERVAL_S, heartbeat.OLD_S, heartbeat.HANGS_S = 0.2, 1.0, 5
    # How long it takes to start is no matter here: what the worker asks for begins when it is ready.
    asked = []
    watch, heartbeat.pulse.watch = heartbeat.pulse.watch, lambda: asked.append("WATCHED")
    from celery import signals
    from worker.app import app

    @signals.worker_ready.connect
    def ready(sender, **_):
        print("READY", *asked, flush=True)
        watch()
        {ill}

    app.worker_main(["worker", "--queues=sync", "--concurrency=1", "--without-gossip", "--without-mingle"])
"""
HANGS = "sender.hub.call_soon(time.sleep, 3600)"
IS_DEAF = "sender.hub.call_later(1, sender.task_consumer.cancel)"


class Clock:
    """Seconds that pass when the test says so."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("ill", [HANGS, IS_DEAF], ids=["hangs", "deaf"])
def test_it_ends(database: Database, redis_url: str, tmp_path: Path, ill: str) -> None:
    beats = tmp_path / "heartbeat"
    environment = {
        "PATH": os.environ["PATH"],
        **database.urls,
        "REDIS_URL": redis_url,
        "PANEL_HEARTBEAT_FILE": str(beats),
    }
    ran = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", textwrap.dedent(WORKER).format(ill=ill)],
        env=environment,
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert "READY WATCHED" in ran.stdout, ran.stderr
    assert ran.returncode == 1, ran.stderr
    assert '"event": "hangs"' in ran.stderr
    assert beats.exists(), "it did beat while it was well"


def test_one_that_is_frozen_is_replaced(database: Database, redis_url: str, tmp_path: Path) -> None:
    """It cannot end itself; whoever watches it does, and the next one takes messages."""
    overrides = {**database.urls, "REDIS_URL": redis_url, "VPS_SYNC_API_KEY": random_key()}
    clock = Clock()
    with contextlib.chdir(tmp_path), DataDirectory(tmp_path / "data") as data:
        made = processes(with_overrides(overrides), overrides, data, flower=False)
        worker = next(one for one in made if one.name == "worker-sync")
        with Supervisor([worker], restart=RestartPolicy(), clock=clock) as whole, capture_logs() as told:
            wait_until(worker.last_beat, "the worker's first beat")
            frozen = worker.pid
            os.kill(frozen, signal.SIGSTOP)
            while not told or told[-1]["event"] != "process_restarted":
                assert clock.now <= RestartPolicy().silent_s + 10
                whole.check()
                clock.now += 1
            assert [line["event"] for line in told] == ["process_silent", "process_died", "process_restarted"]
            assert worker.pid != frozen
            before = worker.last_beat()
            wait_until(lambda: worker.last_beat() != before, "the beat of the one in its place")
            worker.kill()
