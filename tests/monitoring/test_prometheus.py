"""The alert rules and the dashboard by a real Prometheus, which scrapes a whole panel."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from runtime.processes.free_ports import free_port
from runtime.processes.readiness import http_ok
from runtime.processes.supervisor import ManagedProcess
from tests.support.databases import Database
from tests.support.keys import random_key
from tests.support.live_panel import QUICK, live_panel, outside
from tests.support.trouble.drift import sold, stop_guest
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.prometheus]

PLACE = Path(__file__).resolve().parents[2] / "docs" / "monitoring"
CONFIG = """
global: {{scrape_interval: 5s, scrape_timeout: 5s, evaluation_interval: 5s}}
rule_files: [{rules}]
scrape_configs:
  - job_name: panel-sync
    authorization: {{credentials_file: {key}}}
    static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
"""


def program(name: str) -> str:
    found = shutil.which(name)
    assert found is not None, f"{name} is missing. As root: apt install prometheus"
    return found


def expressions() -> Iterator[tuple[str, str]]:
    """Title and expression of each query of the dashboard."""
    for panel in json.loads((PLACE / "dashboard.json").read_text(encoding="utf-8"))["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]


@pytest.mark.parametrize("arguments", [("check", "alerts.yml"), ("test", "alerts_test.yml")], ids=" ".join)
def test_promtool_finds_nothing(arguments: tuple[str, str]) -> None:
    what, name = arguments
    ran = subprocess.run(  # noqa: S603 - fixed arguments
        [program("promtool"), what, "rules", str(PLACE / name)], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_every_expression_of_the_dashboard_returns_data(database: Database, tmp_path: Path) -> None:
    key, port = random_key(), free_port()
    with outside() as world:
        environment = QUICK | world.environment() | {"OPS_API_KEY": key}
        with live_panel(database, tmp_path, environment=environment) as panel:
            config, key_file = tmp_path / "prometheus.yml", tmp_path / "key"
            key_file.write_text(key)
            config.write_text(
                CONFIG.format(rules=PLACE / "alerts.yml", key=key_file, port=panel.settings.port), encoding="utf-8"
            )
            prometheus = ManagedProcess(
                "prometheus",
                [
                    program("prometheus"),
                    f"--config.file={config}",
                    f"--storage.tsdb.path={tmp_path / 'tsdb'}",
                    f"--web.listen-address=127.0.0.1:{port}",
                    "--log.level=warn",
                ],
                {},
                tmp_path / "prometheus.log",
                ready=http_ok(port, "/-/ready"),
            )
            prometheus.start()
            try:
                prometheus.wait_ready()
                users = "SELECT 1 FROM users HAVING count(main_site_user_id) = 2"
                wait_until(partial(panel.rows, users), "the users, without whom calls are refused")
                # Something of each kind: calls, a repair, a finding.
                order, _ = sold(panel, world, "web-1")
                stop_guest(world, order)
                panel.wait_status(5, "web-1", "stopped")
                world.pve.add_guest(900, name="nobodys")

                def query(expression: str) -> list[Any]:
                    answer = httpx.get(
                        f"http://127.0.0.1:{port}/api/v1/query", params={"query": expression}, trust_env=False
                    )
                    assert answer.status_code == 200, f"{expression}: {answer.text}"
                    found = answer.json()["data"]["result"]
                    assert isinstance(found, list)
                    return found

                for title, expression in expressions():
                    wait_until(partial(query, expression), f"{title}: {expression}")
                wait_until(partial(query, 'up{job="panel-sync"} == 1'), "a scrape that Prometheus calls well")
                # What the workers counted is the API's to show, too.
                for task in ("sync.apply", "reconcile.run", "reconcile.fast"):
                    counted = f'panel_sync_tasks_total{{task="{task}",outcome="success"}} > 0'
                    wait_until(partial(query, counted), counted)
                wait_until(partial(query, "sum(panel_sync_calls_finished_total) > 0"), "finished calls")
            finally:
                prometheus.stop()
