"""docs/operations.md is true: what it says of backup and restore is executed, from one server to another."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import Engine

from panel.sessions import sync_engine
from runtime.servers.postgres_installation import choose_installation
from tests.stories.steps import converge, sell
from tests.support.bench import bench
from tests.support.databases import Database, Databases
from tests.support.keys import random_key

DOCUMENT = Path(__file__).parents[3] / "docs" / "operations.md"


def fences() -> list[str]:
    """The shell commands of the section."""
    section = DOCUMENT.read_text(encoding="utf-8").split("\n## Backup and restore\n")[1].split("\n## ")[0]
    return re.findall(r"(?ms)^```sh\n(.*?)^```$", section)


@pytest.fixture
def another_server(tmp_path: Path) -> Iterator[Database]:
    """An empty database on a server that never heard of the panel."""
    servers = Databases(tmp_path / "another")
    servers.start_bare()
    try:
        yield servers.empty()
    finally:
        servers.destroy()


def execute(script: str, directory: Path, database: Database) -> None:
    programs = choose_installation(binaries=None, major=None).bin_dir
    environment = {
        "PATH": os.pathsep.join([str(programs), str(Path(sys.executable).parent), os.environ["PATH"]]),
        "DATABASE_URL": database.app_url,
        "DATABASE_OWNER_URL": database.owner_url,
        "VPS_SYNC_API_KEY": random_key(),
    }
    done = subprocess.run(  # noqa: S603 - the document's own commands
        ["/bin/sh", "-eu", "-c", script], cwd=directory, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"


def rows(url: str, table: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(sql.SQL("SELECT * FROM {} ORDER BY 1").format(sql.Identifier(table))).fetchall()


def test_a_dump_is_a_whole_panel_again_on_another_server(
    database: Database, engine: Engine, another_server: Database, tmp_path: Path
) -> None:
    dump, restore, ids = fences()
    with bench(database, engine, extended=True) as world:
        converge(world, sell(world, "web-01"), sell(world, "web-02"))
        shown = world.client_sees(5)
    execute(dump, tmp_path, database)
    execute(restore, tmp_path, another_server)
    execute(ids, tmp_path, another_server)
    for table in ("vps", "operations", "users", "orders_seen", "guests", "runs"):
        kept = rows(database.admin_url, table)
        assert kept, table
        assert rows(another_server.admin_url, table) == kept
    restored = sync_engine(another_server.app_url, "panel-sync test")
    with closing_engine(restored), bench(another_server, restored) as world:
        assert world.client_sees(5) == shown, "through row-level security, as the application's login"
        made = world.call("create", user_id=5, name="new", cpu=1, ram=1024, disk=10, os="Debian")
        assert made.json()["vps"]["id"] > 5000, "no id that the main site may hold is given out twice"
        world.drain()
        assert [one["name"] for one in world.client_sees(5)] == ["web-01", "web-02", "new"]


@contextmanager
def closing_engine(engine: Engine) -> Iterator[None]:
    yield
    engine.dispose()
