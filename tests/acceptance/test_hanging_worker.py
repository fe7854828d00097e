"""A worker that takes no messages any more, whatever it hangs in, ends by itself, to be started again."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.support.databases import Database

pytestmark = [pytest.mark.faults, pytest.mark.acceptance]

WORKER = """
    import sys, time
    from worker import heartbeat
    heartbeat.INTERVAL_S, heartbeat.OLD_S, heartbeat.HANGS_S = 0.2, 1.0, 5
    from celery import signals
    from worker.app import app

    @signals.worker_ready.connect
    def ready(sender, **_):
        print("READY", flush=True)
        {ill}

    app.worker_main(["worker", "--queues=sync", "--concurrency=1", "--without-gossip", "--without-mingle"])
"""
HANGS = "sender.hub.call_soon(time.sleep, 3600)"
IS_DEAF = "sender.hub.call_later(1, sender.task_consumer.cancel)"


@pytest.mark.parametrize("ill", [HANGS, IS_DEAF], ids=["hangs", "deaf"])
def test_it_ends(database: Database, redis_url: str, tmp_path: Path, ill: str) -> None:
    beats = tmp_path / "heartbeat"
    environment = {
        "PATH": os.environ["PATH"],
        "DATABASE_URL": database.app_url,
        "REDIS_URL": redis_url,
        "PANEL_HEARTBEAT_FILE": str(beats),
    }
    ran = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", textwrap.dedent(WORKER).format(ill=ill)],
        env=environment,
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert "READY" in ran.stdout, ran.stderr
    assert ran.returncode == 1, ran.stderr
    assert '"event": "hangs"' in ran.stderr
    assert beats.exists(), "it did beat while it was well"
