"""Events reach a real receiver: signed, in order, at least once, whatever the main site answers and whoever dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import Engine, text
from standardwebhooks import WebhookVerificationError

from cli.health.checks import Verdict
from cli.health.webhook_checks import endpoint_checks
from panel.operator_error import OperatorError
from panel.operators.actions import webhooks
from panel.operators.audit import Actor
from panel.webhooks import deliveries, endpoint, retries
from panel.webhooks.retries import GIVEN_UP_AFTER, JITTER
from panel.webhooks.views import endpoint as endpoint_view
from tests.integration.sources.raw_server import RawServer
from tests.integration.worker.conftest import send
from tests.support.databases import Database
from tests.support.fleets.world import open_findings
from tests.support.stand_ins.webhook_receiver import (
    OLD_SECRET,
    SECRET,
    WebhookReceiver,
    all_due,
    events,
    note_event,
)
from worker.webhooks.events import send_events, signed, signers_of

ROOT = Path(__file__).resolve().parents[3]
OLGA = Actor("cli:olga", "operate")
DELAY = timedelta(hours=1)


@pytest.fixture(autouse=True)
def _long_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was refused comes again when a test says so, and not before, however long the test takes."""
    monkeypatch.setattr(retries, "DELAYS_S", (DELAY.total_seconds(),))


def database_time(engine: Engine) -> datetime:
    with engine.connect() as connection:
        now = connection.scalar(text("SELECT clock_timestamp()"))
    assert isinstance(now, datetime)
    return now


def test_the_specification_s_own_example() -> None:
    """The headers of the test vector in the specification's libraries."""
    settings = WebhookReceiver().settings(main_site_webhook_url="https://site.test/hook")
    at = datetime.fromtimestamp(1614265330, UTC)
    headers = signed(signers_of(settings), "msg_p5jXN8AQM9LWM0D4loKWxJek", at, '{"test": 2432232314}')
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_an_event_is_sent_once_and_its_signature_holds(told: Engine, main_site: WebhookReceiver) -> None:
    note_event(told, 1)
    note_event(told, 2)
    assert send(told, main_site).summary == "2 sent, 0 not taken"
    assert [got.event["data"]["vps"]["id"] for got in main_site.got] == [1, 2]
    assert all(got.verified_by() for got in main_site.got)
    assert all(got.headers["content-type"] == "application/json" for got in main_site.got)
    assert len(set(main_site.ids)) == 2
    assert send(told, main_site).summary == "0 sent, 0 not taken"
    assert [(event["state"], event["last_status"]) for event in events(told)] == [("delivered", 204)] * 2


def test_while_a_secret_is_changed_either_verifies(told: Engine, main_site: WebhookReceiver) -> None:
    note_event(told)
    send(told, main_site, main_site_webhook_secret_previous=SecretStr(OLD_SECRET))
    [got] = main_site.got
    assert got.verified_by(SECRET)
    assert got.verified_by(OLD_SECRET)
    note_event(told)
    send(told, main_site)
    assert main_site.got[1].verified_by(SECRET)
    with pytest.raises(WebhookVerificationError):
        main_site.got[1].verified_by(OLD_SECRET)


@pytest.mark.parametrize(
    ("status", "others"),
    [
        pytest.param(400, True, id="it refuses this one"),
        pytest.param(404, True, id="it does not know it"),
        pytest.param(302, False, id="a redirect is not followed"),
        pytest.param(408, False, id="it is too slow"),
        pytest.param(429, False, id="it has enough"),
        pytest.param(500, False, id="it is broken"),
        pytest.param(503, False, id="it is away"),
    ],
)
def test_what_is_not_taken_comes_again_with_the_same_id(
    told: Engine, main_site: WebhookReceiver, status: int, *, others: bool
) -> None:
    note_event(told, 1)
    note_event(told, 2)
    main_site.answers = [(status, {"Location": f"{main_site.url}/elsewhere"})]
    before = database_time(told)
    assert send(told, main_site).taken == others
    waits, after = events(told)[0], database_time(told)
    assert (waits["state"], waits["attempts"], waits["last_error"]) == ("waiting", 1, f"answered {status}")
    assert before <= waits["tried_at"] <= waits["due_at"] - DELAY
    assert waits["due_at"] - after <= DELAY * (1 + JITTER)
    all_due(told)
    send(told, main_site)
    assert {event["state"] for event in events(told)} == {"delivered"}
    assert main_site.ids.count(waits["message_id"]) == 2
    assert all(got.verified_by() for got in main_site.got)


def test_the_events_of_one_vps_come_in_order(told: Engine, main_site: WebhookReceiver) -> None:
    for number in (1, 2):
        note_event(told, 1, number)
    note_event(told, 2)
    main_site.refuses = {1: 422}
    send(told, main_site)
    assert [got.event["data"]["vps"]["id"] for got in main_site.got] == [1, 2], "VPS 1 waits for its first"
    main_site.refuses = {}
    send(told, main_site)
    assert len(main_site.got) == 2, "and it waits for as long"
    with told.begin() as connection:
        first = "UPDATE webhook_events SET due_at = clock_timestamp() WHERE id = (SELECT min(id) FROM webhook_events)"
        connection.execute(text(first))
    send(told, main_site)
    assert [(got.event["data"]["vps"]["id"], got.event["data"]["sequence"]) for got in main_site.got[2:]] == [
        (1, 1),
        (1, 2),
    ], "at once after the first"


def test_many_that_wait_behind_one_hide_no_other(told: Engine, main_site: WebhookReceiver) -> None:
    for number in range(2 * deliveries.LOOKED_AT):
        note_event(told, 1, number)
    note_event(told, 2)
    main_site.refuses = {1: 422}
    send(told, main_site)
    assert [got.event["data"]["vps"]["id"] for got in main_site.got] == [1, 2]


@pytest.mark.parametrize(
    ("status", "asked", "wait_s"),
    [
        pytest.param(429, "120", 120, id="seconds"),
        pytest.param(503, "120", 120, id="of a 503"),
        pytest.param(503, "86400", 3600, id="no longer than an hour"),
        pytest.param(503, "soon", 5, id="nonsense"),
    ],
)
def test_retry_after_is_obeyed_within_bounds(
    told: Engine, main_site: WebhookReceiver, status: int, asked: str, wait_s: float
) -> None:
    note_event(told)
    main_site.answers = [(status, {"Retry-After": asked})]
    before = database_time(told)
    send(told, main_site)
    after = database_time(told)
    with told.connect() as connection:
        view = endpoint_view(connection)
    assert view.failing_since is not None
    assert view.not_before is not None
    assert view.not_before - after <= timedelta(seconds=wait_s) <= view.not_before - before


def test_after_three_days_an_event_is_dead_and_the_next_goes(told: Engine, main_site: WebhookReceiver) -> None:
    for number in (1, 2):
        note_event(told, 1, number)
    main_site.answers = [(400, {}), (400, {})]
    send(told, main_site)
    with told.begin() as connection:
        connection.execute(
            text("UPDATE webhook_events SET first_tried_at = first_tried_at - :age WHERE attempts > 0"),
            {"age": GIVEN_UP_AFTER + timedelta(seconds=1)},
        )
    all_due(told)
    send(told, main_site)
    assert [event["state"] for event in events(told)] == ["dead", "delivered"]
    with told.connect() as connection:
        checks = endpoint_checks(endpoint_view(connection))
    assert [(check.verdict, check.seen) for check in checks] == [(Verdict.WARNING, "1 events were given up")]


def test_gone_ends_it_until_an_operator_says_so(told: Engine, main_site: WebhookReceiver) -> None:
    note_event(told, 1)
    note_event(told, 2)
    main_site.answers = [(410, {})]
    send(told, main_site)
    assert len(main_site.got) == 1
    assert open_findings(told) == [(deliveries.DISABLED, deliveries.SUBJECT)]
    all_due(told)
    assert send(told, main_site).summary == "0 sent, 0 not taken"
    with told.begin() as connection:
        assert not endpoint.ring(connection)
        assert endpoint_checks(endpoint_view(connection))[0].verdict is Verdict.PROBLEM
        webhooks.enable(connection, OLGA)
        with pytest.raises(OperatorError, match="not disabled"):
            webhooks.enable(connection, OLGA)
    assert open_findings(told) == []
    assert send(told, main_site).taken == 2, "nothing was lost"
    with told.connect() as connection:
        assert connection.execute(text('SELECT action, "by" FROM operator_actions')).all() == [
            ("webhooks enable", "cli:olga")
        ]


def test_of_an_endless_answer_nothing_is_read(told: Engine) -> None:
    note_event(told)
    endless = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n" + b"x" * 1_000_000
    with RawServer(endless) as server:
        settings = WebhookReceiver(f"http://{server.authority}/hook").settings()
        assert send_events(told, settings, sleep=lambda _: None).taken == 1


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.2:9/hook",
        "https://[::ffff:10.0.0.1]/hook",
        "https://10.0.0.1/hook",
        "https://169.254.169.254/",
    ],
)
def test_no_private_address_is_connected_to_unless_the_setting_says_so(told: Engine, url: str) -> None:
    note_event(told)
    settings = WebhookReceiver(url).settings()
    assert "MAIN_SITE_WEBHOOK_PRIVATE" in (send_events(told, settings, sleep=lambda _: None).problem or "")
    if "127" in url:
        all_due(told)
        allowed = WebhookReceiver(url).settings(main_site_webhook_private=True)
        assert "no connection" in (send_events(told, allowed, sleep=lambda _: None).problem or "")


def test_the_address_that_was_looked_at_is_the_one_connected_to(
    told: Engine, main_site: WebhookReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that is public at one look and private at the next gains nothing: there is one look."""
    looks: list[str] = []

    def look_up(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        looks.append(host)
        return [(0, 0, 0, "", ("127.0.0.1", port))]

    monkeypatch.setattr("sources.outgoing.sockets.socket.getaddrinfo", look_up)
    note_event(told)
    settings = main_site.settings(main_site_webhook_url="https://site.test/hook")
    assert "no public address" in (send_events(told, settings, sleep=lambda _: None).problem or "")
    assert (looks, main_site.got) == (["site.test"], [])


DYING = """
import os
from panel.sessions import sync_engine
from panel.settings import load_settings
from worker.webhooks.events import send_events
settings = load_settings()
print(os.getpid(), flush=True)
input()
send_events(sync_engine(settings.database_url, "panel-sync test"), settings)
"""


def test_a_worker_that_is_killed_before_it_notes_the_answer(
    told: Engine, database: Database, main_site: WebhookReceiver, tmp_path: Path
) -> None:
    """The main site has the event, and nobody knows. It comes again, with the same id."""
    note_event(told)
    environment = {
        "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "DATABASE_URL": database.app_url,
        "MAIN_SITE_WEBHOOK_URL": main_site.url, "MAIN_SITE_WEBHOOK_SECRET": SECRET,
    }  # fmt: skip
    dying = subprocess.Popen(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", DYING], env=environment, cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with dying:
        assert dying.stdin is not None
        assert dying.stdout is not None
        pid = int(dying.stdout.readline())
        main_site.on_request = lambda: os.kill(pid, signal.SIGKILL)
        dying.stdin.write(b"go\n")
        dying.stdin.close()
        assert dying.wait(60) == -signal.SIGKILL
    main_site.on_request = None
    [waits] = events(told)
    assert (waits["state"], waits["attempts"]) == ("waiting", 1)
    assert send(told, main_site).taken == 0, "for a minute it counts as being sent"
    all_due(told)
    assert send(told, main_site).taken == 1
    assert main_site.ids == [waits["message_id"]] * 2


def test_a_worker_that_hung_spoils_nothing_for_the_one_after_it(told: Engine) -> None:
    note_event(told)
    with told.begin() as connection:
        slow = deliveries.take(connection)
    all_due(told)
    with told.begin() as connection:
        quick = deliveries.take(connection)
    assert slow is not None
    assert quick is not None
    with told.begin() as connection:
        deliveries.note_refused(connection, slow, 500, "too late to say so")
    assert events(told)[0]["last_error"] is None
    with told.begin() as connection:
        deliveries.note_delivered(connection, quick, 200)
        deliveries.note_refused(connection, slow, 500, "too late to say so")
    assert events(told)[0]["state"] == "delivered"


def test_two_workers_never_have_the_same_event(told: Engine) -> None:
    note_event(told, 1)
    note_event(told, 2)
    with told.begin() as one, told.begin() as two:
        first, second = deliveries.take(one), deliveries.take(two)
        assert first is not None
        assert second is not None
        assert first.id != second.id


def test_a_backlog_arrives_at_a_bounded_rate(told: Engine, main_site: WebhookReceiver) -> None:
    rests: list[float] = []
    for vps_id in range(5):
        note_event(told, vps_id)
    send_events(told, main_site.settings(), sleep=rests.append)
    assert len(rests) == 5
    assert min(rests) >= 0.05


def test_a_pass_ends_in_time_and_the_next_goes_on(
    told: Engine, main_site: WebhookReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.webhooks.events.PASS_S", 0.0)
    note_event(told)
    assert send(told, main_site).taken == 0
    monkeypatch.undo()
    with told.begin() as connection:
        assert endpoint.ring(connection), "there is more"
    assert send(told, main_site).taken == 1


@pytest.mark.parametrize(
    ("missing", "named"),
    [
        ({"main_site_webhook_secret": SecretStr("")}, "MAIN_SITE_WEBHOOK_SECRET"),
        ({"main_site_webhook_url": ""}, "MAIN_SITE_WEBHOOK_URL"),
    ],
)
def test_a_worker_without_its_settings_says_so_and_sends_nothing(
    told: Engine, main_site: WebhookReceiver, missing: dict[str, object], named: str
) -> None:
    note_event(told)
    assert named in (send(told, main_site, **missing).problem or "")
    assert (main_site.got, events(told)[0]["attempts"]) == ([], 0)
