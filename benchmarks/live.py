"""A whole panel for a benchmark: its processes and servers are real, the main site and Proxmox simulated."""

from __future__ import annotations

import contextlib
import json
import secrets
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from benchmarks.servers import Servers
from cli.environment import with_overrides
from cli.serving.stack import processes
from lab.simulators.main_site import MainSiteServer
from lab.simulators.provisioning import ProxmoxGuests
from lab.simulators.proxmox.server import ProxmoxServer
from runtime.paths import DataDirectory
from runtime.processes.free_ports import free_port
from runtime.processes.supervisor import Supervisor


@contextlib.contextmanager
def live_panel(
    servers: Servers, database_url: str, nodes: int, settings: Mapping[str, str]
) -> Iterator[tuple[MainSiteServer, ProxmoxServer]]:
    """API, both workers and beat, watching what is yielded; ``settings`` as in the environment."""
    port, sync_key = free_port(), secrets.token_urlsafe(32)
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="panel-sync-live-")))
        pve = stack.enter_context(ProxmoxServer(nodes=[f"pve{n}" for n in range(1, nodes + 1)]))
        site = stack.enter_context(
            MainSiteServer(
                panel_url=f"http://127.0.0.1:{port}", sync_key=sync_key, guests=ProxmoxGuests({pve.name: pve})
            )
        )
        overrides = {
            "DEMO": "true",  # a proof of absence in seconds
            "DATABASE_URL": database_url,
            "REDIS_URL": servers.redis.url,
            "VPS_SYNC_API_KEY": sync_key,
            "JWT_SECRET": secrets.token_urlsafe(32),
            "PORT": str(port),
            "MAIN_SITE_URL": site.url,
            "MAIN_SITE_API_KEY": site.api_key,
            "USER_ID_SPACE": "mapped",
            "PROXMOX_CLUSTERS": json.dumps([pve.settings()]),
            **settings,
        }
        # A .env in the checkout is its developer's; processes look for one where they are started.
        stack.enter_context(contextlib.chdir(directory))
        data = stack.enter_context(DataDirectory(directory / "data"))
        parts = processes(with_overrides(overrides), overrides, data, flower=False)
        stack.enter_context(Supervisor(parts))
        yield site, pve
