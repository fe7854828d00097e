"""What tests, demo and chaos can do to a Proxmox cluster. `FakeCluster` does it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import TypeAdapter

from lab.simulators.proxmox.guests import Guest, GuestType
from lab.simulators.verbs import NOTHING, Verbs

__all__ = ["Guest", "GuestType", "ProxmoxVerbs", "SeenRequest"]


@dataclass(frozen=True, slots=True)
class SeenRequest:
    """A request that arrived, and the status of its answer. `path` is below `/api2/json`, without the query."""

    method: str
    path: str
    status: int


_GUEST = TypeAdapter(Guest)
_MAYBE_GUEST: TypeAdapter[Guest | None] = TypeAdapter(Guest | None)
_GUESTS = TypeAdapter(list[Guest])
_REQUESTS = TypeAdapter(list[SeenRequest])


class ProxmoxVerbs(Verbs):
    """The verbs of one cluster. Sizes in MiB and GiB; times in seconds."""

    # Guests

    def create_guest(
        self,
        *,
        name: str,
        type: GuestType = "qemu",  # noqa: A002 - the API's own word
        node: str | None = None,
        status: str = "stopped",
        cores: int = 2,
        memory_mb: int = 4096,
        disk_gb: int = 50,
    ) -> Guest:
        """Create a guest with the lowest free VMID, on the named node or on the first node that is online."""
        return self._do(
            "create_guest",
            _GUEST,
            name=name,
            type=type,
            node=node,
            status=status,
            cores=cores,
            memory_mb=memory_mb,
            disk_gb=disk_gb,
        )

    def add_guest(
        self,
        vmid: int,
        *,
        node: str = "pve1",
        type: GuestType = "qemu",  # noqa: A002 - the API's own word
        name: str | None = None,
        status: str = "running",
        uuid: str | None = None,
        mac: str | None = None,
        cores: int = 2,
        memory_mb: int = 4096,
        disk_gb: int = 50,
        tags: str = "",
        lock: str | None = None,
        template: bool = False,
        ip_address: str = "",
        reported_after_s: float = 0.0,
    ) -> Guest:
        """Create a guest with this VMID. Without uuid and mac random ones are made; an empty mac means no network card.

        `reported_after_s`: for so long the bulk list shows the name, status and sizes of the guest that had this VMID
        before, as a real cluster does until the node reports.
        """
        return self._do(
            "add_guest",
            _GUEST,
            vmid=vmid,
            node=node,
            type=type,
            name=name,
            status=status,
            uuid=uuid,
            mac=mac,
            cores=cores,
            memory_mb=memory_mb,
            disk_gb=disk_gb,
            tags=tags,
            lock=lock,
            template=template,
            ip_address=ip_address,
            reported_after_s=reported_after_s,
        )

    def change_guest(
        self,
        vmid: int,
        *,
        name: str | None = None,
        uuid: str | None = None,
        mac: str | None = None,
        cores: int | None = None,
        memory_mb: int | None = None,
        disk_gb: int | None = None,
        tags: str | None = None,
    ) -> Guest:
        """Change the configuration. None leaves a key as it is."""
        return self._do(
            "change_guest",
            _GUEST,
            vmid=vmid,
            name=name,
            uuid=uuid,
            mac=mac,
            cores=cores,
            memory_mb=memory_mb,
            disk_gb=disk_gb,
            tags=tags,
        )

    def find_guest(self, vmid: int) -> Guest | None:
        """The guest as it really is, also while lists show something else."""
        return self._do("find_guest", _MAYBE_GUEST, vmid=vmid)

    def list_guests(self) -> list[Guest]:
        """All guests as they really are, by VMID."""
        return self._do("list_guests", _GUESTS)

    def set_status(self, vmid: int, status: str) -> Guest:
        """Set running, stopped, or QEMU's paused, prelaunch, io-error, ... `unknown`: its node no longer reports it."""
        return self._do("set_status", _GUEST, vmid=vmid, status=status)

    def set_uptime(self, vmid: int, seconds: float) -> None:
        """Let a running guest have been started so many seconds ago."""
        self._do("set_uptime", NOTHING, vmid=vmid, seconds=seconds)

    def set_measured(self, vmid: int, since_s: float, until_s: float | None = None) -> None:
        """Let what is measured of the guest that came last begin so many seconds ago, and end if it is gone."""
        self._do("set_measured", NOTHING, vmid=vmid, since_s=since_s, until_s=until_s)

    def set_lock(self, vmid: int, lock: str | None) -> Guest:
        """Lock the guest by backup, migrate, snapshot, suspended, ...; None unlocks it."""
        return self._do("set_lock", _GUEST, vmid=vmid, lock=lock)

    def remove_guest(self, vmid: int) -> None:
        """Destroy the guest."""
        self._do("remove_guest", NOTHING, vmid=vmid)

    def migrate(self, vmid: int, node: str) -> Guest:
        """Move the guest to another node."""
        return self._do("migrate", _GUEST, vmid=vmid, node=node)

    # The cluster

    def add_node(self, node: str) -> None:
        """Add a node, which is online."""
        self._do("add_node", NOTHING, node=node)

    def set_node_online(self, node: str, *, online: bool) -> None:
        """Set a node on- or offline. Offline: requests for it end with 595; the cache keeps its guests' last status."""
        self._do("set_node_online", NOTHING, node=node, online=online)

    def expire_status_cache(self) -> None:
        """Forget now what offline nodes last reported, instead of after the cache's time."""
        self._do("expire_status_cache", NOTHING)

    def set_quorum(self, *, quorate: bool) -> None:
        """Give or take the quorum. Without it reads are still 200; only `/cluster/status` shows it."""
        self._do("set_quorum", NOTHING, quorate=quorate)

    def set_version(self, version: str) -> None:
        """Set the answer of `/version`, for example 9.0.5."""
        self._do("set_version", NOTHING, version=version)

    # The token

    def set_token_rights(self, rights: Mapping[str, Sequence[str]]) -> None:
        """Set the token's grants by path. Without any grant the token is blind: `200 []`."""
        self._do("set_token_rights", NOTHING, rights=dict(rights))

    def set_user_rights(self, rights: Mapping[str, Sequence[str]] | None) -> None:
        """Set the grants of the token's user, which limit the token's. None: the user may do everything."""
        self._do("set_user_rights", NOTHING, rights=None if rights is None else dict(rights))

    def blind_token(self) -> None:
        """Take all rights from the token. It still logs in."""
        self._do("blind_token", NOTHING)

    def restore_token(self) -> None:
        """Make the token valid again, with the rights that the panel needs."""
        self._do("restore_token", NOTHING)

    def revoke_token(self) -> None:
        """Answer every request with 401, late and without a body."""
        self._do("revoke_token", NOTHING)

    def set_unauthorized_delay(self, seconds: float) -> None:
        """Set how long a 401 takes. A real node takes 3 s."""
        self._do("set_unauthorized_delay", NOTHING, seconds=seconds)

    # Faults

    def empty_list(self, *, empty: bool = True) -> None:
        """Let the bulk list answer `200 []`, although the token may see everything."""
        self._do("empty_list", NOTHING, empty=empty)

    def all_unknown(self, *, unknown: bool = True) -> None:
        """List every guest as `unknown`, without name and sizes."""
        self._do("all_unknown", NOTHING, unknown=unknown)

    def freeze_list(self, *, frozen: bool = True) -> None:
        """Let the bulk list keep showing this moment, as on a node without quorum."""
        self._do("freeze_list", NOTHING, frozen=frozen)

    def fail_node(self, node: str, status: int | None, *, after_s: float = 0.0) -> None:
        """End requests for the node with 595 or 596 and an empty body after `after_s`. None ends the fault."""
        self._do("fail_node", NOTHING, node=node, status=status, after_s=after_s)

    def forbid_config(self, vmid: int, *, forbidden: bool = True) -> None:
        """Answer requests for the guest's configuration with 403."""
        self._do("forbid_config", NOTHING, vmid=vmid, forbidden=forbidden)

    def fail_answers(
        self,
        path: str,
        *,
        status: int = 500,
        message: str = "internal error",
        in_body: bool = True,
        times: int | None = None,
    ) -> None:
        """Let requests below that path fail. `in_body=False` puts the text into the reason phrase only."""
        self._do("fail_answers", NOTHING, path=path, status=status, message=message, in_body=in_body, times=times)

    def truncate_answers(self, path: str, *, times: int | None = None) -> None:
        """Let answers below that path end in mid body, and close the connection."""
        self._do("truncate_answers", NOTHING, path=path, times=times)

    def slow_down(self, seconds: float) -> None:
        """Delay every answer by so many seconds."""
        self._do("slow_down", NOTHING, seconds=seconds)

    def set_endpoint_up(self, index: int, *, up: bool) -> None:
        """Let one of the cluster's addresses (from 0) reset every connection, or work again."""
        self._do("set_endpoint_up", NOTHING, index=index, up=up)

    def clear_faults(self) -> None:
        """End all faults: nodes are online, there is quorum, and the token has the panel's rights."""
        self._do("clear_faults", NOTHING)

    def list_requests(self) -> list[SeenRequest]:
        """The latest requests, oldest first, at most 10,000."""
        return self._do("list_requests", _REQUESTS)
