"""What a server may cost the panel: bytes and time, each with a real server on loopback that asks for more."""

from __future__ import annotations

import contextlib
import gzip
import socket
import ssl
import threading
import tracemalloc
import zlib
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import cache

import pytest

from lab.simulators.proxmox.certificates import Certificates, make_certificates
from sources.outgoing.client import Client
from sources.outgoing.faults import Malformed, SourceFault, TimedOut, Unreachable
from sources.outgoing.sockets import Limits
from sources.outgoing.tls import trusting_authorities
from tests.integration.sources.raw_server import RawServer, Send, http
from tests.support.waiting import PATIENCE_S

LIMIT = 1024 * 1024
TLS = ssl.create_default_context()


def bounded(*, connect_s: float = PATIENCE_S, read_s: float = PATIENCE_S, answer_s: float = PATIENCE_S) -> Limits:
    """Bounds of which a test shortens the one that it is about."""
    return Limits(connect_s=connect_s, read_s=read_s, answer_s=answer_s, body_bytes=LIMIT)


def client(server: RawServer, *, answer_s: float = PATIENCE_S) -> Client:
    return Client(f"http://{server.authority}", tls=TLS, limits=bounded(answer_s=answer_s))


@cache
def bomb(layers: int, size: int = 30 * LIMIT) -> bytes:
    squeezed = zlib.compressobj(wbits=31)
    body = b"".join(squeezed.compress(b" " * LIMIT) for _ in range(size // LIMIT)) + squeezed.flush()
    for _ in range(layers - 1):
        body = gzip.compress(body)
    return body


def coded(body: bytes, *codings: str) -> bytes:
    return http(body, extra="".join(f"Content-Encoding: {coding}\r\n" for coding in codings))


def endless(piece: bytes, head: bytes = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n") -> Send:
    """Send without end, as fast as it is taken."""

    def send(connection: socket.socket, over: threading.Event) -> None:
        connection.sendall(head)
        while not over.is_set():
            connection.sendall(piece)

    return send


GZIPPED = coded(b"", "gzip").replace(b"Content-Length: 0", b"X: y")
"""The head of a body that ends with its connection."""

OTHER_CODING = "compressed in a way that was not asked for"
TOO_LARGE: dict[str, tuple[bytes | Send, str]] = {
    "one layer": (coded(bomb(1), "gzip"), f"larger than {LIMIT} bytes"),
    "two layers": (coded(bomb(2), "gzip, gzip"), OTHER_CODING),
    "two layers in two lines": (coded(bomb(2), "gzip", "gzip"), OTHER_CODING),
    "three layers": (coded(bomb(3), "gzip,gzip , gzip"), OTHER_CODING),
    "two layers behind identity": (coded(bomb(2), "identity, gzip, gzip"), OTHER_CODING),
    "deflate": (coded(zlib.compress(b" " * 30 * LIMIT), "deflate"), OTHER_CODING),
    "members without end": (endless(gzip.compress(b" " * 300_000), GZIPPED), "larger"),
    "empty members without end": (endless(gzip.compress(b"") * 100, GZIPPED), "compression is broken"),
    "a body without end": (endless(b" " * 65536), "larger"),
    "one header": (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 64 * LIMIT, "ended before"),
    "headers": (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 4 * LIMIT, "ended before"),
    "interim answers": (endless(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n", b""), "head is larger"),
    "one-byte chunks": (
        endless(b"1;" + b"x" * 5000 + b"\r\n0\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        "larger",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TOO_LARGE)
def test_what_is_too_large_is_a_fault_and_costs_little(name: str) -> None:
    wire, sentence = TOO_LARGE[name]
    with RawServer(wire) as server:
        tracemalloc.start()
        try:
            with pytest.raises(SourceFault, match=sentence):
                client(server).exchange("GET")
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak < 8 * LIMIT


@pytest.mark.parametrize(
    ("wire", "body"),
    [
        pytest.param(coded(gzip.compress(b"[1]"), "gzip"), b"[1]", id="gzip"),
        pytest.param(coded(gzip.compress(b"[1]"), "X-GZip"), b"[1]", id="its old name"),
        pytest.param(coded(gzip.compress(b"[") + gzip.compress(b"1]"), "gzip"), b"[1]", id="two members"),
        pytest.param(coded(b"[1]", "identity"), b"[1]", id="identity"),
        pytest.param(coded(b"[1]"), b"[1]", id="nothing said"),
        pytest.param(coded(gzip.compress(b" " * LIMIT), "gzip"), b" " * LIMIT, id="as large as it may be"),
        pytest.param(coded(b"", "identity"), b"", id="empty"),
    ],
)
def test_one_layer_of_gzip_is_read(wire: bytes, body: bytes) -> None:
    with RawServer(wire) as server:
        assert client(server).exchange("GET").body == body


@pytest.mark.parametrize(
    "body",
    [gzip.compress(b"[1]")[:-5], gzip.compress(b"[1]")[:8], b"[1]", gzip.compress(b"[1]") + b"[2]"],
    ids=["cut", "cut in its head", "not compressed", "rubbish behind it"],
)
def test_broken_compression_is_a_fault(body: bytes) -> None:
    with RawServer(coded(body, "gzip")) as server, pytest.raises(Malformed, match="compression is broken"):
        client(server).exchange("GET")


@pytest.mark.parametrize(
    "wire",
    [
        http(b"<html>", status="401 No", extra="Content-Encoding: br\r\n"),
        http(bomb(2), status="401 No", extra="Content-Encoding: gzip, gzip\r\n"),
        http(b"", status="401 No", length=9),
        endless(b" " * 65536, b"HTTP/1.1 401 No\r\n\r\n"),
    ],
    ids=["another coding", "a bomb", "cut", "without end"],
)
def test_a_refusal_is_told_by_its_status_whatever_its_body(wire: bytes | Send) -> None:
    with RawServer(wire) as server:
        answer = client(server).exchange("GET")
    assert (answer.status, answer.body) == (401, b"")


@pytest.mark.parametrize("wire", [endless(b" " * 65536), coded(bomb(2), "gzip, gzip")], ids=["endless", "a bomb"])
def test_where_only_the_status_counts_nothing_else_is_read(wire: bytes | Send) -> None:
    with RawServer(wire) as server:
        answer = client(server).exchange("POST", content=b"{}", status_only=True)
    assert (answer.status, answer.body) == (200, b"")


class Dripping:
    """Sends its pieces, then one more piece again and again; ``gave_up`` if nobody hung up before the test's end."""

    def __init__(self, first: bytes, again: bytes) -> None:
        self._first, self._again = first, again
        self.hung_up = threading.Event()

    def __call__(self, connection: socket.socket, over: threading.Event) -> None:
        with contextlib.suppress(OSError):
            connection.sendall(self._first)
            while not over.wait(0.02):
                connection.sendall(self._again)
        if not over.is_set():
            self.hung_up.set()


DRIPS: dict[str, tuple[bytes, bytes]] = {
    "a header": (b"HTTP/1.1 200 OK\r\nX: ", b"y"),
    "a status line": (b"HTTP/1.1 200 ", b"O"),
    "interim answers": (b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"),
    "a body": (http(b"[", length=100_000), b"0"),
    "chunks": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n0\r\n"),
    "a chunk's head": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", b"x"),
    "trailers": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: ", b"y"),
    "a gzip body": (GZIPPED + gzip.compress(b"")[:10], b"\x00\x00\x00\xff\xff"),
}  # fmt: skip


@pytest.mark.parametrize("name", DRIPS)
def test_the_deadline_covers_every_part_of_an_answer(name: str) -> None:
    drip = Dripping(*DRIPS[name])
    with RawServer(drip) as server:
        with pytest.raises(TimedOut, match="longer than 1 s"):
            client(server, answer_s=1.0).exchange("GET")
        assert drip.hung_up.wait(PATIENCE_S), "the client did not hang up"


def test_the_deadline_is_each_exchange_s_own() -> None:
    """A connection that is kept serves the next request with time of its own."""
    whole = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]"

    def twice(connection: socket.socket, over: threading.Event) -> None:
        connection.sendall(whole)
        connection.recv(65536)
        Dripping(b"HTTP/1.1 200 OK\r\n", b"X")(connection, over)

    with RawServer(twice) as server:
        asking = client(server)
        assert asking.exchange("GET").body == b"[]"
        asking._limits = bounded(answer_s=1.0)
        with pytest.raises(TimedOut, match="longer than 1 s"):
            asking.exchange("GET")
        assert server.connections == 1


def test_what_was_given_up_is_not_delivered_later() -> None:
    """A connection that is closed in the usual way delivers what was written before; a reset one does not."""

    def end_of_connection(listener: socket.socket) -> type[OSError] | None:
        """How the one connection ends that is read and never answered: by an error, or in the usual way."""
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(PATIENCE_S)
            try:
                while connection.recv(65536):
                    pass
            except OSError as error:
                return type(error)
        return None

    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as pool:
        end = pool.submit(end_of_connection, listener)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(TimedOut):
            Client(url, tls=TLS, limits=bounded(read_s=0.2)).exchange("POST")
        assert end.result(PATIENCE_S) is ConnectionResetError


def test_silence_in_the_handshake_is_covered() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    with listener:
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        asking = Client(url, tls=TLS, limits=bounded(connect_s=0.5))
        with pytest.raises(Unreachable, match=r"no connection within 0\.5 s"):
            asking.exchange("GET")


def test_a_name_that_nobody_looks_up_is_covered(monkeypatch: pytest.MonkeyPatch) -> None:
    hanging = threading.Event()

    def never(*_: object, **__: object) -> list[object]:
        hanging.wait(60)
        raise OSError

    monkeypatch.setattr(socket, "getaddrinfo", never)
    try:
        with pytest.raises(Unreachable, match="not looked up in time"):
            Client("http://site.test", tls=TLS, limits=bounded(connect_s=0.5)).exchange("GET")
    finally:
        hanging.set()


def test_every_address_of_a_name_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    with RawServer(http(b"[]")) as server:
        port = int(server.authority.rpartition(":")[2])
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port)) for host in ("127.0.0.3", "127.0.0.1")]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        assert Client(f"http://site.test:{port}", tls=TLS, limits=bounded()).exchange("GET").body == b"[]"


PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls"), "raw", ("127.0.0.1", "site.test"), datetime.now(UTC))


@pytest.fixture
def server_tls(certificates: Certificates) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates.cert_file, certificates.key_file)
    return context


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_no_proxy_is_taken_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, certificates: Certificates, server_tls: ssl.SSLContext, scheme: str
) -> None:
    with (
        RawServer(http(b"[2]")) as trap,
        RawServer(http(b"[1]"), tls=server_tls if scheme == "https" else None) as server,
    ):
        for name in PROXIES:
            monkeypatch.setenv(name, f"http://{trap.authority}")
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        trusted = trusting_authorities(certificates.ca_file)
        asking = Client(f"{scheme}://{server.authority}", tls=trusted, limits=bounded())
        assert asking.exchange("GET").body == b"[1]"
        assert trap.connections == 0


class Tunnel:
    """A proxy that connects every ``CONNECT`` to one server, wherever it was to lead."""

    def __init__(self, port: int) -> None:
        self._port = port

    def __call__(self, connection: socket.socket, _over: threading.Event) -> None:
        with socket.create_connection(("127.0.0.1", self._port)) as further:
            connection.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
            back = threading.Thread(target=self._pass_on, args=(further, connection))
            back.start()
            self._pass_on(connection, further)
            back.join()

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)


def test_a_proxy_by_setting_is_used_and_sees_no_secret(certificates: Certificates, server_tls: ssl.SSLContext) -> None:
    with RawServer(http(b"[1]"), tls=server_tls) as server:
        with RawServer(Tunnel(int(server.authority.rpartition(":")[2]))) as proxy:
            asking = Client(
                "https://site.test",
                tls=trusting_authorities(certificates.ca_file),
                limits=bounded(),
                headers={"X-API-Key": "key-canary"},
                proxy=f"http://user:p%40ss@{proxy.authority}",
            )
            assert asking.exchange("GET", "/x").body == b"[1]"
            asking.close()
            (head,) = proxy.heads
        assert head.startswith("CONNECT site.test:443 HTTP/1.1\r\n")
        assert "Proxy-Authorization: Basic dXNlcjpwQHNz\r\n" in head
        assert "key-canary" not in head
        assert "X-API-Key: key-canary" in server.heads[0]


@pytest.mark.parametrize(
    ("wire", "fault", "sentence"),
    [
        (
            http(status="407 No\x1b[2J"),
            Unreachable,
            r"the proxy makes no connection \(407\)",
        ),
        (b"220 smtp.test ESMTP\r\n", SourceFault, "ended before"),
        (Dripping(b"HTTP/1.1 200 ", b"O"), TimedOut, "longer than 1 s"),
        (Dripping(b"", b"HTTP/1.1 103 E\r\n\r\n"), TimedOut, "longer than 1 s"),
    ],
    ids=["refuses", "is none", "drips", "sends interim answers"],
)
def test_a_proxy_s_fault_is_a_fault(wire: bytes | Send, fault: type[SourceFault], sentence: str) -> None:
    with RawServer(wire) as proxy:
        limits = bounded(answer_s=1.0 if fault is TimedOut else PATIENCE_S)
        with pytest.raises(fault, match=sentence):
            Client("https://site.test", tls=TLS, limits=limits, proxy=f"http://{proxy.authority}").exchange("GET")


@pytest.mark.parametrize(
    "address", ["socks5://127.0.0.1:1", "https://127.0.0.1:1", "http://:80", "javascript:1", "http://x:99999", ""]
)
def test_what_is_no_proxy_is_told_at_once(address: str) -> None:
    limits = Limits(connect_s=1, read_s=1, answer_s=1, body_bytes=LIMIT)
    with pytest.raises(ValueError, match="proxy"):
        Client("https://site.test", tls=TLS, limits=limits, proxy=address)


def test_connections_of_a_forgotten_client_are_closed() -> None:
    waiting = threading.Event()

    def wait_for_the_end(connection: socket.socket, over: threading.Event) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]")
        with contextlib.suppress(ConnectionResetError):
            assert connection.recv(1) == b""
        waiting.set()

    with RawServer(wait_for_the_end) as server:
        client(server).exchange("GET")
        assert waiting.wait(PATIENCE_S)
