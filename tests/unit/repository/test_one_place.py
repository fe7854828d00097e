"""Clients of Redis and PostgreSQL are made in one place each, so that none of them forgets to verify its server."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PACKAGES = ("api", "cli", "panel", "reconcile", "sources", "tracing", "worker")
MAKING = re.compile(
    r"\bRedis\.from_url\(|\bredis\.Redis\(|\bcreate_(?:async_)?engine\(|psycopg\.connect\(|\.broker_url = "
    r"|\bAsyncConnection\.connect\("
)
PLACES = {"panel/broker.py", "panel/sessions.py"}
EMBEDDED = {"cli/serving/local_servers.py"}
"""Speaks to the server that this very process started."""


def test_clients_of_servers_are_made_in_one_place() -> None:
    found = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if MAKING.search(path.read_text(encoding="utf-8"))
    }
    assert found == PLACES | EMBEDDED
