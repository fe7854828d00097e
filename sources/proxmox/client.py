"""A thin client for one Proxmox VE endpoint: one GET, its ``data``, or a typed fault."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from sources.clock import Clock
from sources.config import ClusterConfig
from sources.faults import Malformed, SourceFault, TlsRefused, Unreachable
from sources.http import Answer, JsonClient
from sources.outgoing.client import Transport
from sources.outgoing.sockets import Limits
from sources.outgoing.tls import trusting_authorities, trusting_certificate
from sources.proxmox.faults import (
    ConfigMissing,
    EndpointDown,
    Forbidden,
    NodeUnreachable,
    Transient,
    Unauthorized,
)

_CHECK_FAILED = re.compile(r"Permission check failed \(([^,()]{1,200}), ([\w.|, -]{1,200})\)")
# Proxmox answers 500 for nearly everything. Only these words say that the guest is not on that node.
_CONFIG_MISSING = re.compile(r"Configuration file '[^']{1,300}' does not exist")
_GATEWAY = frozenset({429, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class Reply:
    """``data`` of a 200, and the clock skew in seconds (endpoint minus this host) if it is known."""

    data: object = field(repr=False)
    skew_s: float | None


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
        )

    def get(self, path: str, params: Mapping[str, str] | None = None) -> Reply:
        """GET ``path``; raises a ``SourceFault`` of ``sources.proxmox.faults``, or ``Malformed`` and such."""
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
        return Reply(answer.document["data"], answer.skew_s)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()


def fault_of(answer: Answer, path: str) -> SourceFault:
    """The fault for a refusal. Old servers give the reason only in the status line."""
    text = _message(answer)
    if answer.status == 401:
        return Unauthorized("the token is refused (401)")
    if answer.status == 403:
        return _forbidden(text, path)
    if answer.status in (595, 596):
        return NodeUnreachable(f"GET {path}: the node cannot be reached ({answer.status})")
    if answer.status in _GATEWAY:
        return EndpointDown(f"GET {path} was answered {answer.status}")
    if answer.status == 500 and _CONFIG_MISSING.search(text):
        return ConfigMissing(f"GET {path}: there is no such configuration")
    return Transient(f"GET {path} was answered {answer.status}")


def _forbidden(text: str, path: str) -> Forbidden:
    checked = _CHECK_FAILED.search(text)
    if checked is None:
        return Forbidden(f"GET {path} is forbidden (403)")
    return Forbidden(f"the token lacks {checked[2]} on {checked[1]} (403)")


def _message(answer: Answer) -> str:
    told = answer.document.get("message") if isinstance(answer.document, dict) else None
    return f"{told} {answer.reason}" if isinstance(told, str) else answer.reason
