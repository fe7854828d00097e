"""The relay asks a worker to send, and operators send events again."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from sqlalchemy import Engine, text

from panel.journal.publish import Doorbell
from panel.journal.relay import Relay
from panel.operator_error import OperatorError
from panel.operators.actions import webhooks
from panel.operators.audit import Actor
from panel.webhooks import endpoint
from panel.webhooks.views import Wanted, list_events
from panel.webhooks.views import endpoint as endpoint_view
from tests.integration.worker.conftest import send
from tests.support.databases import Database
from tests.support.stand_ins.webhook_receiver import WebhookReceiver, events, note_event

OLGA = Actor("cli:olga", "operate")


class Published:
    def __init__(self, *, fails: bool = False) -> None:
        self.bells: list[Doorbell] = []
        self.fails = fails

    def publish(self, bells: Sequence[Doorbell]) -> None:
        if self.fails:
            raise ConnectionError
        self.bells += bells

    def waiting(self, queue: str) -> int:
        del queue
        return 0


def test_the_relay_asks_a_worker_once_and_again_when_it_has_ended(
    engine: Engine, database: Database, main_site: WebhookReceiver
) -> None:
    published = Published()
    relay = Relay(database.app_url, published, webhook=True)
    relay.relay_once()
    note_event(engine)
    for _ in range(3):
        relay.relay_once()
    assert [bell.task for bell in published.bells] == [endpoint.TASK]
    send(engine, main_site)
    relay.relay_once()
    assert len(published.bells) == 1, "nothing is due"
    note_event(engine)
    relay.relay_once()
    assert len(published.bells) == 2
    relay.stop()


def test_while_redis_is_away_the_relay_goes_on_asking(engine: Engine, database: Database) -> None:
    failing = Published(fails=True)
    relay = Relay(database.app_url, failing, webhook=True)
    relay.relay_once()
    note_event(engine)
    relay.relay_once()
    failing.fails = False
    relay.relay_once()
    assert [bell.task for bell in failing.bells] == [endpoint.TASK]
    relay.stop()


def test_a_relay_without_an_address_switches_it_off(engine: Engine, database: Database) -> None:
    for webhook, wanted in ((True, True), (None, True), (False, False)):
        relay = Relay(database.app_url, Published(), webhook=webhook)
        relay.relay_once()
        relay.stop()
        with engine.connect() as connection:
            assert endpoint_view(connection).wanted is wanted


REPLAYS = [
    pytest.param(lambda ids, _: Wanted(id=ids[1]), [2], id="one"),
    pytest.param(lambda _, __: Wanted(dead=True), [3], id="all dead ones"),
    pytest.param(lambda _, noted: Wanted(since=noted), [2, 3], id="since a time"),
]


@pytest.mark.parametrize(("wanted", "again"), REPLAYS)
def test_an_operator_sends_events_again(
    told: Engine, main_site: WebhookReceiver, wanted: object, again: list[int]
) -> None:
    ids = [note_event(told, vps_id) for vps_id in (1, 2, 3)]
    main_site.refuses = {3: 400}
    send(told, main_site)
    with told.begin() as connection:
        connection.execute(text("UPDATE webhook_events SET state = 'dead', ended_at = now() WHERE state = 'waiting'"))
    before = {event["vps_id"]: event["message_id"] for event in events(told)}
    noted = events(told)[1]["created_at"]
    main_site.refuses, main_site.got = {}, []
    assert callable(wanted)
    with told.begin() as connection:
        done = webhooks.replay(connection, OLGA, wanted(ids, noted))
    assert "sent again" in done.message
    assert send(told, main_site).taken == len(again)
    assert main_site.ids == [before[vps_id] for vps_id in again], "each keeps its id"
    with told.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM operator_actions WHERE action = 'webhooks replay'")) == 1
        assert [event.vps_id for event in list_events(connection, "delivered")] == sorted({1, 2} | set(again))[::-1]


def test_what_cannot_be_sent_again(told: Engine, engine: Engine) -> None:
    with engine.begin() as connection:
        for wanted, why in (
            (Wanted(), "name one event"),
            (Wanted(id=1, dead=True), "name one event"),
            (Wanted(id=99), "does not exist"),
        ):
            with pytest.raises(OperatorError, match=why):
                webhooks.replay(connection, OLGA, wanted)
        endpoint.switch(connection, wanted=False)
        with pytest.raises(OperatorError, match="MAIN_SITE_WEBHOOK_URL"):
            webhooks.replay(connection, OLGA, Wanted(dead=True))
