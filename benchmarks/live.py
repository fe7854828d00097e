"""A whole panel for a benchmark, or some of its parts. Its processes and servers are real."""

from __future__ import annotations

import contextlib
import json
import secrets
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.servers import Servers
from cli.environment import with_overrides
from cli.serving.stack import processes
from lab.simulators.main_site import MainSiteServer
from lab.simulators.provisioning import ProxmoxGuests
from lab.simulators.proxmox.server import ProxmoxServer
from panel.settings import Settings
from runtime.paths import DataDirectory
from runtime.processes.free_ports import free_port
from runtime.processes.supervisor import ManagedProcess, RestartPolicy, Supervisor


@dataclass(frozen=True, slots=True)
class Panel:
    """A panel whose workers start when a benchmark says so."""

    url: str
    settings: Settings
    edge: Supervisor
    """The API, and whatever publishes what it accepted."""
    worker: Supervisor
    """The worker of the queue ``sync``."""

    @property
    def edge_pids(self) -> list[int]:
        """The processes of the edge."""
        return [process.pid for process in self.edge.processes]

    @property
    def worker_pids(self) -> list[int]:
        """The worker; its children are below it."""
        return [process.pid for process in self.worker.processes]


@contextlib.contextmanager
def calls_panel(servers: Servers, database_url: str) -> Iterator[Panel]:
    """A panel without sources, that only takes calls: its edge runs, its worker waits to be started."""
    with contextlib.ExitStack() as stack:
        overrides = {
            "DATABASE_URL": database_url,
            "REDIS_URL": servers.fresh_redis(),
            "VPS_SYNC_API_KEY": secrets.token_urlsafe(32),
            "JWT_SECRET": secrets.token_urlsafe(32),
            "PORT": str(free_port()),
        }
        chosen, parts = _parts(stack, overrides, flower=False)
        edge = [part for part in parts if not part.name.startswith(("worker", "beat"))]
        # What dies is started again, as `panel-sync up` does it.
        worker = Supervisor([part for part in parts if part.name == "worker-sync"], restart=RestartPolicy())
        stack.callback(worker.stop)
        yield Panel(database_url, chosen, stack.enter_context(Supervisor(edge)), worker)


def _parts(
    stack: contextlib.ExitStack, overrides: Mapping[str, str], *, flower: bool
) -> tuple[Settings, list[ManagedProcess]]:
    directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="panel-sync-live-")))
    # A .env in the checkout is its developer's; processes look for one where they are started.
    stack.enter_context(contextlib.chdir(directory))
    data = stack.enter_context(DataDirectory(directory / "data"))
    chosen = with_overrides(overrides)
    return chosen, processes(chosen, overrides, data, flower=flower)


@dataclass(frozen=True, slots=True)
class LivePanel:
    """A panel that runs, and the two simulators that it watches."""

    site: MainSiteServer
    pve: ProxmoxServer
    settings: Settings
    supervisor: Supervisor


@contextlib.contextmanager
def live_panel(
    servers: Servers, database_url: str, nodes: int, settings: Mapping[str, str], *, flower: bool = False
) -> Iterator[LivePanel]:
    """API, workers and beat, with a simulated main site and Proxmox; ``settings`` as in the environment."""
    port, sync_key = free_port(), secrets.token_urlsafe(32)
    with contextlib.ExitStack() as stack:
        pve = stack.enter_context(ProxmoxServer(nodes=[f"pve{n}" for n in range(1, nodes + 1)]))
        site = stack.enter_context(
            MainSiteServer(
                panel_url=f"http://127.0.0.1:{port}", sync_key=sync_key, guests=ProxmoxGuests({pve.name: pve})
            )
        )
        overrides = {
            "DEMO": "true",  # a proof of absence in seconds
            "DATABASE_URL": database_url,
            "REDIS_URL": servers.fresh_redis(),
            "VPS_SYNC_API_KEY": sync_key,
            "JWT_SECRET": secrets.token_urlsafe(32),
            "PORT": str(port),
            "MAIN_SITE_URL": site.url,
            "MAIN_SITE_API_KEY": site.api_key,
            "USER_ID_SPACE": "mapped",
            "PROXMOX_CLUSTERS": json.dumps([pve.settings()]),
            **settings,
        }
        chosen, parts = _parts(stack, overrides, flower=flower)
        yield LivePanel(site, pve, chosen, stack.enter_context(Supervisor(parts)))
