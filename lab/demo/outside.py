"""The systems around the panel, as processes of their own: the simulated main site and Proxmox clusters."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack

from lab.demo.world import Keys, Places
from lab.simulators.control import MainSiteControl, ProxmoxControl
from runtime.paths import DataDirectory
from runtime.processes.supervisor import ManagedProcess

UNAUTHORIZED_DELAY_S = 0.5


def outside_processes(places: Places, keys: Keys, data: DataDirectory) -> list[ManagedProcess]:
    """The simulators' processes. Proxmox comes first, because the main site creates guests on it."""
    return [_proxmox(places, keys, data), _main_site(places, keys, data)]


def main_site_control(places: Places, keys: Keys) -> MainSiteControl:
    """A client of the main site's control API."""
    return MainSiteControl(places.main_site_url, keys.control)


def proxmox_control(places: Places, keys: Keys, cluster: str) -> ProxmoxControl:
    """A client of a cluster's control API. The cluster must have written its authority's certificate."""
    return ProxmoxControl(places.proxmox_url(cluster), keys.control, ca_file=places.ca_file(cluster))


def _proxmox(places: Places, keys: Keys, data: DataDirectory) -> ManagedProcess:
    names = [f"--cluster={cluster}={port}" for cluster, port in places.proxmox.items()]
    first_port = next(iter(places.proxmox.values()))
    environment = {
        "SIM_PVE_TOKEN_ID": keys.proxmox_token_id,
        "SIM_PVE_TOKEN_SECRET": keys.proxmox,
        "SIM_CONTROL_KEY": keys.control,
    }
    return _managed(
        "proxmox",
        ("lab.simulators.proxmox", f"--port={first_port}", *names, f"--directory={places.authorities}",
         f"--unauthorized-delay={UNAUTHORIZED_DELAY_S}"),
        environment,
        data,
        lambda: all(_proxmox_ready(places, keys, cluster) for cluster in places.proxmox),
    )  # fmt: skip


def _main_site(places: Places, keys: Keys, data: DataDirectory) -> ManagedProcess:
    clusters = [
        {"name": cluster, "url": places.proxmox_url(cluster), "ca_file": str(places.ca_file(cluster))}
        for cluster in places.proxmox
    ]
    environment = {
        "SIM_MAIN_SITE_API_KEY": keys.main_site,
        "SIM_CONTROL_KEY": keys.control,
        "SIM_PROXMOX": json.dumps(clusters),
        "PANEL_URL": places.panel_url,
        "VPS_SYNC_API_KEY": keys.sync,
        "SIGN_IN_SECRET": keys.sign_in,
    }
    return _managed(
        "main-site",
        ("lab.simulators.main_site", f"--port={places.main_site}"),
        environment,
        data,
        lambda: _main_site_ready(places, keys),
    )


def _managed(
    name: str, arguments: tuple[str, ...], own: Mapping[str, str], data: DataDirectory, ready: Callable[[], bool]
) -> ManagedProcess:
    argv = (sys.executable, "-P", "-m", *arguments)
    return ManagedProcess(name, argv, {**os.environ, **own}, data.log_path(name), ready=ready, stop_grace_s=5.0)


def _main_site_ready(places: Places, keys: Keys) -> bool:
    with main_site_control(places, keys) as control:
        return control.is_ready()


def _proxmox_ready(places: Places, keys: Keys, cluster: str) -> bool:
    if not places.ca_file(cluster).exists():
        return False
    with ExitStack() as stack:
        return stack.enter_context(proxmox_control(places, keys, cluster)).is_ready()
