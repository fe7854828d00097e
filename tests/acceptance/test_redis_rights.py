"""A panel whose user of Redis has the rights that the document lists, and no more: everything works, and is checked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import redis

from cli.health.checks import Verdict, check_workers
from cli.health.redis_checks import NEEDED, check_redis
from panel.settings import Settings
from runtime.servers.embedded_redis import EmbeddedRedis
from tests.support.databases import Database
from tests.support.fleets.world import add_user
from tests.support.live_panel import live_panel
from tests.support.redis_rights import documented, with_user
from tests.support.waiting import wait_until

PLAN = {"user_id": 5, "cpu": 1, "ram": 1024, "disk": 10, "os": "Debian 13", "hypervisor": "kvm", "name": "vps-1"}


@contextmanager
def user_of(server: EmbeddedRedis, rules: list[str]) -> Iterator[Settings]:
    url = with_user(server.url, rules)
    try:
        yield Settings(_env_file=None, redis_url=url)
    finally:
        with redis.Redis.from_url(server.url, socket_timeout=60) as client:
            client.execute_command("ACL", "DELUSER", "panel")


@pytest.mark.acceptance
def test_the_documented_rights_are_enough(database: Database, tmp_path: Path) -> None:
    with live_panel(
        database,
        tmp_path,
        environment={"FAST_INTERVAL_S": "1", "FULL_INTERVAL_S": "2", "USERS_INTERVAL_S": "2"},
        flower=True,
        redis_through=lambda url: with_user(url, documented()),
    ) as panel:
        add_user(panel.engine, 5)
        panel.sync("create", PLAN).raise_for_status()
        panel.wait_status(5, "vps-1", "creating")
        lanes = "SELECT count(*) AS n FROM duties WHERE done_at IS NOT NULL AND every_s IS NOT NULL"
        wait_until(lambda: panel.rows(lanes)[0]["n"] >= 5, "all lanes to run")
        wait_until(
            lambda: all(check.verdict is Verdict.OK for check in check_workers(panel.settings)),
            "all workers answer",
        )

        def checks() -> dict[str, str]:
            found: dict[str, str] = httpx.get(f"{panel.url}/readyz", trust_env=False).json()["checks"]
            return found

        # A look that took too long says that Redis is away; one that found a right missing says so each time.
        wait_until(lambda: (found := checks())["redis"] == found["relay"] == "ok", "Redis and the relay to be well")
        wait_until(
            lambda: {check.verdict for check in check_redis(panel.settings)} <= {Verdict.OK, Verdict.NOTE},
            "doctor to find no fault of Redis",
        )
        wait_until(lambda: _flower_shows(panel.settings), "Flower to show the workers' tasks")
        for process in panel.supervisor.processes:
            log = process.log_path.read_text()
            assert "NoPermission" not in log, (process.name, log[-2000:])
            assert "NOPERM" not in log, (process.name, log[-2000:])
            assert "no permissions" not in log, (process.name, log[-2000:])


def _flower_shows(settings: Settings) -> bool:
    try:
        shown = httpx.get(
            f"http://127.0.0.1:{settings.flower_port}/broker",
            auth=(settings.flower_user, settings.flower_password.get_secret_value()),
            trust_env=False,
        )
    except httpx.HTTPError:
        return False
    return shown.status_code == 200 and "reconcile" in shown.text


@pytest.mark.parametrize("lacking", ["+hget", "+smembers", "+publish", "+psubscribe", "+brpop", "+zadd", "~unacked*"])
def test_doctor_names_a_missing_right(redis_server: EmbeddedRedis, lacking: str) -> None:
    with user_of(redis_server, [rule for rule in documented() if rule != lacking]) as settings:
        found = [check for check in check_redis(settings) if check.verdict is Verdict.PROBLEM]
    assert len(found) == 1
    name = {"~unacked*": "unacked"}.get(lacking, lacking.lstrip("+").upper())
    assert name in found[0].seen
    assert "docs/runtime.md" in found[0].mend


def test_a_user_who_may_not_ask_for_info_is_no_absent_redis(redis_server: EmbeddedRedis) -> None:
    with user_of(redis_server, documented()) as settings:
        found = check_redis(settings)
    assert [check.seen for check in found if check.verdict is Verdict.NOTE] == [
        "INFO is refused (NOPERM): its version is not known, nor whether it keeps messages"
    ]
    assert {check.verdict for check in found} == {Verdict.OK, Verdict.NOTE}, found


def test_doctor_tries_every_documented_command() -> None:
    tried = {str(command[0]).lower() for command in NEEDED} | {"publish", "psubscribe", "lpush", "rpop", "pexpire"}
    implied = {"ping", "hello", "auth", "select", "multi", "exec", "discard", "exists", "punsubscribe", "evalsha"}
    commands = {rule.lstrip("+").split("|")[0] for rule in documented() if rule.startswith("+")}
    assert commands == tried | implied
