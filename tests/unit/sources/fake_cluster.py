"""A cluster of two nodes behind ``httpx.MockTransport``; every answer can be replaced by path."""

from __future__ import annotations

from collections.abc import Callable

import httpx
from pydantic import SecretStr

from sources.config import ClusterConfig
from sources.proxmox.circuit_breaker import CircuitBreaker
from sources.proxmox.cluster import ClusterSource
from tests.unit.sources.canned import StillClock

SECRET = "token-canary-3b1e"
UUID = "8d3f1e64-0c5b-4e0c-9a77-3f4f5d2b1a00"
STATUS = [
    {"type": "cluster", "name": "c", "nodes": 2, "quorate": 1},
    {"type": "node", "name": "pve1", "online": 1},
    {"type": "node", "name": "pve2", "online": 1},
]
NO_QUORUM = [{**STATUS[0], "quorate": 0}, *STATUS[1:]]
PVE2_OFFLINE = [*STATUS[:2], {**STATUS[2], "online": 0}]

Answer = httpx.Response | Callable[[httpx.Request], httpx.Response]


def data(value: object) -> httpx.Response:
    return httpx.Response(200, json={"data": value}, headers={"Date": "Sun, 01 Mar 2026 12:00:00 GMT"})


def refusal(status: int, reason: str = "", *, message: str | None = None) -> httpx.Response:
    """As Proxmox refuses: the reason in the status line, in newer versions in the body too."""
    content = b"" if message is None else httpx.Response(200, json={"data": None, "message": message}).content
    headers = {} if message is None else {"Content-Type": "application/json;charset=UTF-8"}
    return httpx.Response(status, content=content, headers=headers, extensions={"reason_phrase": reason.encode()})


def missing(node: str = "pve1", vmid: int = 100) -> httpx.Response:
    return refusal(500, f"Configuration file 'nodes/{node}/qemu-server/{vmid}.conf' does not exist")


def guest(vmid: int = 100, node: str = "pve1", **fields: object) -> dict[str, object]:
    return {"id": f"qemu/{vmid}", "vmid": vmid, "node": node, "type": "qemu", "status": "running", **fields}


class FakeCluster(httpx.MockTransport):
    """Guest 100 is on pve1. ``answers`` maps a path below /api2/json, or "host path", to what is answered."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answers: dict[str, Answer] = {
            "/version": data({"version": "9.2.1", "release": "9.2"}),
            "/access/permissions /vms": data({"/vms": {"VM.Audit": 1, "VM.PowerMgmt": 1}}),
            "/cluster/status": data(STATUS),
            "/cluster/resources": data([guest()]),
            "/nodes/pve1/qemu": data([{"vmid": 100}]),
            "/nodes/pve2/qemu": data([]),
            "/nodes/pve1/qemu/100/config": data({"smbios1": f"uuid={UUID}", "memory": "2048"}),
        }
        super().__init__(self._answer)

    def without_guest(self) -> FakeCluster:
        """The guest is gone for good."""
        self.answers |= {
            "/cluster/resources": data([guest(101, "pve2")]),
            "/nodes/pve1/qemu": data([]),
            "/nodes/pve2/qemu": data([{"vmid": 101}]),
            "/nodes/pve1/qemu/100/config": missing(),
        }
        return self

    def but(self, path: str, answer: Answer) -> FakeCluster:
        self.answers[path] = answer
        return self

    def _answer(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path.removeprefix("/api2/json")
        if path == "/access/permissions":
            path += " " + request.url.params["path"]
        self.asked.append(path)
        chosen = self.answers.get(f"{request.url.host} {path}") or self.answers.get(path) or missing()
        answer = chosen(request) if callable(chosen) else chosen
        return httpx.Response(
            answer.status_code, headers=answer.headers, content=answer.content, extensions=answer.extensions
        )


def source_of(
    cluster: httpx.BaseTransport,
    *,
    breaker: CircuitBreaker | None = None,
    still: StillClock | None = None,
    urls: tuple[str, ...] = ("https://pve1.test:8006",),
    pools: tuple[str, ...] = (),
    first: str | None = None,
) -> ClusterSource:
    config = ClusterConfig("main", urls, "panel@pve!sync", SecretStr(SECRET), pools=pools)
    return ClusterSource(config, breaker, first=first, clock=(still or StillClock()).clock(), transport=cluster)
