"""Alarms are told to a real HTTPS receiver: once it took them no more, until then again; nothing else is told."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text

from cli.health.checks import Verdict, duty_checks
from domain.source_troubles import Cause, Trouble
from lab.simulators.proxmox.certificates import Certificates, make_certificates
from panel.journal.rows import raise_finding
from panel.operators.findings import acknowledge_finding, note_sent, snooze_finding, unsent_alarms
from panel.runs.schedule_duties import list_duties, raise_late_alarms
from panel.runs.source_states import report_sources
from panel.settings import Settings
from tests.integration.sources.raw_server import RawServer
from worker import tasks
from worker.webhooks.alarms import send_alarms

PATH = "/hooks/key-canary-51c2"


class Receiver:
    """What it was sent, and the status with which it answers."""

    def __init__(self) -> None:
        self.status = 204
        self.refused: dict[str, int] = {}  # subject -> the status that it gets
        self.got: list[tuple[dict[str, Any], str | None]] = []
        self.url = ""

    @property
    def subjects(self) -> list[str]:
        return [message["subject"] for message, _ in self.got]


@contextmanager
def receiving(certificates: Certificates) -> Iterator[Receiver]:
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            receiver.got.append((json.loads(body), self.headers["Idempotency-Key"]))
            self.send_response(receiver.refused.get(receiver.got[-1][0]["subject"], receiver.status))
            self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.cert_file, certificates.key_file)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    receiver.url = f"https://127.0.0.1:{server.server_address[1]}{PATH}"
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls"), "receiver", ["127.0.0.1"], datetime.now(UTC))


@pytest.fixture
def receiver(certificates: Certificates) -> Iterator[Receiver]:
    with receiving(certificates) as made:
        yield made


def settings(receiver: Receiver, ca_file: Path | None) -> Settings:
    return Settings(_env_file=None, finding_webhook_url=receiver.url, finding_webhook_ca_file=ca_file)


def find(engine: Engine, subject: str, severity: str = "alarm") -> None:
    with engine.begin() as connection:
        raise_finding(connection, "paid-but-missing", subject, "no guest", severity=severity, vps_id=1)


def test_each_alarm_is_told_once(engine: Engine, receiver: Receiver, certificates: Certificates) -> None:
    for subject, severity in (("vps:1", "alarm"), ("vps:2", "warning"), ("vps:3", "alarm")):
        find(engine, subject, severity)
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM task_requests WHERE task = 'findings.tell'")) == 1
    delivery = send_alarms(engine, settings(receiver, certificates.ca_file))
    assert delivery.summary == "2 sent"
    assert receiver.subjects == ["vps:1", "vps:3"]
    message, key = receiver.got[0]
    assert key == f"finding-{message['id']}"
    assert message["text"] == "alarm paid-but-missing vps:1: no guest"
    assert (message["class"], message["severity"], message["vps_id"]) == ("paid-but-missing", "alarm", 1)
    find(engine, "vps:1")  # found again by the next run
    find(engine, "vps:2")  # and this one has become an alarm
    send_alarms(engine, settings(receiver, certificates.ca_file))
    assert receiver.subjects == ["vps:1", "vps:3", "vps:2"]


@pytest.mark.parametrize("status", [302, 400, 429, 500])
def test_what_is_not_taken_is_told_again(
    engine: Engine, receiver: Receiver, certificates: Certificates, status: int
) -> None:
    find(engine, "vps:1")
    receiver.status = status
    delivery = send_alarms(engine, settings(receiver, certificates.ca_file))
    assert (delivery.taken, delivery.problem) == (0, f"answered {status}")
    receiver.status = 200
    assert send_alarms(engine, settings(receiver, certificates.ca_file)).taken == 1
    assert receiver.subjects == ["vps:1", "vps:1"], "no redirect was followed"


@pytest.mark.parametrize(
    ("status", "others"),
    [(400, True), (413, True), (422, True), (408, False), (429, False), (500, False), (503, False)],
)
def test_an_alarm_that_is_refused_stops_no_other(
    engine: Engine, receiver: Receiver, certificates: Certificates, status: int, *, others: bool
) -> None:
    for subject in ("vps:1", "vps:2", "vps:3"):
        find(engine, subject)
    receiver.refused = {"vps:1": status}
    delivery = send_alarms(engine, settings(receiver, certificates.ca_file))
    assert receiver.subjects == (["vps:1", "vps:2", "vps:3"] if others else ["vps:1"])
    assert (delivery.taken, delivery.problem) == (2 if others else 0, f"answered {status}")
    receiver.got.clear()
    assert send_alarms(engine, settings(receiver, certificates.ca_file)).problem == f"answered {status}"
    assert receiver.subjects == ["vps:1"], "it is sent until it is taken"


def test_many_that_are_refused_keep_no_place_from_later_ones(
    engine: Engine, receiver: Receiver, certificates: Certificates
) -> None:
    receiver.refused = {f"vps:{n}": 400 for n in range(1, 23)}
    for subject in receiver.refused:
        find(engine, subject)
    send_alarms(engine, settings(receiver, certificates.ca_file))
    find(engine, "vps:99")
    assert send_alarms(engine, settings(receiver, certificates.ca_file)).taken == 1
    assert set(receiver.subjects) == {*receiver.refused, "vps:99"}, "the refused ones take turns"


def test_alarms_that_are_not_delivered_are_told_by_the_lane(
    engine: Engine, receiver: Receiver, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "engine", lambda: engine)
    monkeypatch.setattr(tasks, "get_settings", lambda: settings(receiver, certificates.ca_file))
    tasks.send_new_alarms.apply().get()
    find(engine, "vps:1")
    receiver.status = 400
    assert tasks.send_new_alarms.apply().get() == "0 sent; answered 400"
    with engine.begin() as connection:
        connection.execute(text("UPDATE duties SET every_s = 30, asked_at = now(), began_at = now()"))
        connection.execute(
            text("UPDATE duties SET done_at = done_at - interval '2 min', since = since - interval '1 d'")
        )
        [duty] = list_duties(connection)
        assert raise_late_alarms(connection) == ["alarms"]
        reason = connection.scalar(text("SELECT reason FROM findings WHERE class = 'lane-late'"))
    assert "last failed with answered 400" in str(reason)
    assert "FINDING_WEBHOOK_URL does not take every alarm" in str(reason)
    assert [check.verdict for check in duty_checks([duty])] == [Verdict.PROBLEM]
    receiver.status = 200
    assert tasks.send_new_alarms.apply().get() == "2 sent"
    with engine.begin() as connection:
        assert raise_late_alarms(connection) == []


def test_a_receiver_whose_certificate_nobody_vouches_for_gets_nothing(
    engine: Engine, receiver: Receiver, capsys: pytest.CaptureFixture[str]
) -> None:
    find(engine, "vps:1")
    delivery = send_alarms(engine, settings(receiver, None))
    assert (delivery.taken, receiver.got) == (0, [])
    assert (delivery.problem or "").startswith("its certificate is not trusted")
    shown = capsys.readouterr()
    assert "webhook_failed" in shown.out + shown.err
    assert "key-canary" not in shown.out + shown.err + repr(delivery) + repr(settings(receiver, None))


@pytest.mark.parametrize("layers", [0, 2], ids=["without end", "a bomb"])
def test_of_a_receiver_s_answer_only_the_status_is_read(
    engine: Engine, certificates: Certificates, layers: int
) -> None:
    def answer(connection: socket.socket, over: threading.Event) -> None:
        coding = b"Content-Encoding: gzip, gzip\r\n" if layers else b""
        connection.sendall(b"HTTP/1.1 200 OK\r\n" + coding + b"\r\n")
        while not over.is_set():
            connection.sendall(b" " * 65536)

    find(engine, "vps:1")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificates.cert_file, certificates.key_file)
    with RawServer(answer, tls=tls) as server:
        receiver = Receiver()
        receiver.url = f"https://{server.authority}{PATH}"
        assert send_alarms(engine, settings(receiver, certificates.ca_file)).summary == "1 sent"


def test_an_authority_that_is_none_is_told_as_a_problem(engine: Engine, receiver: Receiver, tmp_path: Path) -> None:
    find(engine, "vps:1")
    nonsense = tmp_path / "ca.pem"
    nonsense.write_text("no certificate")
    delivery = send_alarms(engine, settings(receiver, nonsense))
    assert (delivery.taken, receiver.got) == (0, [])
    assert "cannot be read as PEM" in (delivery.problem or "")


def test_who_has_seen_it_need_not_be_told(engine: Engine, receiver: Receiver, certificates: Certificates) -> None:
    find(engine, "vps:1")
    find(engine, "vps:2")
    with engine.begin() as connection:
        acknowledge_finding(connection, 1, "cli:test")
        snooze_finding(connection, 2, timedelta(hours=1), "cli:test")
    assert send_alarms(engine, settings(receiver, certificates.ca_file)).summary == "0 sent"
    assert receiver.got == []


def test_without_an_address_nothing_is_told(engine: Engine) -> None:
    find(engine, "vps:1")
    assert send_alarms(engine, Settings(_env_file=None)).summary == "0 sent"


UNREAD, INCOMPLETE, LOST = (
    Trouble(Cause.UNREAD, "nothing answers"),
    Trouble(Cause.INCOMPLETE, "a node is away"),
    Trouble(Cause.MASS_LOSS, "40 of 50 guests are gone"),
)


def reported(engine: Engine, *troubles: Trouble) -> None:
    """Runs saw these, one after the other, and for longer than a minute."""
    for trouble in troubles:
        with engine.begin() as connection:
            connection.execute(text("UPDATE source_states SET unwell_since = unwell_since - interval '1 hour'"))
            report_sources(connection, None, {"proxmox:main": trouble})


@pytest.mark.parametrize(
    ("then", "seen_by_operator", "told"),
    [
        pytest.param([INCOMPLETE, LOST], False, True, id="an alarm again"),
        pytest.param([INCOMPLETE, UNREAD], False, True, id="an alarm again of the same cause"),
        pytest.param([LOST], False, True, id="of another cause"),
        pytest.param([LOST], True, True, id="of another cause, while it is snoozed"),
        pytest.param([INCOMPLETE, LOST], True, True, id="an alarm again, while it is snoozed"),
        pytest.param([Trouble(Cause.UNREAD, "it refuses")], False, False, id="of the same cause"),
        pytest.param([Trouble(Cause.UNREAD, "it refuses")], True, False, id="of the same cause, while it is snoozed"),
        pytest.param([INCOMPLETE], False, False, id="no alarm any more"),
    ],
)
def test_an_alarm_that_becomes_one_again_is_told_again(
    engine: Engine,
    receiver: Receiver,
    certificates: Certificates,
    capsys: pytest.CaptureFixture[str],
    then: list[Trouble],
    *,
    seen_by_operator: bool,
    told: bool,
) -> None:
    reported(engine, UNREAD, UNREAD)
    assert send_alarms(engine, settings(receiver, certificates.ca_file)).taken == 1
    if seen_by_operator:
        with engine.begin() as connection:
            snooze_finding(connection, receiver.got[0][0]["id"], timedelta(days=30), "cli:test")
    reported(engine, *then)
    assert send_alarms(engine, settings(receiver, certificates.ca_file)).taken == told
    assert send_alarms(engine, settings(receiver, certificates.ca_file)).taken == 0, "once"
    shown = capsys.readouterr()
    assert (shown.out + shown.err).count("alarm_opened") == 1 + told
    with engine.connect() as connection:
        asked = connection.scalar(text("SELECT count(*) FROM findings WHERE acknowledged_by IS NOT NULL"))
    assert asked == (seen_by_operator and not told)
    assert len({key for _, key in receiver.got}) == 1 + told, "a receiver must not take it for the first one"
    assert [message["occurrence"] for message, _ in receiver.got] == [1, 2][: 1 + told]


def test_an_alarm_that_comes_while_another_is_being_sent_is_told(engine: Engine) -> None:
    reported(engine, UNREAD, UNREAD)
    with engine.begin() as connection:
        [(finding, occurrence)] = unsent_alarms(connection)
    reported(engine, LOST)
    with engine.begin() as connection:
        note_sent(connection, finding.id, occurrence)
        [(finding, later)] = unsent_alarms(connection)
        assert "40 of 50" in finding.reason
        note_sent(connection, finding.id, later)
        assert unsent_alarms(connection) == []
