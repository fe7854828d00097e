"""The OpenAPI document against the running API: schemathesis tries both what it allows and what it does not.

Every check of schemathesis is on. A real process and a real PostgreSQL; the three credentials are in schemathesis.toml.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from sqlalchemy import Engine

from panel.journal.writer import apply_operation
from tests.integration.api.test_api_operators import hold, raise_findings
from tests.support.api_process import ApiProcess, api_process
from tests.support.databases import Database
from tests.support.fleets.world import add_user

HERE = Path(__file__).parent
TRIED_S = int(os.environ.get("CONTRACT_S", "600"))
CREATE = {"user_id": 5, "cpu": 4, "ram": 8192, "disk": 100, "os": "Ubuntu 22.04"}


@pytest.fixture
def api(database: Database, engine: Engine, tmp_path: Path) -> Iterator[ApiProcess]:
    """An API that knows a user, live records, a deleted one, calls that nobody has applied, findings, a held set."""
    add_user(engine, 5)
    with api_process(database, tmp_path) as running:
        with httpx.Client(base_url=running.url, headers=running.main_site) as site:
            for number in range(1, 6):
                vps = CREATE | {"name": f"web-{number}", "order_id": number}
                made = site.post("/api/vps/sync", json={"action": "create", "vps": vps}).raise_for_status().json()
                if number < 5:
                    apply_operation(engine, made["operation"]["id"])
            gone = site.post("/api/vps/sync", json={"action": "delete", "vps": {"id": 4}}).raise_for_status().json()
            apply_operation(engine, gone["operation"]["id"])
        raise_findings(engine)
        hold(engine, 1, 2)
        yield running


def _tried(api: ApiProcess, directory: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable, "-m", "schemathesis.cli", "--config-file", str(HERE / "schemathesis.toml"),
        "run", f"{api.url}/openapi.json", "--checks=all", "--mode=all", *options,
    ]  # fmt: skip
    environment = {
        "PATH": os.environ["PATH"],
        "CONTRACT_HOOKS": str(HERE / "contract_hooks.py"),
        "CONTRACT_SYNC_KEY": api.sync_key,
        "CONTRACT_OPERATOR_KEY": api.operator_key,
        "CONTRACT_TOKEN": api.token(5),
        "NO_COLOR": "1",
    }
    return subprocess.run(command, env=environment, cwd=directory, capture_output=True, text=True, check=False)  # noqa: S603 - own


def test_every_answer_is_as_the_document_has_it(api: ApiProcess, tmp_path: Path) -> None:
    tried = _tried(api, tmp_path, "--max-examples=4", "--seed=1", "--max-time=12")
    assert tried.returncode == 0, tried.stdout + tried.stderr


@pytest.mark.soak
@pytest.mark.timeout(TRIED_S + 900)
def test_every_answer_is_as_the_document_has_it_for_longer(api: ApiProcess, tmp_path: Path) -> None:
    """With another seed each time: `make soak`, and CI for CONTRACT_S=90 seconds."""
    tried = _tried(api, tmp_path, "--max-examples=300", f"--max-time={TRIED_S}")
    assert tried.returncode == 0, tried.stdout + tried.stderr
