"""What only a real socket can show: truncation, silence, dripping, odd status lines, compression."""

from __future__ import annotations

import gzip
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import SecretStr

from domain.guests import GuestType
from domain.orders import Order
from domain.source_protocols import Gone, Sweep, Unclear
from lab.simulators.proxmox.certificates import Certificates, make_certificates
from sources.config import ClusterConfig, MainSiteConfig
from sources.main_site import OrdersFeed
from sources.proxmox.cluster import ClusterSource
from tests.integration.sources.raw_server import RawServer, Send, http

PAGE = json.dumps(
    {"status": "success", "data": [], "next_cursor": None, "total": 0, "as_of": "2026-03-01T11:59:59Z"}
).encode()
SECRET = "token-canary-77c0"


def read(*sends: bytes | Send, **changes: object) -> tuple[Sweep[Order], RawServer]:
    with RawServer(*sends) as server:
        given: dict[str, object] = {
            "base_url": f"http://{server.authority}",
            "api_key": SecretStr("key"),
            "attempts": 1,
            "read_timeout_s": 60.0,
            "answer_timeout_s": 60.0,
            **changes,
        }
        feed = OrdersFeed(MainSiteConfig(**given))  # type: ignore[arg-type]
        sweep = feed.orders()
        for _ in sweep.pages:
            pass
        feed.close()
        return sweep, server


def stay_silent(_: socket.socket, over: threading.Event) -> None:
    over.wait(120)


def drip(connection: socket.socket, over: threading.Event) -> None:
    connection.sendall(http(b"[", length=10_000))
    while not over.wait(0.05):
        connection.sendall(b"0")


def drip_head(connection: socket.socket, over: threading.Event) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
    while not over.wait(0.05):
        connection.sendall(b"y")


def drip_hints(connection: socket.socket, over: threading.Event) -> None:
    while not over.wait(0.05):
        connection.sendall(b"HTTP/1.1 103 Early Hints\r\n\r\n")


def chunked(*chunks: bytes, end: bool) -> bytes:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + (b"0\r\n\r\n" if end else b"")


def test_a_whole_answer_is_read() -> None:
    for wire in (
        http(PAGE),
        http(gzip.compress(PAGE), extra="Content-Encoding: gzip\r\n"),
        http(b"\xef\xbb\xbf" + PAGE, content_type="application/json; charset=utf-8"),
    ):
        sweep, server = read(wire)
        assert sweep.problem is None
        assert sweep.complete
        assert "accept-encoding: gzip\r\n" in server.heads[0].lower()
    sweep, _ = read(chunked(PAGE[:9], PAGE[9:], end=True))
    assert sweep.problem is not None
    assert "Date is missing" in sweep.problem


CUT = "page 1 of orders: the connection ended before the whole answer had arrived"
BROKEN: dict[str, tuple[bytes | Send, str]] = {
    "body shorter than its length": (http(PAGE, length=len(PAGE) + 1), CUT),
    "a whole document, but shorter than its length": (http(PAGE + b" ", length=len(PAGE) + 9), CUT),
    "chunks without an end": (chunked(PAGE, end=False), CUT),
    "a cut chunk": (chunked(PAGE, end=False)[:-9], CUT),
    "no answer at all": (b"", CUT),
    "a cut head": (b"HTTP/1.1 200 OK\r\nContent-Ty", CUT),
    "not HTTP": (b"220 smtp.test ESMTP\r\n", CUT),
    "silence": (stay_silent, "page 1 of orders: no answer within 0.5 s"),
    "dripping": (drip, "page 1 of orders: the answer took longer than 1 s"),
    "broken compression": (http(b"no gzip", extra="Content-Encoding: gzip\r\n"), "compression is broken"),
    "cut compression": (http(gzip.compress(PAGE)[:-20], extra="Content-Encoding: gzip\r\n"), "compression is broken"),
    "a bomb": (http(gzip.compress(b" " * 3_000_000), extra="Content-Encoding: gzip\r\n"), "larger than 100000 bytes"),
    "two layers of compression": (
        http(gzip.compress(gzip.compress(PAGE)), extra="Content-Encoding: gzip, gzip\r\n"),
        "compressed in a way that was not asked for",
    ),
    "a redirect to nonsense": (http(status="302 Found", extra="Location: javascript:1\r\n"), "answered 302"),
    "a redirect to a port that is none": (http(status="302 Found", extra="Location: http://x:y/\r\n"), "answered 302"),
    "a head that drips": (drip_head, "the answer took longer than 1 s"),
    "interim answers without end": (drip_hints, "the answer took longer than 1 s"),
    "a digit too many": (http(b'{"total": ' + b"9" * 50_000 + b"}"), "page 1 of orders: "),
    "too deep": (http(b"[" * 50_000), "is not JSON"),
    "no content type": (http(PAGE, content_type=""), "not JSON (no content type)"),
    "old server without a length, cut": (
        b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n" + PAGE[:-1],
        "is not JSON",
    ),
}


SHORT: dict[str, dict[str, float]] = {
    "silence": {"read_timeout_s": 0.5},
    **{name: {"answer_timeout_s": 1.0} for name in ("dripping", "a head that drips", "interim answers without end")},
}
"""Where time is what breaks it. Elsewhere there is enough for a busy machine."""


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_answer_is_a_fault(name: str) -> None:
    wire, sentence = BROKEN[name]
    sweep, _ = read(wire, max_body_bytes=100_000, **SHORT.get(name, {}))
    assert sentence in (sweep.problem or "")
    assert not sweep.complete


def test_nobody_listening_is_a_fault() -> None:
    with RawServer(b"") as server:
        authority = server.authority
    feed = OrdersFeed(MainSiteConfig(f"http://{authority}", SecretStr("key"), attempts=1))
    sweep = feed.orders()
    assert list(sweep.pages) == []
    assert sweep.problem == "page 1 of orders: no connection could be made"


def test_a_redirect_does_not_carry_the_key_elsewhere() -> None:
    with RawServer(http(PAGE)) as elsewhere:
        sweep, _ = read(http(status="302 Found", extra=f"Location: http://{elsewhere.authority}/\r\n"))
        assert sweep.problem == "page 1 of orders: answered 302"
        assert elsewhere.connections == 0


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls"), "raw", ("127.0.0.1",), datetime.now(UTC))


@pytest.fixture
def server_tls(certificates: Certificates) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates.cert_file, certificates.key_file)
    return context


def cluster(
    server: RawServer,
    *,
    ca_file: Path | None = None,
    fingerprint: str | None = None,
    host: str = "127.0.0.1",
    connect_s: float = 60.0,
) -> ClusterSource:
    url = f"https://{host}:{server.authority.rpartition(':')[2]}"
    config = ClusterConfig(
        "main",
        (url,),
        "panel@pve!sync",
        SecretStr(SECRET),
        ca_file=ca_file,
        fingerprint=fingerprint,
        connect_timeout_s=connect_s,
        read_timeout_s=60,
    )
    return ClusterSource(config)


VERSION = http(b'{"data":{"version":"9.2.1"}}')
UNAUTHORIZED = http(status="401 No ticket", content_type="", extra="Connection: close\r\n")


@pytest.fixture
def refusing(server_tls: ssl.SSLContext) -> Iterator[RawServer]:
    with RawServer(UNAUTHORIZED, tls=server_tls) as server:
        yield server


def test_a_certificate_is_trusted_by_its_authority(refusing: RawServer, certificates: Certificates) -> None:
    reading = cluster(refusing, ca_file=certificates.ca_file).read()
    assert reading.problems == ("the token is refused (401)",)
    assert f"Authorization: PVEAPIToken=panel@pve!sync={SECRET}\r\n" in refusing.heads[0]


@pytest.mark.parametrize("written", [str, str.lower, lambda text: text.replace(":", "")])
def test_a_pinned_certificate_is_trusted_alone(
    refusing: RawServer, certificates: Certificates, written: type[str]
) -> None:
    reading = cluster(refusing, fingerprint=written(certificates.fingerprint), host="localhost").read()
    assert reading.problems == ("the token is refused (401)",)
    assert len(refusing.heads) == 1


@pytest.mark.parametrize(
    ("trust", "host", "sentence"),
    [
        pytest.param({"fingerprint": "00" * 32}, "127.0.0.1", "fingerprint is not the pinned one", id="wrong pin"),
        pytest.param({}, "127.0.0.1", "unable to get local issuer certificate", id="unknown authority"),
        pytest.param({"ca_file": True}, "localhost", "mismatch", id="another host's certificate"),
    ],
)
def test_a_server_that_is_not_trusted_never_sees_the_token(
    refusing: RawServer, certificates: Certificates, trust: dict[str, object], host: str, sentence: str
) -> None:
    fingerprint = trust.get("fingerprint")
    source = cluster(
        refusing,
        ca_file=certificates.ca_file if "ca_file" in trust else None,
        fingerprint=fingerprint if isinstance(fingerprint, str) else None,
        host=host,
    )
    reading = source.read()
    assert not reading.trusted
    assert "certificate is not trusted" in reading.problems[0]
    assert sentence in reading.problems[0]
    assert "check fingerprint or ca_file" in source.health().problems[0]
    assert refusing.connections == 2
    assert refusing.heads == []


def test_a_server_without_tls_never_sees_the_token(certificates: Certificates) -> None:
    with RawServer(VERSION) as plain:
        reading = cluster(plain, fingerprint=certificates.fingerprint, connect_s=0.5).read()
        assert not reading.trusted
        assert not any(SECRET in head for head in plain.heads)


@pytest.mark.parametrize("status", ["595 No route to host", "596 Connection timed out", "595 "])
def test_an_empty_595_is_typed(server_tls: ssl.SSLContext, certificates: Certificates, status: str) -> None:
    with RawServer(VERSION, http(status=status, content_type=""), tls=server_tls) as server:
        reading = cluster(server, ca_file=certificates.ca_file).read()
    assert reading.problems == (f"GET /access/permissions: the node cannot be reached ({status[:3]})",)


def test_a_missing_configuration_may_be_told_in_the_status_line_alone(
    server_tls: ssl.SSLContext, certificates: Certificates
) -> None:
    rights = http(b'{"data":{"/vms":{"VM.Audit":1}}}')
    status = http(b'{"data":[{"type":"node","name":"pve1","online":1}]}')
    missing = http(status="500 Configuration file 'nodes/pve1/qemu-server/100.conf' does not exist", content_type="")
    nothing = http(b'{"data":[]}')
    with RawServer(rights, status, missing, nothing, nothing, status, tls=server_tls) as server:
        found = cluster(server, ca_file=certificates.ca_file).confirm("pve1", GuestType.QEMU, 100)
    assert isinstance(found, Gone)
    with RawServer(rights, status, http(status="500 internal error"), tls=server_tls) as server:
        found = cluster(server, ca_file=certificates.ca_file).confirm("pve1", GuestType.QEMU, 100)
    assert isinstance(found, Unclear)


def test_a_silent_endpoint_gives_way_to_the_next(server_tls: ssl.SSLContext, certificates: Certificates) -> None:
    with RawServer(stay_silent, tls=server_tls) as silent, RawServer(UNAUTHORIZED, tls=server_tls) as other:
        config = ClusterConfig(
            "main",
            (f"https://{silent.authority}", f"https://{other.authority}"),
            "panel@pve!sync",
            SecretStr(SECRET),
            ca_file=certificates.ca_file,
            connect_timeout_s=60,
            read_timeout_s=60,
        )
        source, hasty = ClusterSource(config), ClusterSource(replace(config, read_timeout_s=0.5))
        source._endpoints = (hasty._endpoints[0], source._endpoints[1])  # only of the silent one little is expected
        assert source.read().problems == ("the token is refused (401)",)
        assert silent.connections == 1, "it was asked first"
