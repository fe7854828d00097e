"""The requests to one endpoint, so that one read never mixes two nodes' views of the cluster."""

from __future__ import annotations

from dataclasses import dataclass

from domain.guests import Guest, GuestType
from domain.source_protocols import GuestConfig
from sources.faults import Malformed
from sources.http import segment
from sources.proxmox.client import Endpoint
from sources.proxmox.guest_config import read_config
from sources.proxmox.parse import Listed, guests_of, vmids_of
from sources.proxmox.selfcheck import (
    GRANT_GUESTS,
    GUEST_PRIVILEGE,
    Membership,
    holds,
    membership_of,
    version_of,
)


@dataclass(frozen=True, slots=True)
class View:
    """What the token sees. ``missing``: what it should see and does not, and the remedy."""

    whole: bool
    missing: tuple[str, ...] = ()


class Session:
    """Typed GETs. Each raises a ``SourceFault``."""

    def __init__(self, endpoint: Endpoint, cluster: str, pools: tuple[str, ...]) -> None:
        self._endpoint = endpoint
        self._cluster = cluster
        self._pools = pools
        self.skew_s: float | None = None

    def version(self) -> str | None:
        """The version's text; ``None`` if it is not given."""
        reply = self._endpoint.get("/version")
        self.skew_s = reply.skew_s
        return version_of(reply.data)

    def holds(self, path: str, privilege: str) -> bool:
        """Whether the token holds the privilege on everything below the path."""
        return holds(self._endpoint.get("/access/permissions", {"path": path}).data, path, privilege)

    def view(self) -> View:
        """Whether the token sees all guests, or at least those of the configured pools."""
        if self.holds("/vms", GUEST_PRIVILEGE):
            return View(whole=True)
        paths = [f"/pool/{pool}" for pool in self._pools]
        lacking = [path for path in paths if not self.holds(path, GUEST_PRIVILEGE)] if paths else ["/vms"]
        return View(
            whole=False,
            missing=tuple(
                f"the token lacks {GUEST_PRIVILEGE} on {path}: {GRANT_GUESTS.format(path=path)}" for path in lacking
            ),
        )

    def membership(self) -> Membership:
        """Quorum and nodes."""
        return membership_of(self._endpoint.get("/cluster/status").data)

    def guests(self) -> Listed:
        """The bulk list of all guests that the token sees."""
        listed = guests_of(self._cluster, self._endpoint.get("/cluster/resources", {"type": "vm"}).data)
        if listed is None:
            raise Malformed("/cluster/resources is not a list")
        return listed

    def vmids(self, node: str, guest_type: GuestType) -> frozenset[int]:
        """The VMIDs that the node itself lists, not taken from the cluster's status cache."""
        vmids = vmids_of(self._endpoint.get(f"/nodes/{segment(node)}/{guest_type}").data)
        if vmids is None:
            raise Malformed(f"/nodes/{node}/{guest_type} is not a list of guests")
        return vmids

    def config(self, node: str, guest_type: GuestType, vmid: int) -> GuestConfig:
        """A guest's current configuration, without pending changes."""
        path = f"/nodes/{segment(node)}/{guest_type}/{vmid}/config"
        config = read_config(node, guest_type, self._endpoint.get(path, {"current": "1"}).data)
        if config is None:
            raise Malformed(f"{path} is not a configuration")
        return config


def find(listed: Listed, vmid: int) -> Guest | None:
    """The guest with that VMID, if the list shows it."""
    return next((guest for guest in listed.guests if guest.vmid == vmid), None)
