"""Flower listens where `--address` says, on IPv6 too."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import SecretStr

from cli.serving.stack import flower_part
from panel.settings import load_settings
from runtime.processes.free_ports import free_port, reached_by
from runtime.processes.readiness import http_ok
from runtime.processes.supervisor import ManagedProcess
from tests.support.keys import random_key
from tests.support.sockets import has_ipv6


def test_it_listens_on_all_addresses(redis_url: str, tmp_path: Path) -> None:
    """A machine without IPv6 listens on all that it has."""
    address = "::" if has_ipv6() else "0.0.0.0"  # noqa: S104 - for a moment
    chosen = load_settings(
        _env_file=None, flower_port=free_port(), redis_url=redis_url, flower_password=SecretStr(random_key())
    )
    part = flower_part(chosen, tmp_path / "state", address)
    flower = ManagedProcess(
        "flower",
        part.argv,
        {"PATH": os.environ["PATH"], "REDIS_URL": redis_url, **part.environment(chosen)},
        tmp_path / "flower.log",
        ready=http_ok(chosen.flower_port, "/healthcheck", reached_by(address)),
        cwd=Path(__file__).resolve().parents[3],
    )
    flower.start()
    try:
        flower.wait_ready()
    finally:
        flower.stop()
