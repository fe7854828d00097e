"""A Proxmox cluster inside this process: fakepve and the proxy run on one event loop in a thread of their own."""

import asyncio
import contextlib
import os
import secrets
import shutil
import ssl
import tempfile
import threading
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import aiohttp
from aiohttp import web
from fakepve import FakePve
from pydantic import TypeAdapter

from lab.simulators.proxmox.certificates import Certificates, make_certificates
from lab.simulators.proxmox.cluster import STATUS_CACHE_S, UNAUTHORIZED_DELAY_S, FakeCluster
from lab.simulators.proxmox.proxy import KEEP_ALIVE_S, ApiProxy
from lab.simulators.proxmox.verbs import ProxmoxVerbs

START_TIMEOUT_S = 60.0
LOOPBACK = "127.0.0.1"
TOKEN_ID = "panel@pve!sync"
T = TypeVar("T")


@contextlib.asynccontextmanager
async def serve_cluster(
    cluster: FakeCluster,
    certificates: Certificates,
    *,
    control_key: str,
    host: str = LOOPBACK,
    ports: Sequence[int] = (0,),
) -> AsyncIterator[list[int]]:
    """Serve the cluster on every port (0: a free one) until the block ends. Yields the ports in use."""
    async with contextlib.AsyncExitStack() as stack:
        await cluster.pve.start(str(certificates.cert_file), str(certificates.key_file))
        stack.push_async_callback(cluster.pve.stop)
        own_ca = ssl.create_default_context(cafile=str(certificates.ca_file))
        connector = aiohttp.TCPConnector(ssl=own_ca)
        session = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
        proxy = ApiProxy(cluster, session, cluster.pve.url, control_key)
        server_side = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        server_side.load_cert_chain(certificates.cert_file, certificates.key_file)
        in_use: list[int] = []
        for index, port in enumerate(ports):
            runner = web.AppRunner(
                proxy.application(), keepalive_timeout=KEEP_ALIVE_S, access_log=None, shutdown_timeout=0.2
            )
            await runner.setup()
            stack.push_async_callback(_hang_up, runner)
            await web.TCPSite(runner, host, port, ssl_context=server_side).start()
            in_use.append(runner.addresses[0][1])
            proxy.endpoint_by_port[in_use[-1]] = index
        yield in_use


async def _hang_up(runner: web.AppRunner) -> None:
    # An orderly TLS close would wait for peers that may have stopped listening long ago.
    for connection in runner.server.connections if runner.server else ():
        if connection.transport is not None:
            connection.transport.abort()
    await runner.cleanup()


async def _abandon(loop: asyncio.AbstractEventLoop) -> None:
    """Close connections that still wait for a hanging peer: aiohttp forgets them, but their sockets stay open."""
    for transport in list(getattr(loop, "_transports", {}).values()):
        transport.abort()
    for _ in range(2):  # a connection is lost in the loop's next round, and its socket closed there
        await asyncio.sleep(0)


def new_cluster(
    *,
    token_id: str,
    token_secret: str,
    nodes: Sequence[str],
    name: str,
    standalone: bool = False,
    unauthorized_delay_s: float = UNAUTHORIZED_DELAY_S,
    status_cache_s: float = STATUS_CACHE_S,
) -> FakeCluster:
    """A cluster without guests. fakepve's own login gets a random password that is not kept."""
    pve = FakePve(password=secrets.token_urlsafe(32), host=LOOPBACK, port=0)
    pve.cluster_name = name
    pve.time_scale = 0
    return FakeCluster(
        pve,
        token_id=token_id,
        token_secret=token_secret,
        nodes=nodes,
        monotonic=time.monotonic,
        unauthorized_delay_s=unauthorized_delay_s,
        status_cache_s=status_cache_s,
        standalone=standalone,
    )


class ProxmoxServer(ProxmoxVerbs):
    """Context manager: one cluster on free ports of the loopback, with its own CA and all verbs.

    `endpoints`: on how many addresses it answers. `settings()`: its entry for PROXMOX_CLUSTERS.
    """

    def __init__(
        self,
        *,
        name: str = "main",
        nodes: Sequence[str] = ("pve1", "pve2", "pve3"),
        endpoints: int = 1,
        standalone: bool = False,
        unauthorized_delay_s: float = UNAUTHORIZED_DELAY_S,
        status_cache_s: float = STATUS_CACHE_S,
        ports: Sequence[int] = (),
    ) -> None:
        self.name = name
        self.token_id = TOKEN_ID
        self.token_secret = str(uuid.uuid4())
        self.control_key = secrets.token_urlsafe(32)
        self.urls: list[str] = []
        self.cluster = new_cluster(
            token_id=self.token_id,
            token_secret=self.token_secret,
            nodes=nodes,
            name=name,
            standalone=standalone,
            unauthorized_delay_s=unauthorized_delay_s,
            status_cache_s=status_cache_s,
        )
        self._ports = tuple(ports) or (0,) * endpoints
        self._certificates: Certificates | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._up = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=f"proxmox-{name}", daemon=True)

    @property
    def url(self) -> str:
        """`https://127.0.0.1:port` of the first address, without /api2/json."""
        return self.urls[0]

    @property
    def ca_file(self) -> Path:
        """The file of the CA that signed the server's certificate. It exists until `stop`."""
        return self._certs().ca_file

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the server's certificate, "AA:BB:...", as Proxmox VE shows it."""
        return self._certs().fingerprint

    @property
    def authorization(self) -> str:
        """The Authorization header that the panel must send."""
        return f"PVEAPIToken={self.token_id}={self.token_secret}"

    def settings(self, *, pin_fingerprint: bool = False) -> dict[str, Any]:
        """The cluster's entry for PROXMOX_CLUSTERS. It names the CA file, or pins the fingerprint."""
        trust = {"fingerprint": self.fingerprint} if pin_fingerprint else {"ca_file": os.fspath(self.ca_file)}
        return {
            "name": self.name,
            "urls": list(self.urls),
            "token_id": self.token_id,
            "token_secret": self.token_secret,
            **trust,
        }

    def start(self) -> None:
        """Start the cluster. Return when it answers.

        Raises:
            RuntimeError: it did not start; the cause is chained.
        """
        directory = Path(tempfile.mkdtemp(prefix="panel-sync-proxmox-"))
        self._certificates = make_certificates(directory, self.name, (LOOPBACK, "localhost"), datetime.now(UTC))
        self._thread.start()
        if not self._up.wait(START_TIMEOUT_S) or self._failure is not None:
            raise RuntimeError(f"The Proxmox simulator {self.name} did not start") from self._failure

    def stop(self) -> None:
        """Stop the cluster and remove the certificates."""
        if self._loop is not None and self._stopping is not None:
            self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(START_TIMEOUT_S)
        shutil.rmtree(self._certs().ca_file.parent)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _certs(self) -> Certificates:
        if self._certificates is None:
            raise RuntimeError("The Proxmox simulator was not started")
        return self._certificates

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except Exception as error:  # noqa: BLE001 - handed to the thread that started this one
            self._failure = error
        finally:
            self._up.set()

    async def _main(self) -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        async with serve_cluster(self.cluster, self._certs(), control_key=self.control_key, ports=self._ports) as ports:
            self.urls = [f"https://{LOOPBACK}:{port}" for port in ports]
            self._up.set()
            await self._stopping.wait()
        await _abandon(self._loop)

    def _do(self, verb: str, _answer: TypeAdapter[T], /, **arguments: object) -> T:
        async def on_loop() -> T:
            done: T = getattr(self.cluster, verb)(**arguments)
            return done

        if self._loop is None:
            raise RuntimeError("The Proxmox simulator is not running")
        return asyncio.run_coroutine_threadsafe(on_loop(), self._loop).result(START_TIMEOUT_S)
