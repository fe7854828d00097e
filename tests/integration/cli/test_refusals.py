"""A wrong setting or a server that is away: one sentence on stderr, exit code 2, never a traceback."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.processes.free_ports import free_port
from tests.integration.cli.conftest import PanelSync
from tests.support.databases import Database
from tests.support.keys import random_key

PASSWORD = "hunter2hunter2"
AWAY = f"postgresql://panel:{PASSWORD}@127.0.0.1:1/panel"


@pytest.mark.parametrize(
    ("arguments", "settings", "says"),
    [
        pytest.param(["up"], {}, "DATABASE_URL is not set: `up` uses your own servers", id="up embeds nothing"),
        pytest.param(["up"], {"DATABASE_URL": AWAY}, "REDIS_URL is not set: `up` uses", id="up without Redis"),
        pytest.param(
            ["up"],
            {"DATABASE_URL": AWAY, "REDIS_URL": "redis://127.0.0.1:1"},
            "VPS_SYNC_API_KEY is not set",
            id="up without a key",
        ),
        pytest.param(["runs"], {"DATABASE_URL": AWAY}, "PostgreSQL at 127.0.0.1:1/panel (DATABASE_URL)", id="away"),
        pytest.param(["migrate"], {"DATABASE_URL": AWAY}, "it can't be reached", id="migrate without a server"),
        pytest.param(
            ["migrate"], {"DATABASE_URL": AWAY, "DATABASE_OWNER_URL": AWAY}, "(DATABASE_OWNER_URL)", id="owner's URL"
        ),
        pytest.param(["operations"], {"PORT": "http"}, "PORT: ", id="a wrong setting"),
        pytest.param(["operations"], {}, "DATABASE_URL is not set", id="nothing set"),
        pytest.param(["token", "--user", "5"], {}, "JWT_SECRET is not set", id="no secret to sign with"),
        pytest.param(
            ["token", "--user", "5"],
            {"JWT_PUBLIC_KEY": "x", "JWT_ALGORITHMS": "RS256"},
            "tokens are verified by public key; ask their issuer",
            id="public key",
        ),
        pytest.param(["api"], {"DATABASE_URL": AWAY}, "VPS_SYNC_API_KEY is not set", id="api without a key"),
        pytest.param(["worker"], {"DATABASE_URL": AWAY}, "REDIS_URL is not set", id="worker without a broker"),
        pytest.param(["beat"], {}, "DATABASE_URL is not set", id="beat without a database"),
        pytest.param(["flower"], {"REDIS_URL": "redis://h"}, "FLOWER_PASSWORD is not set", id="open Flower"),
        pytest.param(
            ["flower"],
            {"REDIS_URL": "redis://h", "FLOWER_PASSWORD": "a,b"},
            "must be ASCII without commas",
            id="a password that Flower would split",
        ),
        pytest.param(
            ["run", "--seed-example"],
            {"HOST": "192.0.2.1"},
            "HOST must be 127.0.0.1",
            id="the well-known key in public",
        ),
    ],
)
def test_one_sentence(bare: PanelSync, arguments: list[str], settings: dict[str, str], says: str) -> None:
    said = bare(*arguments, **settings)
    assert said.code == 2
    assert says in said.err
    assert said.err.startswith("panel-sync: ")
    assert said.err.count("\n") == 1
    assert PASSWORD not in said.err + said.out


def test_as_a_process_of_its_own(tmp_path: Path) -> None:
    """What a shell sees."""
    ran = subprocess.run(
        [sys.executable, "-m", "cli.main", "up"],
        env={"PATH": os.defpath, "DATABASE_URL": "mysql://x"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr == "panel-sync: DATABASE_URL must start with postgresql://\n"


def test_up_says_that_redis_is_away(panel_sync: PanelSync) -> None:
    said = panel_sync("up", REDIS_URL="redis://127.0.0.1:1/0", PORT=str(free_port()), FLOWER_PORT=str(free_port()))
    assert (said.code, said.err) == (2, "panel-sync: Redis at 127.0.0.1:1/0 (REDIS_URL): it can't be reached\n")


def test_up_says_that_its_port_is_taken(panel_sync: PanelSync) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        said = panel_sync("up", REDIS_URL="redis://127.0.0.1:1/0", PORT=str(port))
    assert said.code == 2
    assert f"Port {port} is taken by another program; stop it or set PORT" in said.err


def test_a_wrong_password_is_told_apart(bare: PanelSync, database: Database) -> None:
    wrong = database.app_url.replace(database.app_url.split(":")[2].split("@")[0], PASSWORD)
    said = bare("runs", DATABASE_URL=wrong)
    assert (said.code, "password authentication failed" in said.err) == (2, True)
    assert PASSWORD not in said.err


def test_a_database_without_tables_asks_for_the_migration(bare: PanelSync, empty_database: Database) -> None:
    said = bare("runs", DATABASE_URL=empty_database.owner_url)
    assert said.code == 2
    assert "The database is empty" in said.err
    assert "run: panel-sync migrate" in said.err


def test_a_migration_without_the_right_to_it_names_the_remedy(bare: PanelSync, empty_database: Database) -> None:
    said = bare("migrate", DATABASE_URL=empty_database.app_url, JWT_SECRET=random_key())
    assert said.code == 2
    assert "DATABASE_OWNER_URL" in said.err
