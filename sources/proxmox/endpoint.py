"""One Proxmox VE endpoint: its refusals as types, one GET and its ``data``, and the typed requests of one read.

Messages carry no token. A read goes through one ``Session``, so that it never mixes two nodes' views of the cluster.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import urlsplit

from domain.guests import GuestType
from domain.source_protocols import GuestConfig
from sources.clock import Clock
from sources.config import ClusterConfig
from sources.json_client import Answer, JsonClient, segment
from sources.outgoing.client import Transport
from sources.outgoing.faults import Malformed, SourceFault, TlsRefused, Unreachable
from sources.outgoing.sockets import Limits
from sources.outgoing.tls import trusting_authorities, trusting_certificate
from sources.proxmox.answers import (
    GRANT_GUESTS,
    GUEST_PRIVILEGE,
    Listed,
    Membership,
    guests_of,
    holds,
    membership_of,
    read_config,
    version_of,
    vmids_of,
)

_CHECK_FAILED = re.compile(r"Permission check failed \(([^,()\x00-\x1f\x7f]{1,200}), ([\w.|, -]{1,200})\)")
# Proxmox answers 500 for nearly everything. Only these words say that the guest is not on that node.
_CONFIG_MISSING = re.compile(r"Configuration file '[^']{1,300}' does not exist")
_GATEWAY = frozenset({429, 502, 503, 504})


class CircuitOpen(SourceFault):
    """The token was refused a short while ago. Nothing is asked until the pause is over."""


class Unauthorized(SourceFault):
    """401: the token is wrong, expired or removed. Each further try takes 3 s."""


class Forbidden(SourceFault):
    """403: the token lacks a privilege. The sentence names it if Proxmox did."""


class ConfigMissing(SourceFault):
    """The guest has no configuration on that node: it is gone or on another node."""


class NodeUnreachable(SourceFault):
    """595 or 596: the endpoint cannot reach the node in question."""


class EndpointDown(SourceFault):
    """This endpoint cannot be used. Another one of the cluster may work."""


class NoQuorum(SourceFault):
    """The answering node is not in the majority, so its answers may be out of date. Another endpoint may be in it."""


class Transient(SourceFault):
    """Any other refusal: an internal error, an unknown path, an unexpected status."""


@dataclass(frozen=True, slots=True)
class Reply:
    """``data`` of a 200, and if they are known: the clock skew in seconds (endpoint minus this host), and when the
    endpoint dated it."""

    data: object = field(repr=False)
    skew_s: float | None
    date: datetime | None


class Endpoint:
    """One address of a cluster."""

    def __init__(self, config: ClusterConfig, url: str, clock: Clock, transport: Transport | None = None) -> None:
        self.label = urlsplit(url).netloc
        pinned = config.fingerprint
        self._http = JsonClient(
            url,
            headers={"Authorization": f"PVEAPIToken={config.token_id}={config.token_secret.get_secret_value()}"},
            tls=trusting_authorities(config.ca_file) if pinned is None else trusting_certificate(pinned),
            limits=Limits(
                config.connect_timeout_s,
                config.read_timeout_s,
                config.answer_timeout_s,
                config.max_body_bytes,
            ),
            clock=clock,
            proxy=config.proxy,
            transport=transport,
            source=config.name,
        )

    def get(self, path: str, params: Mapping[str, str] | None = None) -> Reply:
        """GET ``path``. Raises one of the faults above, or one of ``sources.outgoing.faults``."""
        try:
            answer = self._http.get(path, params)
        except TlsRefused as fault:
            raise TlsRefused(f"{self.label}: {fault}") from fault
        except Unreachable as fault:
            raise EndpointDown(f"{self.label}: {fault}") from fault
        if answer.status != 200:
            raise fault_of(answer, path)
        if not answer.is_json or not isinstance(answer.document, dict) or "data" not in answer.document:
            raise Malformed(f"GET {path} was answered 200 without data")
        return Reply(answer.document["data"], answer.skew_s, answer.date)

    def post(self, path: str, form: Mapping[str, str]) -> Reply:
        """POST a form to ``path``, once. Raises ``Unreachable`` only if no connection was made, so that nothing was
        asked; any other fault as ``get`` does."""
        try:
            answer = self._http.post(path, form)
        except Unreachable as fault:
            raise Unreachable(f"{self.label}: {fault}") from fault
        if answer.status != 200:
            raise fault_of(answer, path, "POST")
        if not answer.is_json or not isinstance(answer.document, dict) or "data" not in answer.document:
            raise Malformed(f"POST {path} was answered 200 without data")
        return Reply(answer.document["data"], answer.skew_s, answer.date)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()


def fault_of(answer: Answer, path: str, method: str = "GET") -> SourceFault:
    """The fault for a refusal. Old servers give the reason only in the status line."""
    text = _message(answer)
    if answer.status == 401:
        return Unauthorized("the token is refused (401)")
    if answer.status == 403:
        return _forbidden(text, f"{method} {path}")
    if answer.status in (595, 596):
        return NodeUnreachable(f"{method} {path}: the node cannot be reached ({answer.status})")
    if answer.status in _GATEWAY:
        return EndpointDown(f"{method} {path} was answered {answer.status}")
    if answer.status == 500 and _CONFIG_MISSING.search(text):
        return ConfigMissing(f"{method} {path}: there is no such configuration")
    said = "" if method == "GET" else f": {said_by(text)}"  # an operator should know why it was not done
    return Transient(f"{method} {path} was answered {answer.status}{said}")


def _forbidden(text: str, request: str) -> Forbidden:
    checked = _CHECK_FAILED.search(text)
    if checked is None:
        return Forbidden(f"{request} is forbidden (403)")
    return Forbidden(f"the token lacks {checked[2]} on {checked[1]} (403)")


def said_by(text: str) -> str:
    """Proxmox's own words on one line, cut."""
    return re.sub(r"[^ -~]+", " ", text).strip()[:200]


def _message(answer: Answer) -> str:
    message = answer.document.get("message") if isinstance(answer.document, dict) else None
    return f"{message} {answer.reason}" if isinstance(message, str) else answer.reason


@dataclass(frozen=True, slots=True)
class View:
    """What the token sees. ``missing``: a sentence with the remedy for each thing that it should see and does not."""

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

    def status(self, node: str, guest_type: GuestType, vmid: int) -> dict[str, object]:
        """A guest's ``status/current``: how it runs now, past the cluster's cache."""
        path = f"/nodes/{segment(node)}/{guest_type}/{vmid}/status/current"
        data = self._endpoint.get(path).data
        if not isinstance(data, dict):
            raise Malformed(f"{path} is not a status")
        return data

    def measurements(
        self, node: str, guest_type: GuestType, vmid: int, timeframe: str
    ) -> tuple[list[object], datetime]:
        """What was measured under a VMID, whichever guest had it (``rrddata``), and when the endpoint dated it."""
        path = f"/nodes/{segment(node)}/{guest_type}/{vmid}/rrddata"
        reply = self._endpoint.get(path, {"timeframe": timeframe, "cf": "AVERAGE"})
        if not isinstance(reply.data, list) or reply.date is None:
            raise Malformed(f"{path} is not a list of points, or has no date")
        return reply.data, reply.date

    def tasks(self, node: str, vmid: int, limit: int) -> list[object]:
        """The latest tasks of a node for a VMID, those that run among them, as far as the token may see them."""
        path = f"/nodes/{segment(node)}/tasks"
        params = {"vmid": str(vmid), "source": "all", "limit": str(limit)}
        data = self._endpoint.get(path, params).data
        if not isinstance(data, list):
            raise Malformed(f"{path} is not a list of tasks")
        return data

    def task_status(self, node: str, upid: str) -> dict[str, object]:
        """The status of one task."""
        path = f"/nodes/{segment(node)}/tasks/{segment(upid)}/status"
        data = self._endpoint.get(path).data
        if not isinstance(data, dict):
            raise Malformed(f"/nodes/{node}/tasks is not the status of a task")
        return data

    def post(self, path: str, form: Mapping[str, str]) -> object:
        """POST a form once, and return its ``data``."""
        return self._endpoint.post(path, form).data
