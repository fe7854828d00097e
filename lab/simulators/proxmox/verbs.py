"""What a test or the demo can do to a Proxmox cluster; see `FakeCluster` for how it is done."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import TypeAdapter

from lab.simulators.proxmox.guests import Guest, GuestType
from lab.simulators.verbs import NOTHING, Verbs

__all__ = ["Guest", "GuestType", "ProxmoxVerbs", "SeenRequest"]


@dataclass(frozen=True, slots=True)
class SeenRequest:
    """A request that arrived: `path` is below `/api2/json`, without the query."""

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
        """A new guest on the lowest free VMID, on the named node or the first one that is online."""
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
        reported_after_s: float = 0.0,
    ) -> Guest:
        """A guest with this VMID; uuid and mac are made up unless given; an empty mac is no network card.

        `reported_after_s`: for so long the bulk list shows the name, status and sizes of the guest that had
        this VMID before, as a real cluster does until the node reports.
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
        """Change the configuration without a call to the panel; None leaves a key as it is."""
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
        """The guest as it really is, whatever the lists show."""
        return self._do("find_guest", _MAYBE_GUEST, vmid=vmid)

    def list_guests(self) -> list[Guest]:
        """All guests as they really are, by VMID."""
        return self._do("list_guests", _GUESTS)

    def set_status(self, vmid: int, status: str) -> Guest:
        """running, stopped, or QEMU's paused, prelaunch, io-error, ...; unknown: its node reports nothing."""
        return self._do("set_status", _GUEST, vmid=vmid, status=status)

    def set_uptime(self, vmid: int, seconds: float) -> None:
        """A running guest was started that long ago."""
        self._do("set_uptime", NOTHING, vmid=vmid, seconds=seconds)

    def set_lock(self, vmid: int, lock: str | None) -> Guest:
        """backup, migrate, snapshot, suspended, ...; None unlocks."""
        return self._do("set_lock", _GUEST, vmid=vmid, lock=lock)

    def remove_guest(self, vmid: int) -> None:
        """Destroy the guest."""
        self._do("remove_guest", NOTHING, vmid=vmid)

    def migrate(self, vmid: int, node: str) -> Guest:
        """The guest is on another node from now on."""
        return self._do("migrate", _GUEST, vmid=vmid, node=node)

    # The cluster

    def add_node(self, node: str) -> None:
        """One more node, online."""
        self._do("add_node", NOTHING, node=node)

    def set_node_online(self, node: str, *, online: bool) -> None:
        """Off: requests for it are 595, its guests keep their last status for the cache's time."""
        self._do("set_node_online", NOTHING, node=node, online=online)

    def expire_status_cache(self) -> None:
        """What offline nodes last reported is forgotten now instead of after the cache's time."""
        self._do("expire_status_cache", NOTHING)

    def set_quorum(self, *, quorate: bool) -> None:
        """Reads stay 200 without quorum; only `/cluster/status` tells."""
        self._do("set_quorum", NOTHING, quorate=quorate)

    def set_version(self, version: str) -> None:
        """What `/version` says, for example 9.0.5."""
        self._do("set_version", NOTHING, version=version)

    # The token

    def set_token_rights(self, rights: Mapping[str, Sequence[str]]) -> None:
        """Grants of the token by path; none at all makes it blind: `200 []`."""
        self._do("set_token_rights", NOTHING, rights=dict(rights))

    def set_user_rights(self, rights: Mapping[str, Sequence[str]] | None) -> None:
        """Grants of the token's user, which cap the token's; None: everything."""
        self._do("set_user_rights", NOTHING, rights=None if rights is None else dict(rights))

    def blind_token(self) -> None:
        """The token keeps its login and loses every right."""
        self._do("blind_token", NOTHING)

    def restore_token(self) -> None:
        """The token is valid and has the panel's rights again."""
        self._do("restore_token", NOTHING)

    def revoke_token(self) -> None:
        """Every request is 401, late and empty."""
        self._do("revoke_token", NOTHING)

    def set_unauthorized_delay(self, seconds: float) -> None:
        """How long a 401 takes; 3 s in reality."""
        self._do("set_unauthorized_delay", NOTHING, seconds=seconds)

    # Faults

    def empty_list(self, *, empty: bool = True) -> None:
        """`200 []` from the bulk list, although the token may see everything."""
        self._do("empty_list", NOTHING, empty=empty)

    def all_unknown(self, *, unknown: bool = True) -> None:
        """Every guest is `unknown`, without name and sizes."""
        self._do("all_unknown", NOTHING, unknown=unknown)

    def freeze_list(self, *, frozen: bool = True) -> None:
        """The bulk list keeps showing this moment, as a minority node's does."""
        self._do("freeze_list", NOTHING, frozen=frozen)

    def fail_node(self, node: str, status: int | None, *, after_s: float = 0.0) -> None:
        """Requests for the node end with 595 or 596 and an empty body after `after_s`; None: no longer."""
        self._do("fail_node", NOTHING, node=node, status=status, after_s=after_s)

    def forbid_config(self, vmid: int, *, forbidden: bool = True) -> None:
        """The guest's configuration is 403."""
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
        """Requests below that path fail; `in_body=False` puts the text into the reason phrase alone."""
        self._do("fail_answers", NOTHING, path=path, status=status, message=message, in_body=in_body, times=times)

    def truncate_answers(self, path: str, *, times: int | None = None) -> None:
        """Answers below that path end in mid body and the connection closes."""
        self._do("truncate_answers", NOTHING, path=path, times=times)

    def slow_down(self, seconds: float) -> None:
        """Every answer takes that much longer."""
        self._do("slow_down", NOTHING, seconds=seconds)

    def set_endpoint_up(self, index: int, *, up: bool) -> None:
        """One of the cluster's addresses resets every connection, or works again; counted from 0."""
        self._do("set_endpoint_up", NOTHING, index=index, up=up)

    def clear_faults(self) -> None:
        """Remove everything that goes wrong: nodes online, quorum, the panel's rights, no faults."""
        self._do("clear_faults", NOTHING)

    def list_requests(self) -> list[SeenRequest]:
        """The latest requests, oldest first, at most 10,000."""
        return self._do("list_requests", _REQUESTS)
