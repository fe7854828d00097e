"""Redis answers, and refuses: the same workers go on once it no longer does, and meanwhile everybody is told."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.support.databases import Database
from tests.support.fleets.world import add_user
from tests.support.live_panel import live_panel
from tests.support.stand_ins.refusing_redis import RefusingRedis, refusing_redis
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.faults, pytest.mark.acceptance]

PLAN = {"user_id": 5, "cpu": 1, "ram": 1024, "disk": 10, "os": "Debian 13", "hypervisor": "kvm"}
PARTS = frozenset({"api", "worker-sync", "beat"})
ERRORS = [
    "READONLY You can't write against a read only replica.",
    "OOM command not allowed when used memory > 'maxmemory'.",
    "NOPERM this user has no permissions to run the 'brpop' command",
    "MISCONF Redis is configured to save RDB snapshots",
    "LOADING Redis is loading the dataset in memory",
    "MASTERDOWN Link with MASTER is down",
    "CLUSTERDOWN The cluster is down",
    "MOVED 3999 127.0.0.1:1",
    "TRYAGAIN Multiple keys request during rehashing of slot",
    "BUSY Redis is busy running a script.",
    "NOAUTH Authentication required.",
    "WRONGPASS invalid username-password pair or user is disabled.",
    "WRONGTYPE Operation against a key holding the wrong kind of value",
    "ERR unknown command",
    "SOMETHING that nobody knows yet",
]


def test_workers_and_beat_outlive_every_refusal(database: Database, tmp_path: Path) -> None:
    with ExitStack() as stack:
        made: list[RefusingRedis] = []

        def through(url: str) -> str:
            port = urlsplit(url).port
            assert port is not None
            made.append(stack.enter_context(refusing_redis(port)))
            return url.replace(f":{port}/", f":{made[0].port}/")

        panel = stack.enter_context(live_panel(database, tmp_path, parts=PARTS, redis_through=through))
        redis = made[0]
        add_user(panel.engine, 5)
        worker, beat = panel.process("worker-sync"), panel.process("beat")
        panel.sync("create", PLAN | {"name": "well"}).raise_for_status()
        panel.wait_status(5, "well", "creating")
        pids = worker.pid, beat.pid

        def checks() -> dict[str, str]:
            answer = httpx.get(f"{panel.url}/readyz", trust_env=False)
            assert answer.status_code == 200
            found: dict[str, str] = answer.json()["checks"]
            return found

        wait_until(lambda: (found := checks())["redis"] == found["relay"] == "ok", "Redis and the relay to be well")
        for number, error in enumerate(ERRORS):
            code = error.split(maxsplit=1)[0]
            seen = len(worker.log_path.read_bytes())
            redis.error = error
            panel.sync("create", PLAN | {"name": f"vps-{number}"}).raise_for_status()
            # A look that took too long says that Redis is away.
            wait_until(lambda code=code: checks()["redis"] == f"refuses: {code}", f"readyz to tell of {code}")  # type: ignore[misc]
            wait_until(lambda: checks()["relay"].startswith("publishing fails"), f"the relay to tell of {code}")
            told = (b"redis_refuses", b"Cannot connect", b"Connection to broker lost")
            wait_until(
                lambda seen=seen, told=told: any(word in worker.log_path.read_bytes()[seen:] for word in told),  # type: ignore[misc]
                f"the worker to meet {code}",
            )
            redis.error = None
            panel.wait_status(5, f"vps-{number}", "creating")
            assert (worker.running, beat.running) == (True, True), error
        wait_until(lambda: checks()["relay"] == "ok", "the relay to be well")
        assert (worker.pid, beat.pid) == pids
        assert b"Unrecoverable" not in worker.log_path.read_bytes()
