"""Messages in Redis that are none of ours: the worker drops them, tells of them without their content, and goes on."""

from __future__ import annotations

import base64
import copy
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.support.databases import Database
from tests.support.fleets.world import add_user
from tests.support.live_panel import SYNC_PATH_PARTS, LivePanel, live_panel
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.faults, pytest.mark.acceptance]

PLAN = {"user_id": 5, "cpu": 1, "ram": 1024, "disk": 10, "os": "Debian 13", "hypervisor": "kvm"}
CANARY = "canary-7d1f"


@pytest.fixture
def panel(database: Database, tmp_path: Path) -> Iterator[LivePanel]:
    with live_panel(database, tmp_path, parts=SYNC_PATH_PARTS) as running:
        add_user(running.engine, 5)
        yield running


def _one_of_ours(panel: LivePanel, client: redis.Redis) -> dict[str, Any]:
    """A message as the panel writes it, as it lies in Redis."""
    worker = panel.process("worker-sync")
    worker.pause()
    try:
        panel.sync("create", PLAN | {"name": "first"}).raise_for_status()
        # What the paused worker had asked for is sent to it, and lies nowhere.
        panel.sync("create", PLAN | {"name": "second"}).raise_for_status()
        waiting = wait_until(lambda: client.lindex("sync", -1), "a message that nobody takes")
        found: dict[str, Any] = json.loads(str(waiting, "utf-8") if isinstance(waiting, bytes) else str(waiting))
        return found
    finally:
        worker.resume()


def _changed(message: dict[str, Any], path: str, value: object) -> str:
    changed = copy.deepcopy(message)
    *way, name = path.split(".")
    place = changed
    for step in way:
        place = place[step]
    place[name] = value
    return json.dumps(changed)


def _foreign(ours: dict[str, Any]) -> list[bytes | str]:
    deep = "[" * 100_000
    body = base64.b64encode(json.dumps([[CANARY], {}, {}]).encode()).decode()
    return [
        f"garbage {CANARY}",
        b"\xff\xfe\x00",
        "",
        "null",
        "5",
        "[]",
        "{}",
        deep,
        json.dumps({"__type__": "datetime", "__value__": 5}),
        json.dumps(CANARY * 200_000),
        _changed(ours, "headers", [CANARY]),
        _changed(ours, "headers", None),
        _changed(ours, "properties", {}),
        _changed(ours, "properties.delivery_info", 5),
        _changed(ours, "content-type", "application/x-unknown"),
        _changed(ours, "content-type", "application/x-python-serialize"),
        _changed(ours, "content-encoding", "rot13"),
        _changed(ours, "body", "%"),
        _changed(ours, "body", body + body),
        _changed(ours, "body", base64.b64encode(CANARY.encode() * 100_000).decode()),
        _changed(ours, "headers.task", f"os.system.{CANARY}"),
        _changed(ours, "headers.task", "celery.backend_cleanup"),
        _changed(ours, "headers.timelimit", 5),
        _changed(ours, "headers.retries", {}),
        _changed(ours, "headers.expires", [1]),
        _changed(ours, "headers.eta", f"yesterday {CANARY}"),
    ]


def test_messages_that_are_not_ours_cost_nothing(panel: LivePanel) -> None:
    worker = panel.process("worker-sync")
    pid = worker.pid
    with redis.Redis.from_url(panel.redis.url, socket_timeout=60) as client:
        ours = _one_of_ours(panel, client)
        panel.wait_status(5, "second", "creating")
        for number, message in enumerate(_foreign(ours)):
            client.lpush("sync", message)
            client.publish("/0.celery.pidbox", message)
            client.publish("/0.celeryev/worker.heartbeat", message)
            client.hset("unacked", f"foreign-{number}", message)
            client.zadd("unacked_index", {f"foreign-{number}": time.time() - 3600})
        panel.sync("create", PLAN | {"name": "after-them"}).raise_for_status()
        panel.wait_status(5, "after-them", "creating")
        wait_until(lambda: client.llen("sync") == 0, "the queue is empty")
        wait_until(lambda: not client.zrange("unacked_index", 0, -1), "no message is left unacknowledged")
    log = worker.log_path.read_text()
    assert (worker.pid, worker.running) == (pid, True), log
    assert "message_dropped" in log
    assert CANARY not in log
    assert "Unrecoverable" not in log
