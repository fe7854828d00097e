"""The API as the panel starts it, on IPv6."""

from __future__ import annotations

import os
from pathlib import Path

import httpx
import pytest

from cli.serving.stack import api_part
from panel.settings import load_settings
from runtime.processes.free_ports import free_port, reached_by, url_host
from runtime.processes.readiness import http_ok
from runtime.processes.supervisor import ManagedProcess
from tests.support.databases import Database
from tests.support.keys import random_key
from tests.support.sockets import has_ipv6

HOSTS = ["::", "::1"] if has_ipv6() else [""]
"""A machine without IPv6 listens on all that it has."""


@pytest.mark.parametrize("host", HOSTS)
def test_it_listens_where_it_says(database: Database, tmp_path: Path, host: str) -> None:
    given = {**database.urls, "VPS_SYNC_API_KEY": random_key(), "JWT_SECRET": random_key()}
    settings = load_settings(_env_file=None, host=host, port=free_port(), **{k.lower(): v for k, v in given.items()})
    part = api_part(settings)
    reached = reached_by(settings.host)
    process = ManagedProcess(
        "api",
        part.argv,
        {"PATH": os.environ["PATH"], **part.environment(settings), **given},
        tmp_path / "api.log",
        ready=http_ok(settings.port, "/healthz", reached),
        cwd=Path(__file__).resolve().parents[3],
        ready_timeout_s=90,
    )
    process.start()
    try:
        process.wait_ready()
        # A proxy on this machine is believed, whichever of its addresses it comes from.
        answer = httpx.get(
            f"http://{url_host(reached)}:{settings.port}/healthz",
            headers={"X-Forwarded-Proto": "https"},
            trust_env=False,
        )
        assert answer.status_code == 200
        assert "Strict-Transport-Security" in answer.headers
    finally:
        process.stop()


@pytest.mark.parametrize(("said", "believed"), [("", "127.0.0.1,::1"), ("10.0.0.7", "10.0.0.7")])
def test_the_proxies_that_are_believed_are_those_of_the_env_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, believed: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FORWARDED_ALLOW_IPS", raising=False)
    Path(".env").write_text(f"FORWARDED_ALLOW_IPS={said}\n", encoding="utf-8")
    assert api_part(load_settings()).more == {"FORWARDED_ALLOW_IPS": believed}
