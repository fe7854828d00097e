"""A reverse proxy in front of fakepve that turns its answers into those of a real cluster, faults included.

fakepve is fast, open and never fails. A real cluster answers a bad token late and without a body, hides guests that the
token may not see, keeps the last values of nodes that went offline, compresses, and closes connections.
"""

import asyncio
import gzip
import json
import re
import time
import urllib.parse
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import aiohttp
import yarl
from aiohttp import web

from lab.simulators.keys import same_key
from lab.simulators.proxmox.cluster import FakeCluster, PlannedFault
from lab.simulators.proxmox.measurements import MEASUREMENTS_PATH, STEPS
from lab.simulators.proxmox.power import POWER_PATH, TASK_PATH, LateFailures
from lab.simulators.proxmox.resources import by_vmid_as_text, guest_entry
from lab.simulators.proxmox.rights import held_at
from lab.simulators.proxmox.verbs import ProxmoxVerbs, SeenRequest
from lab.simulators.verbs import CONTROL_HEADER, CONTROL_PREFIX, VerbRefusedError, carry_out, verb_names

API = "/api2/json"
VERBS = verb_names(ProxmoxVerbs)
COMPRESS_ABOVE = 1024
REQUESTS_PER_CONNECTION = 100
KEEP_ALIVE_S = 5.0
DELAY_STEP_S = 0.05
NODE_PATH = re.compile(r"^/nodes/(?P<node>[^/]+)/")
CONFIG_PATH = re.compile(r"^/nodes/[^/]+/(?:qemu|lxc)/(?P<vmid>\d+)/config$")
UNREACHABLE = {595: "No route to host", 596: "Connection timed out"}


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer before it is sent. `body` None: an empty body without a content type. `cut`: it ends in mid body."""

    status: int
    body: dict[str, Any] | None = None
    reason: str | None = None
    cut: bool = False


def refuse(status: int, message: str, *, in_body: bool = True) -> Reply:
    """An error in the API's form. The text is in the reason phrase and, since 2025, also in the body."""
    body: dict[str, Any] = {"data": None}
    if in_body:
        body["message"] = f"{message}\n"
    return Reply(status, body, message)


@dataclass(slots=True)
class ApiProxy:
    """Answers one cluster's API. `upstream`: fakepve's address. `endpoint_by_port`: the number of each endpoint."""

    cluster: FakeCluster
    session: aiohttp.ClientSession
    upstream: str
    control_key: str
    endpoint_by_port: dict[int, int] = field(default_factory=dict)
    _late: LateFailures = field(default_factory=LateFailures)
    _served: WeakKeyDictionary[asyncio.Transport, int] = field(default_factory=WeakKeyDictionary)

    def application(self) -> web.Application:
        """A new aiohttp application. Each address needs one."""
        app = web.Application(client_max_size=2**20)
        app.router.add_get(f"{CONTROL_PREFIX}/health", self._alive)
        app.router.add_post(f"{CONTROL_PREFIX}/{{verb}}", self._control)
        app.router.add_route("*", "/{path:.*}", self._serve)
        return app

    # Control ---------------------------------------------------------------------------------------------

    async def _alive(self, _request: web.Request) -> web.Response:
        return web.json_response({"status": "success"})

    async def _control(self, request: web.Request) -> web.Response:
        if not same_key(request.headers.get(CONTROL_HEADER), self.control_key):
            return _control_error(401, "Invalid or missing control key")
        try:
            arguments = await request.json()
            data = carry_out(self.cluster, VERBS, request.match_info["verb"], arguments)
        except VerbRefusedError as error:
            return _control_error(error.status, str(error))
        except (ValueError, TypeError):
            return _control_error(400, "The body is not a JSON object")
        return web.json_response({"status": "success", "data": data})

    # The API ---------------------------------------------------------------------------------------------

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        if self._is_down(request):
            _reset(request)
        path = request.path.removeprefix(API)
        reply = await self._answer(request, path)
        self.cluster.requests.append(SeenRequest(request.method, path, reply.status))
        return await self._send(request, reply)

    def _is_down(self, request: web.Request) -> bool:
        address = request.transport.get_extra_info("sockname") if request.transport else None
        return address is not None and self.endpoint_by_port.get(address[1]) in self.cluster.endpoints_down

    async def _answer(self, request: web.Request, path: str) -> Reply:
        cluster = self.cluster
        delayed_s = 0.0
        while delayed_s < cluster.extra_delay_s:  # in small steps, so that the fault's end also ends current waits
            step_s = min(DELAY_STEP_S, cluster.extra_delay_s - delayed_s)
            await asyncio.sleep(step_s)
            delayed_s += step_s
        if not request.path.startswith(f"{API}/"):
            return refuse(501, f"no such file '{request.path}'")
        if cluster.token_revoked or not same_key(
            request.headers.get("Authorization"), f"PVEAPIToken={cluster.token_id}={cluster.token_secret}"
        ):
            await asyncio.sleep(cluster.unauthorized_delay_s)
            return Reply(401, reason="permission denied - invalid API token")
        planned = cluster.take_planned(path)
        if planned is not None and planned.status is not None:
            return refuse(planned.status, planned.message, in_body=planned.in_body)
        reply = await self._unreachable(path) or await self._route(request, path)
        return _cut(reply, planned)

    async def _unreachable(self, path: str) -> Reply | None:
        on_node = NODE_PATH.match(path)
        if on_node is None:
            return None
        fault = self.cluster.node_faults.get(on_node["node"])
        if fault is not None:
            await asyncio.sleep(fault.after_s)
            return Reply(fault.status, reason=UNREACHABLE.get(fault.status))
        return Reply(595, reason=UNREACHABLE[595]) if self.cluster.is_offline(on_node["node"]) else None

    async def _route(self, request: web.Request, path: str) -> Reply:
        routes: dict[str, Callable[[web.Request], Awaitable[Reply]]] = {
            "/access/permissions": self._permissions,
            "/cluster/status": self._cluster_status,
            "/cluster/resources": self._resources,
        }
        if request.method == "GET":
            if path in routes:
                return await routes[path](request)
            config = CONFIG_PATH.match(path)
            if config is not None and int(config["vmid"]) in self.cluster.forbidden_configs:
                return refuse(403, f"Permission check failed (/vms/{config['vmid']}, VM.Audit)")
            measured = MEASUREMENTS_PATH.match(path)
            if measured is not None:
                return self._measurements(int(measured["vmid"]), request.query)
            task = TASK_PATH.match(path)
            if task is not None:
                return await self._task_status(request, task["upid"])
        power = POWER_PATH.match(path) if request.method == "POST" else None
        reply = await self._forward(request)
        if power is not None and reply.status == 500 and reply.body is not None:
            upid = self._late.accept(power, str(reply.body.get("message", "")), self.cluster.token_id, time.time())
            return reply if upid is None else Reply(200, {"data": upid})
        return reply

    async def _permissions(self, request: web.Request) -> Reply:
        rights, path = self.cluster.rights, request.query.get("path")
        asked = [path] if path else sorted(rights)
        # The value 1 means that the privilege also holds for the paths below.
        return Reply(200, {"data": {p: dict.fromkeys(sorted(held_at(rights, p)), 1) for p in asked}})

    async def _cluster_status(self, request: web.Request) -> Reply:
        if "Sys.Audit" not in held_at(self.cluster.rights, "/"):
            return refuse(403, "Permission check failed (/, Sys.Audit)")
        reply = await self._forward(request)
        if reply.body is None or not self.cluster.standalone:
            return reply
        return Reply(200, {"data": [entry for entry in reply.body["data"] if entry["type"] != "cluster"]})

    async def _resources(self, request: web.Request) -> Reply:
        cluster = self.cluster
        if cluster.list_is_empty:
            return Reply(200, {"data": []})
        if cluster.frozen_entries is not None and request.query.get("type") == "vm":
            visible = [
                entry
                for entry in cluster.frozen_entries
                if "VM.Audit" in held_at(cluster.rights, f"/vms/{entry['vmid']}")
            ]
            return Reply(200, {"data": by_vmid_as_text(visible)})
        reply = await self._forward(request)
        if reply.status != 200 or reply.body is None:
            return reply
        cache = cluster.status_cache()
        entries = [
            guest_entry(_raw(entry, cluster), cluster.qemu_status(entry["vmid"]), cache) if "vmid" in entry else entry
            for entry in reply.body["data"]
        ]
        return Reply(200, {"data": by_vmid_as_text(entries)})

    def _measurements(self, vmid: int, query: Mapping[str, str]) -> Reply:
        # fakepve measures nothing. A real node does not ask whether the guest exists: it opens the file of the VMID.
        if "VM.Audit" not in held_at(self.cluster.rights, f"/vms/{vmid}"):
            return refuse(403, f"Permission check failed (/vms/{vmid}, VM.Audit)")
        if query.get("timeframe") not in STEPS:
            return refuse(400, "Parameter verification failed.")
        found = self.cluster.measurements(vmid, query["timeframe"])
        if found is None:
            return refuse(
                500, f"RRD error: opening '/var/lib/rrdcached/db/pve-vm-9.0/{vmid}': No such file or directory"
            )
        return Reply(200, {"data": found})

    async def _task_status(self, request: web.Request, upid: str) -> Reply:
        task = self._late.status(urllib.parse.unquote(upid))
        if task is not None:
            return Reply(200, {"data": task})
        reply = await self._forward(request)
        if reply.status == 500 and "unable to parse worker upid" in str((reply.body or {}).get("message")):
            message = "Parameter verification failed."
            return Reply(400, {"data": None, "message": f"{message}\n", "errors": {"upid": "unknown"}}, message)
        return reply

    async def _forward(self, request: web.Request) -> Reply:
        headers = {name: request.headers[name] for name in ("Authorization", "Content-Type") if name in request.headers}
        url = yarl.URL(f"{self.upstream}{request.rel_url.raw_path_qs}", encoded=True)
        body = await request.read()
        async with self.session.request(request.method, url, headers=headers, data=body or None) as response:
            return Reply(response.status, json.loads(await response.read()), response.reason)

    # Sending ---------------------------------------------------------------------------------------------

    async def _send(self, request: web.Request, reply: Reply) -> web.StreamResponse:
        headers = {"Server": "pve-api-daemon/3.0", "Cache-Control": "max-age=0"}
        content = b""
        if reply.body is not None:
            content = json.dumps(reply.body, ensure_ascii=False, separators=(",", ":")).encode()
            headers["Content-Type"] = "application/json;charset=UTF-8"
        if len(content) > COMPRESS_ABOVE and "gzip" in request.headers.get("Accept-Encoding", ""):
            content = gzip.compress(content, compresslevel=1)
            headers["Content-Encoding"] = "gzip"
        if reply.cut:
            return await _send_half(request, reply.status, headers, content)
        reason = (reply.reason or "").splitlines()[0] if reply.reason else None
        response = web.Response(status=reply.status, reason=reason, headers=headers, body=content)
        if reply.status >= 400 or self._is_worn_out(request):
            response.force_close()
        return response

    def _is_worn_out(self, request: web.Request) -> bool:
        """Whether the connection has served so many requests that a real node would close it now."""
        connection = request.transport
        if connection is None:
            return True
        self._served[connection] = self._served.get(connection, 0) + 1
        return self._served[connection] >= REQUESTS_PER_CONNECTION


def _raw(entry: dict[str, Any], cluster: FakeCluster) -> dict[str, Any]:
    """The entry with the guest's real status. fakepve shows `unknown` on offline nodes, but here the cache decides."""
    guest = cluster.find_guest(entry["vmid"]) if entry["status"] == "unknown" else None
    return entry if guest is None else {**entry, "status": guest.status}


def _cut(reply: Reply, planned: PlannedFault | None) -> Reply:
    return reply if planned is None else Reply(reply.status, reply.body, reply.reason, cut=True)


async def _send_half(request: web.Request, status: int, headers: dict[str, str], content: bytes) -> web.StreamResponse:
    response = web.StreamResponse(status=status, headers=headers)
    response.content_length = len(content)
    await response.prepare(request)
    await response.write(content[: len(content) // 2])
    if request.transport is not None:
        request.transport.close()
    return response


def _reset(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()
    raise asyncio.CancelledError


def _control_error(status: int, message: str) -> web.Response:
    return web.json_response({"status": "error", "message": message}, status=status)
