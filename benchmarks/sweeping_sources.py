"""A main site and clusters in a process of its own, which answer with bytes that were made before.

``python -m benchmarks.sweeping_sources MACHINES`` prints its port. It is as fast as a simple server can be, so that
what is measured is the reader.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import cast

import uvloop

from benchmarks.sweeping_fleet import A_CLUSTER, A_PAGE, NODES, clusters_of

_TARGET = re.compile(rb"GET (/[^ ]*) ")
_CURSOR = re.compile(rb"[?&]cursor=(\d+)")
_CLUSTER = re.compile(rb"/c(\d+)/api2/json/([a-z/]+)")
_JSON = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nDate: "


class Answers:
    """The bodies for so many machines."""

    def __init__(self, machines: int) -> None:
        self._orders = [_page(first, machines) for first in range(1, machines + 1, A_PAGE)]
        self._guests = [_guests(cluster, machines) for cluster in range(clusters_of(machines))]
        self._as_of, self._total = b"", machines

    def to(self, target: bytes) -> bytes:
        """The body for what was asked."""
        if (asked := _CLUSTER.match(target)) is not None:
            return self._guests[int(asked[1])] if asked[2] == b"cluster/resources" else _FIXED[asked[2]]
        cursor = _CURSOR.search(target)
        number = 0 if cursor is None else int(cursor[1])
        if number == 0:  # all pages of a sweep are of the moment at which its first one was asked for
            self._as_of = datetime.now(UTC).isoformat().encode()
        if b"updated_since" in target:
            return b'{"status":"success","data":[],"next_cursor":null,"total":0,"as_of":"' + self._as_of + b'"}'
        following = b'"%d"' % (number + 1) if number + 1 < len(self._orders) else b"null"
        head = b'{"status":"success","as_of":"%b","total":%d,"next_cursor":%b,"data":['
        return head % (self._as_of, self._total, following) + self._orders[number] + b"]}"


def _page(first: int, machines: int) -> bytes:
    return ",".join(_order(n) for n in range(first, min(first + A_PAGE, machines + 1))).encode()


def _order(n: int) -> str:
    return (
        f'{{"id":{n},"userId":"u{10 + n % 5000}","panelVpsId":{n},"status":"active","name":"web-{n}","cpu":2,'
        f'"ram":4096,"disk":50,"os":"Debian 13","hypervisor":"proxmox","ipAddress":"10.{n >> 16 & 255}.'
        f'{n >> 8 & 255}.{n & 255}","ip6Address":null,"cluster":"c{(n - 1) // A_CLUSTER}",'
        f'"node":"pve{n % NODES + 1}","proxmoxId":{100 + (n - 1) % A_CLUSTER},"guestType":"qemu",'
        f'"rootPassword":"hunter2-{n}","createdAt":"2025-03-01T10:00:00.000Z","updatedAt":"2025-03-02T10:00:00.000Z"}}'
    )


def _guests(cluster: int, machines: int) -> bytes:
    first = cluster * A_CLUSTER + 1
    return (
        '{"data":[' + ",".join(_guest(n) for n in range(first, min(first + A_CLUSTER, machines + 1))) + "]}"
    ).encode()


def _guest(n: int) -> str:
    vmid, node = 100 + (n - 1) % A_CLUSTER, f"pve{n % NODES + 1}"
    return (
        f'{{"id":"qemu/{vmid}","type":"qemu","vmid":{vmid},"node":"{node}","name":"web-{n}","status":"running",'
        f'"template":0,"maxcpu":2,"cpu":0.0123456789,"maxmem":4294967296,"mem":2147483648,"maxdisk":53687091200,'
        f'"disk":0,"diskread":123456789,"diskwrite":987654321,"netin":123456789,"netout":987654321,'
        f'"uptime":40000000,"tags":"web;paid"}}'
    )


_NODES = [{"type": "node", "name": f"pve{n}", "online": 1, "nodeid": n} for n in range(1, NODES + 1)]
_FIXED = {
    b"version": json.dumps({"data": {"version": "9.1.2", "release": "9.1"}}).encode(),
    b"access/permissions": json.dumps({"data": {"/vms": {"VM.Audit": 1, "Sys.Audit": 1}}}).encode(),
    b"cluster/status": json.dumps(
        {"data": [{"type": "cluster", "name": "c", "nodes": NODES, "quorate": 1, "version": 9}, *_NODES]}
    ).encode(),
}


class _Connection(asyncio.Protocol):
    def __init__(self, answers: Answers) -> None:
        self._answers, self._asked = answers, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own is no subclass

    def data_received(self, data: bytes) -> None:
        self._asked += data
        if not self._asked.endswith(b"\r\n\r\n"):
            return
        found = _TARGET.match(self._asked)
        self._asked = b""
        body = b"" if found is None else self._answers.to(found[1])
        date = format_datetime(datetime.now(UTC), usegmt=True).encode()
        self._transport.writelines([_JSON, date, b"\r\nContent-Length: %d\r\n\r\n" % len(body), body])


async def _serve(machines: int) -> None:
    answers = Answers(machines)
    server = await asyncio.get_running_loop().create_server(lambda: _Connection(answers), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1])))
