"""One fake cluster. fakepve holds the guests. This class holds the faults, the rights and the status cache.

It needs no lock, because everything runs on the event loop that serves the cluster.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from fakepve import FakePve

from lab.simulators.proxmox.fleet import GuestFleet
from lab.simulators.proxmox.resources import Item, StatusCache, bulk_entry, guest_entry
from lab.simulators.proxmox.rights import PANEL_RIGHTS, Rights, effective
from lab.simulators.proxmox.verbs import SeenRequest

STATUS_CACHE_S = 300.0
UNAUTHORIZED_DELAY_S = 3.0
KEPT_REQUESTS = 10_000


@dataclass(slots=True)
class PlannedFault:
    """The next `times` answers (None: all) below `path` fail with `status`, or are cut if that is None."""

    path: str
    times: int | None
    status: int | None = None
    message: str = ""
    in_body: bool = True


@dataclass(frozen=True, slots=True)
class NodeFault:
    """The status with which requests for a node end, and after how many seconds."""

    status: int
    after_s: float


class FakeCluster(GuestFleet):
    """Implements `ProxmoxVerbs`. `monotonic` is the clock of the status cache."""

    def __init__(
        self,
        pve: FakePve,
        *,
        token_id: str,
        token_secret: str,
        nodes: Sequence[str],
        monotonic: Callable[[], float],
        unauthorized_delay_s: float = UNAUTHORIZED_DELAY_S,
        status_cache_s: float = STATUS_CACHE_S,
        standalone: bool = False,
    ) -> None:
        super().__init__(pve, nodes, monotonic)
        self.token_id = token_id
        self.token_secret = token_secret
        self.standalone = standalone
        self.unauthorized_delay_s = unauthorized_delay_s
        self._first_delay_s = unauthorized_delay_s
        self._status_cache_s = status_cache_s
        self._kept: dict[str, dict[int, str]] = {}
        self.requests: deque[SeenRequest] = deque(maxlen=KEPT_REQUESTS)
        pve.apitokens[token_id] = token_secret
        self._restore()

    def _restore(self) -> None:
        self.token_revoked = False
        self.list_is_empty = False
        self.all_silent = False
        self.frozen_entries: list[Item] | None = None
        self.node_faults: dict[str, NodeFault] = {}
        self.forbidden_configs: set[int] = set()
        self.planned: list[PlannedFault] = []
        self.extra_delay_s = 0.0
        self.endpoints_down: set[int] = set()
        self.unauthorized_delay_s = self._first_delay_s
        self._token_rights: Rights = PANEL_RIGHTS
        self._user_rights: Rights | None = None
        self._apply_rights()

    # The cluster -----------------------------------------------------------------------------------------

    def add_node(self, node: str) -> None:
        self.pve.add_node(node)

    def set_node_online(self, node: str, *, online: bool) -> None:
        self._require_node(node)
        self.pve.set_node_offline(node, offline=not online)
        if online:
            self._offline_since.pop(node, None)
            self._kept.pop(node, None)
        elif node not in self._offline_since:
            self._offline_since[node] = self._now()
            self._kept[node] = {
                vmid: self._describe(fake).status for vmid, fake in self._guests.items() if fake.node == node
            }

    def expire_status_cache(self) -> None:
        self._kept.clear()

    def set_quorum(self, *, quorate: bool) -> None:
        (self.pve.regain_quorum if quorate else self.pve.lose_quorum)()

    def set_version(self, version: str) -> None:
        self.pve.version = version
        self.pve.release_version = ".".join(version.split(".")[:2])

    # The token -------------------------------------------------------------------------------------------

    def set_token_rights(self, rights: Mapping[str, Sequence[str]]) -> None:
        self._token_rights = {path: tuple(privileges) for path, privileges in rights.items()}
        self._apply_rights()

    def set_user_rights(self, rights: Mapping[str, Sequence[str]] | None) -> None:
        self._user_rights = None if rights is None else {path: tuple(held) for path, held in rights.items()}
        self._apply_rights()

    def blind_token(self) -> None:
        self.set_token_rights({})

    def restore_token(self) -> None:
        self.token_revoked = False
        self._user_rights = None
        self.set_token_rights({path: tuple(held) for path, held in PANEL_RIGHTS.items()})

    def revoke_token(self) -> None:
        self.token_revoked = True

    def set_unauthorized_delay(self, seconds: float) -> None:
        self.unauthorized_delay_s = seconds

    # Faults ----------------------------------------------------------------------------------------------

    def empty_list(self, *, empty: bool = True) -> None:
        self.list_is_empty = empty

    def all_unknown(self, *, unknown: bool = True) -> None:
        self.all_silent = unknown

    def freeze_list(self, *, frozen: bool = True) -> None:
        cache = self.status_cache()
        self.frozen_entries = (
            [guest_entry(bulk_entry(guest), None, cache) for guest in self.list_guests()] if frozen else None
        )

    def fail_node(self, node: str, status: int | None, *, after_s: float = 0.0) -> None:
        self._require_node(node)
        if status is None:
            self.node_faults.pop(node, None)
        else:
            self.node_faults[node] = NodeFault(status, after_s)

    def forbid_config(self, vmid: int, *, forbidden: bool = True) -> None:
        (self.forbidden_configs.add if forbidden else self.forbidden_configs.discard)(vmid)

    def fail_answers(
        self,
        path: str,
        *,
        status: int = 500,
        message: str = "internal error",
        in_body: bool = True,
        times: int | None = None,
    ) -> None:
        self.planned.append(PlannedFault(path, times, status, message, in_body))

    def truncate_answers(self, path: str, *, times: int | None = None) -> None:
        self.planned.append(PlannedFault(path, times))

    def slow_down(self, seconds: float) -> None:
        self.extra_delay_s = seconds

    def set_endpoint_up(self, index: int, *, up: bool) -> None:
        (self.endpoints_down.discard if up else self.endpoints_down.add)(index)

    def clear_faults(self) -> None:
        for node in list(self._offline_since):
            self.set_node_online(node, online=True)
        self._silent.clear()
        self._former_until.clear()
        self.set_quorum(quorate=True)
        self._restore()

    def list_requests(self) -> list[SeenRequest]:
        return list(self.requests)

    # For the proxy ---------------------------------------------------------------------------------------

    @property
    def rights(self) -> dict[str, frozenset[str]]:
        """The token's rights, by path."""
        return effective(self._token_rights, self._user_rights)

    def is_offline(self, node: str) -> bool:
        """Whether the node was set offline."""
        return node in self._offline_since

    def status_cache(self) -> StatusCache:
        """The values that the bulk list shows at present instead of fresh reports."""
        now = self._now()
        kept: dict[int, str] = {}
        for node, last in self._kept.items():
            if now - self._offline_since[node] < self._status_cache_s:
                kept |= last
        gone = {vmid for vmid, fake in self._guests.items() if fake.node in self._offline_since}
        former = {vmid: self._former[vmid] for vmid, until in self._former_until.items() if now < until}
        return StatusCache(
            kept=kept, silent=self._silent | (gone - kept.keys()), former=former, all_silent=self.all_silent
        )

    def take_planned(self, path: str) -> PlannedFault | None:
        """The planned fault for this request. It is used up once."""
        for fault in self.planned:
            if path.startswith(fault.path):
                if fault.times is not None:
                    fault.times -= 1
                    if fault.times <= 0:
                        self.planned.remove(fault)
                return fault
        return None

    # Within -------------------------------------------------------------------------------------------

    def _apply_rights(self) -> None:
        self.pve.acl = {self.token_id: [(path, set(held)) for path, held in self.rights.items()]}
