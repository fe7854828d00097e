"""A whole panel as in production: API, workers, beat and Flower are processes, PostgreSQL and Redis are real.

Only the main site and Proxmox are simulated, in the test's own process, so that a test can say what goes wrong.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import Engine, text

from cli.environment import with_overrides
from cli.operating.tokens import client_token
from cli.serving.stack import processes
from lab.simulators.main_site import MainSiteServer
from lab.simulators.provisioning import ProxmoxGuests
from lab.simulators.proxmox.server import ProxmoxServer
from panel.sessions import sync_engine
from panel.settings import Settings
from runtime.paths import DataDirectory
from runtime.processes.free_ports import free_port
from runtime.processes.supervisor import ManagedProcess, Supervisor
from runtime.servers.embedded_redis import EmbeddedRedis
from tests.support.databases import Database
from tests.support.keys import random_key
from tests.support.waiting import PATIENCE_S, PATIENT_API_S, wait_until

PROOF_N, PROOF_T_S = 3, 5

QUICK = {
    "ANSWER_WITHIN_S": str(PATIENT_API_S),
    "FAST_INTERVAL_S": "1",
    "FULL_INTERVAL_S": "2",
    "SWEEP_INTERVAL_S": "1",
    "USERS_INTERVAL_S": "2",
    "POWER_GRACE_S": "1",
    "LINK_GRACE_S": "1",
    "CREATE_GRACE_S": "1",
    "PAID_MISSING_GRACE_S": "1",
    "ORPHAN_GRACE_S": "1",
    "ABSENCE_PROOF_N": str(PROOF_N),
    "ABSENCE_PROOF_T_S": str(PROOF_T_S),
}
"""Seconds where production has minutes, but the same proofs."""

SYNC_PATH_PARTS = frozenset({"api", "worker-sync"})
"""What sync calls need: without these there is no panel at all."""


@dataclass(frozen=True, slots=True)
class LivePanel:
    """What a test may do from outside: HTTP as a caller or a client, a look at the journal, faults."""

    settings: Settings
    engine: Engine
    redis: EmbeddedRedis
    supervisor: Supervisor
    directory: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.settings.port}"

    @property
    def sync_key(self) -> str:
        return self.settings.vps_sync_api_key.get_secret_value()

    def token(self, user_id: int) -> str:
        """A client's JWT, good for an hour."""
        return client_token(self.settings, user_id, datetime.now(UTC), timedelta(hours=1))

    def sync(self, action: str, vps: Mapping[str, Any]) -> httpx.Response:
        """A main site's call."""
        return httpx.post(
            f"{self.url}/api/vps/sync",
            json={"action": action, "vps": dict(vps)},
            headers={"X-API-Key": self.sync_key},
            trust_env=False,
        )

    def listed(self, user_id: int) -> dict[int, dict[str, Any]]:
        """What the client sees, by VPS id."""
        answer = httpx.get(
            f"{self.url}/api/vps", headers={"Authorization": f"Bearer {self.token(user_id)}"}, trust_env=False
        )
        assert answer.status_code == 200, answer.text
        return {record["id"]: record for record in answer.json()["data"]}

    def named(self, user_id: int, name: str) -> dict[str, Any] | None:
        """The client's record of that name, or None."""
        found = [record for record in self.listed(user_id).values() if record["name"] == name]
        assert len(found) < 2, found
        return found[0] if found else None

    def wait_status(self, user_id: int, name: str, status: str, timeout_s: float = PATIENCE_S) -> dict[str, Any]:
        """The client's record once it shows that status."""

        def look() -> dict[str, Any] | None:
            record = self.named(user_id, name)
            return record if record is not None and record["status"] == status else None

        found = wait_until(look, f"{name} to be {status}", timeout_s)
        assert found is not None
        return found

    def rows(self, statement: str, **values: Any) -> list[dict[str, Any]]:
        """Rows as the application's own login reads them."""
        with self.engine.connect() as connection:
            return [dict(row._mapping) for row in connection.execute(text(statement), values)]

    def wait_users(self, count: int = 2) -> None:
        """Until a run has imported the main site's users. A test that adds one of them itself would be in its way."""
        imported = "SELECT 1 FROM users WHERE main_site_user_id IS NOT NULL"
        wait_until(lambda: len(self.rows(imported)) == count, "the users to be imported")

    def repairs(self, vps_id: int) -> list[dict[str, Any]]:
        """The reconciler's entries in the journal of a VPS, oldest first."""
        return self.rows("SELECT * FROM operations WHERE vps_id = :id AND kind = 'repair' ORDER BY seq", id=vps_id)

    def process(self, name: str) -> ManagedProcess:
        return self.supervisor.process(name)

    def restart(self, name: str) -> None:
        """Start a process again that was killed, as its supervisor would."""
        with contextlib.chdir(self.directory):
            self.process(name).start()
            self.process(name).wait_ready()


@contextmanager
def live_panel(
    database: Database,
    directory: Path,
    *,
    environment: Mapping[str, str] | None = None,
    parts: frozenset[str] | None = None,
    flower: bool = False,
    statistics: bool = False,
    redis_through: Callable[[str], str] = str,
) -> Iterator[LivePanel]:
    """Start the panel's processes (``parts``: only those) on that database and a Redis of their own. ``statistics``:
    the worker for them, too, which takes a while to start.

    ``redis_through`` makes of Redis' URL the one that the panel uses. ``environment`` adds to the settings of a
    panel without a main site and Proxmox.
    """
    with ExitStack() as stack:
        redis = EmbeddedRedis(directory / "redis")
        stack.callback(redis.destroy)
        redis.start()
        overrides = {
            "DEMO": "true",
            **database.urls,
            "REDIS_URL": redis_through(redis.url),
            "VPS_SYNC_API_KEY": random_key(),
            "JWT_SECRET": random_key(),
            "FLOWER_PASSWORD": random_key(),
            "PORT": str(free_port()),
            "FLOWER_PORT": str(free_port()),
            "ANSWER_WITHIN_S": str(PATIENT_API_S),
            **(environment or {}),
        }
        # A .env in the checkout is its developer's; processes look for one where they are started.
        stack.enter_context(contextlib.chdir(directory))
        settings = with_overrides(overrides)
        data = stack.enter_context(DataDirectory(directory / "data"))
        every_process = processes(settings, overrides, data, flower=flower)
        if not statistics:
            every_process = [process for process in every_process if process.name != "worker-statistics"]
        supervisor = Supervisor([process for process in every_process if parts is None or process.name in parts])
        stack.enter_context(supervisor)
        stack.callback(_kill_workers, supervisor)
        engine = sync_engine(database.app_url, "panel-sync test", pool_size=2)
        stack.callback(engine.dispose)
        yield LivePanel(settings, engine, redis, supervisor, directory)


def _kill_workers(supervisor: Supervisor) -> None:
    """They would take their whole grace time to end, one after the other, and a killed one must lose nothing."""
    for process in supervisor.processes:
        if process.name.startswith("worker-") and process.running:
            process.kill()


@dataclass(frozen=True, slots=True)
class Outside:
    """The world that the panel watches: user 1 of the main site is user 5 of the panel, user 2 is user 6."""

    site: MainSiteServer
    pve: ProxmoxServer
    panel_port: int
    sync_key: str

    def environment(self) -> dict[str, str]:
        """The settings that make a panel watch it."""
        return {
            "PORT": str(self.panel_port),
            "VPS_SYNC_API_KEY": self.sync_key,
            "MAIN_SITE_URL": self.site.url,
            "MAIN_SITE_API_KEY": self.site.api_key,
            "USER_ID_SPACE": "mapped",
            "PROXMOX_CLUSTERS": json.dumps([self.pve.settings()]),
        }


@contextmanager
def outside() -> Iterator[Outside]:
    """A main site that makes the documented calls, and a Proxmox cluster with its guests."""
    port, sync_key = free_port(), random_key()
    with ExitStack() as stack:
        pve = stack.enter_context(ProxmoxServer(unauthorized_delay_s=0.01))
        site = stack.enter_context(
            MainSiteServer(
                panel_url=f"http://127.0.0.1:{port}", sync_key=sync_key, guests=ProxmoxGuests({pve.name: pve})
            )
        )
        for main_site_id, panel_id in ((1, 5), (2, 6)):
            user = site.add_user(
                username=f"login-of-{panel_id}", email=f"person{panel_id}@example.test", panel_user_id=panel_id
            )
            assert user.id == main_site_id
        yield Outside(site, pve, port, sync_key)
