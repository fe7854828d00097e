"""``panel-sync up`` with a .env: the PostgreSQL, Redis, main site and Proxmox named there are used, none embedded."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis

from lab.simulators.main_site.faults import CallFaultKind
from panel.migrate import head_revision
from runtime.processes.readiness import http_ok
from runtime.processes.supervisor import ManagedProcess
from runtime.servers.embedded_redis import EmbeddedRedis
from tests.support.databases import Database
from tests.support.keys import random_key
from tests.support.live_panel import QUICK, Outside, outside
from tests.support.programs import programs_below
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.acceptance]


@pytest.fixture
def world() -> Iterator[Outside]:
    with outside() as made:
        yield made


@pytest.fixture
def up(
    world: Outside, empty_database: Database, redis_server: EmbeddedRedis, tmp_path: Path
) -> Iterator[ManagedProcess]:
    """The command in a directory whose .env says everything; nothing of it is in the environment."""
    settings = QUICK | world.environment()
    settings |= {
        "DEMO": "true",  # allows a proof of absence within seconds
        **empty_database.urls,
        "DATABASE_OWNER_URL": empty_database.owner_url,
        "REDIS_URL": redis_server.url,
        "JWT_SECRET": random_key(),
    }
    dotenv = tmp_path / ".env"
    dotenv.write_text("".join(f"{name}='{value}'\n" for name, value in settings.items()), encoding="utf-8")
    dotenv.chmod(0o600)
    process = ManagedProcess(
        "up",
        [sys.executable, "-P", "-m", "cli.main", "up", "--no-flower"],
        {**os.environ, "PANEL_DATA_DIR": str(tmp_path / "data")},
        tmp_path / "up.log",
        ready=http_ok(world.panel_port, "/readyz"),
        death_signal=signal.SIGTERM,
        cwd=tmp_path,
        ready_timeout_s=600,  # of a whole panel
    )
    process.start()
    try:
        process.wait_ready()
        yield process
    finally:
        if process.running:
            process.kill()


def query(database: Database, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(database.admin_url) as connection:
        return connection.execute(statement.encode()).fetchall()


def test_given_servers_are_used_and_none_is_embedded(
    up: ManagedProcess, world: Outside, empty_database: Database, redis_server: EmbeddedRedis, tmp_path: Path
) -> None:
    # The database was empty and has the tables now.
    assert query(empty_database, "SELECT version_num FROM alembic_version") == [(head_revision(),)]
    # The main site: its users, under the panel's ids.
    users = "SELECT id, main_site_user_id FROM users ORDER BY id"
    wait_until(lambda: query(empty_database, users) == [(5, "1"), (6, "2")], "the users to be imported")
    # A pushed call goes through the given Redis and a worker into the given database.
    world.site.place_order(user_id=2, name="pushed")
    records = "SELECT user_id, status FROM vps WHERE name = 'pushed'"
    wait_until(lambda: query(empty_database, records) == [(6, "creating")], "the pushed call to be applied")
    with redis.Redis.from_url(redis_server.url, socket_timeout=60) as broker:
        # Each worker keeps a mailbox there.
        mailboxes = b" ".join(broker.smembers("_kombu.binding.celery.pidbox"))
        assert b"sync@" in mailboxes
        assert b"reconcile@" in mailboxes
    # One that never arrived comes from the given main site and Proxmox, identity of the guest included.
    world.site.fault_calls(CallFaultKind.DROP, action="create")
    missed = world.site.place_order(user_id=1, name="missed")
    world.site.set_status(missed.id, "running")
    repaired = "SELECT status, link_state, vmid FROM vps WHERE name = 'missed'"
    expected = [("running", "verified", missed.vmid)]
    wait_until(lambda: query(empty_database, repaired) == expected, "the missed create to be repaired")

    below = programs_below(up.pid)
    assert len(below) > 5
    assert not {"postgres", "redis-server"} & set(below)
    assert sorted(path.name for path in (tmp_path / "data").iterdir() if path.is_dir()) == ["logs", "metrics"]


def test_servers_are_asked_for_rather_than_embedded(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(f"VPS_SYNC_API_KEY={random_key()}\nJWT_SECRET={random_key()}\n", encoding="utf-8")
    process = ManagedProcess(
        "up",
        [sys.executable, "-P", "-m", "cli.main", "up", "--no-flower"],
        {**os.environ, "PANEL_DATA_DIR": str(tmp_path / "data")},
        tmp_path / "up.log",
        cwd=tmp_path,
        ready_timeout_s=600,  # of a whole panel
    )
    process.start()
    assert process.wait_exit(120)
    assert process.stop() == 2
    said = process.tail()
    assert len(said) == 1
    assert said[0].startswith("panel-sync: DATABASE_URL is not set")
    assert not (tmp_path / "data").exists()
