"""The API as a process, with production's command line, on a database of the test's own."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jwt

from cli.serving.stack import api_part
from panel.settings import Settings, load_settings
from runtime.processes.free_ports import free_port
from runtime.processes.readiness import http_ok
from runtime.processes.supervisor import ManagedProcess
from tests.support.databases import Database
from tests.support.keys import random_key
from tests.support.waiting import PATIENT_API_S


@dataclass(frozen=True, slots=True)
class ApiProcess:
    """A running API, and the credentials that it knows."""

    process: ManagedProcess
    port: int
    sync_key: str = field(default_factory=random_key)
    operator_key: str = field(default_factory=random_key)
    jwt_secret: str = field(default_factory=random_key)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def main_site(self) -> dict[str, str]:
        """The headers of the main site."""
        return {"X-API-Key": self.sync_key}

    def client(self, user_id: int) -> dict[str, str]:
        """The headers of a client."""
        return {"Authorization": f"Bearer {self.token(user_id)}"}

    def token(self, user_id: int) -> str:
        claims = {"user_id": user_id, "sub": str(user_id), "exp": int(time.time()) + 7200}
        return jwt.encode(claims, self.jwt_secret, "HS256")

    def log(self) -> list[dict[str, Any]]:
        """The events it has logged so far: one JSON object a line, or this fails."""
        return [json.loads(line) for line in self.process.log_path.read_text().rpartition("\n")[0].splitlines()]


@contextmanager
def api_process(
    database: Database,
    directory: Path,
    environment: Mapping[str, str] | None = None,
    *,
    ready: str = "/readyz",
    ends_within_s: int | None = None,
) -> Iterator[ApiProcess]:
    """Run ``panel-sync api``'s command in ``directory`` until the block ends. ``ends_within_s``: how long what is under
    way may take after SIGTERM, if not as long as in production."""
    port, sync_key, operator_key, jwt_secret = free_port(), random_key(), random_key(), random_key()
    given = {
        "PATH": os.environ["PATH"],
        **database.urls,
        "VPS_SYNC_API_KEY": sync_key,
        "OPS_API_KEY": operator_key,
        "JWT_SECRET": jwt_secret,
        "PORT": str(port),
        "ANSWER_WITHIN_S": str(PATIENT_API_S),
        **(environment or {}),
    }
    argv = api_part(_settings(port)).argv
    if ends_within_s is not None:
        argv = (*argv, f"--timeout-graceful-shutdown={ends_within_s}")  # the last one counts
    process = ManagedProcess("api", argv, given, directory / "api.log", ready=http_ok(port, ready), cwd=directory)
    process.start()
    try:
        process.wait_ready()
        yield ApiProcess(process, port, sync_key, operator_key, jwt_secret)
    finally:
        process.stop()


def _settings(port: int) -> Settings:
    """What the command line depends on."""
    return load_settings(_env_file=None, port=port)
