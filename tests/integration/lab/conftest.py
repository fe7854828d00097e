import ssl
from collections.abc import Iterator

import httpx
import pytest

from lab.simulators.main_site import MainSiteServer
from lab.simulators.proxmox.server import ProxmoxServer


@pytest.fixture(scope="module")
def running_site() -> Iterator[MainSiteServer]:
    with MainSiteServer(first_order_id=1001) as site:
        ann = site.add_user(username="ann", email="ann@example.org", panel_user_id=5)
        bob = site.add_user(username="bob", email="bob@example.org", email_verified=False)
        site.fill(5, user_id=ann.id, cluster="main")
        site.fill(5, user_id=bob.id, cluster="main", first_vmid=200)
        yield site


@pytest.fixture
def site(running_site: MainSiteServer) -> Iterator[MainSiteServer]:
    """Orders 1001 to 1005 of ann (site id 1, panel id 5), 1006 to 1010 of bob (site id 2, no panel id)."""
    yield running_site
    running_site.clear_faults()
    running_site.set_shape("flat")


@pytest.fixture
def feed(site: MainSiteServer) -> Iterator[httpx.Client]:
    headers = {"X-API-Key": site.api_key}
    with httpx.Client(base_url=f"{site.url}/api/panel", headers=headers, timeout=120) as client:
        yield client


@pytest.fixture(scope="module")
def running_proxmox() -> Iterator[ProxmoxServer]:
    with ProxmoxServer(endpoints=2, unauthorized_delay_s=0.15) as server:
        yield server


@pytest.fixture
def proxmox(running_proxmox: ProxmoxServer) -> Iterator[ProxmoxServer]:
    """QEMU 100 (running, pve1), 1000 (stopped, pve2) and container 101 (running, pve1)."""
    running_proxmox.add_guest(100, name="web", tags="pnl-a", uuid="0b7a4a4e-3c8b-4b0e-9d55-0f1f3b7a1c11")
    running_proxmox.add_guest(101, name="box", type="lxc", memory_mb=1024, disk_gb=8, mac="BC:24:11:00:00:65")
    running_proxmox.add_guest(1000, name="db", node="pve2", status="stopped")
    yield running_proxmox
    running_proxmox.clear_faults()
    running_proxmox.set_version("9.0.10")
    for guest in running_proxmox.list_guests():
        running_proxmox.remove_guest(guest.vmid)


@pytest.fixture
def pve(proxmox: ProxmoxServer) -> Iterator[httpx.Client]:
    with httpx.Client(
        base_url=f"{proxmox.url}/api2/json",
        headers={"Authorization": proxmox.authorization},
        verify=ssl.create_default_context(cafile=proxmox.ca_file),
        timeout=120,
    ) as client:
        yield client
