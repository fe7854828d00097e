"""Half-filled settings, forced ASCII and IPv6: a sentence or a table, and never a traceback."""

from __future__ import annotations

import itertools
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from cli.errors import CommandError
from cli.serving.stack import require_free_ports
from panel.settings import load_settings
from runtime.errors import RuntimeFaultError
from runtime.processes.free_ports import free_port, reached_by, url_host
from tests.integration.cli.conftest import PanelSync
from tests.integration.sources.raw_server import RawServer, http
from tests.support.keys import random_key
from tests.support.sockets import has_ipv6

PAGE = json.dumps({"status": "success", "data": [], "next_cursor": None, "total": 0, "as_of": "2026-03-01T11:59:59Z"})
GROUPS: dict[str, dict[str, str]] = {
    "keys": {"VPS_SYNC_API_KEY": random_key(), "JWT_SECRET": random_key()},
    "main site": {"MAIN_SITE_API_KEY": "key", "USER_ID_SPACE": "mapped"},
    "cluster": {
        "PROXMOX_CLUSTERS": json.dumps(
            [{"name": "main", "urls": ["https://127.0.0.1:1"], "token_id": "a@b!c", "token_secret": ""}]
        )
    },
    "redis": {"REDIS_URL": "redis://127.0.0.1:1/0"},
    "database": {"DATABASE_URL": "postgresql://panel@127.0.0.1:1/panel?connect_timeout=2"},
    "empty": {"DATABASE_URL": "", "OPS_API_KEY": "", "PANEL_API_CLUSTER": "", "MAIN_SITE_CA_FILE": ""},
}


@pytest.mark.parametrize(
    "filled", [chosen for n in range(3) for chosen in itertools.combinations(GROUPS, n)], ids=" and ".join
)
def test_doctor_lists_what_is_missing(bare: PanelSync, filled: tuple[str, ...]) -> None:
    given = {name: value for group in filled for name, value in GROUPS[group].items()}
    with RawServer(http(PAGE.encode())) as site:
        if "main site" in filled:
            given["MAIN_SITE_URL"] = f"http://{site.authority}"
        said = bare("doctor", **given)
    assert "Traceback" not in said.err + said.out
    assert said.code == 1, said.err
    for group, name in (("keys", "VPS_SYNC_API_KEY"), ("keys", "JWT_SECRET"), ("redis", "REDIS_URL")):
        assert (f"{name} is not set" in said.out) is (group not in filled), said.out
    assert ("DATABASE_URL is not set" in said.out) is ("database" not in filled or "empty" in filled[1:])


@pytest.mark.parametrize(
    "command", [["plan"], ["held"], ["users", "list"], ["runs"], ["audit"], ["sources"], ["migrate"]]
)
def test_other_commands_name_what_they_need(bare: PanelSync, command: list[str]) -> None:
    said = bare(*command, **GROUPS["keys"])
    assert (said.code, said.out) == (2, "")
    assert "DATABASE_" in said.err
    assert "Traceback" not in said.err


def test_everything_that_is_wrong_is_told_at_once(bare: PanelSync) -> None:
    said = bare("doctor", MAIN_SITE_URL="https://site.test", PORT="x", JWT_SECRET="short", VPS_SYNC_API_KEY="short")
    assert said.code == 2
    assert all(name in said.err for name in ("PORT", "VPS_SYNC_API_KEY"))
    said = bare("doctor", MAIN_SITE_URL="https://site.test", JWT_SECRET="short")
    assert all(name in said.err for name in ("MAIN_SITE_API_KEY", "USER_ID_SPACE", "JWT_SECRET"))


@pytest.mark.parametrize(
    "arguments", [["--help"], ["doctor"], ["reconcile", "--help"], ["users", "list"]], ids=" ".join
)
def test_where_only_ascii_can_be_printed(tmp_path: Path, arguments: list[str]) -> None:
    environment = {
        "PATH": os.defpath, "PYTHONIOENCODING": "ascii", "PANEL_DATA_DIR": str(tmp_path / "\u0434\u0430\u043d"),
        "DATABASE_URL": "postgresql://u@127.0.0.1:1/\u0431\u0430\u0437\u0430?connect_timeout=2",
    }  # fmt: skip
    root = Path(__file__).resolve().parents[3]
    ran = subprocess.run(  # noqa: S603 - our own command
        [sys.executable, "-m", "cli.main", *arguments],
        env={**environment, "PYTHONPATH": str(root)}, cwd=tmp_path, capture_output=True, check=False,
    )  # fmt: skip
    assert ran.returncode in (0, 1, 2)
    assert b"Traceback" not in ran.stdout + ran.stderr
    assert (ran.stdout + ran.stderr).isascii()


@pytest.mark.parametrize(
    ("host", "reached", "shown"),
    [
        ("::", "::1", "[::1]"),
        ("::1", "::1", "[::1]"),
        ("[::1]", "::1", "[::1]"),
        ("0.0.0.0", "127.0.0.1", "127.0.0.1"),  # noqa: S104 - recognised, not bound
        ("", "127.0.0.1", "127.0.0.1"),
        ("127.0.0.1", "127.0.0.1", "127.0.0.1"),
        ("panel.test", "panel.test", "panel.test"),
    ],
)
def test_where_a_panel_is_reached(host: str, reached: str, shown: str) -> None:
    given = load_settings(_env_file=None, host=host).host
    assert (reached_by(given), url_host(reached_by(given))) == (reached, shown)


@pytest.mark.parametrize("host", ["::", "::1"] if has_ipv6() else ["127.0.0.1"])
def test_a_taken_port_is_told_for_every_kind_of_address(host: str) -> None:
    settings = load_settings(_env_file=None, host=host, port=free_port(), flower_port=free_port())
    require_free_ports(settings, flower=False)
    reached = reached_by(host)
    with (
        socket.create_server((reached, settings.port), family=socket.AF_INET6 if ":" in reached else socket.AF_INET),
        pytest.raises(CommandError, match="is taken by another program"),
    ):
        require_free_ports(settings, flower=False)


def test_a_host_that_is_none_is_told() -> None:
    with pytest.raises(RuntimeFaultError, match="is no address of this machine"):
        require_free_ports(load_settings(_env_file=None, host="no such host"), flower=False)
