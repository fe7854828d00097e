"""The events for the main site, by page and by API: what is shown, what is sent again, and what is refused."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import Engine, text

from api.operators.webhook_models import WebhooksAnswer
from panel.webhooks import deliveries
from tests.integration.api.operator_pages.conftest import Keys, sent, told
from tests.support.stand_ins.webhook_receiver import events, note_event, want_events


@pytest.fixture
async def program(app: FastAPI, keys: Keys) -> AsyncIterator[httpx.AsyncClient]:
    """Olga's key in a program."""
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(
        transport=transport, base_url="https://panel.test/api/ops", headers={"X-API-Key": keys.olga}
    ) as made:
        yield made


@pytest.fixture
def ended(engine: Engine) -> list[int]:
    """Three events: one delivered, one given up, one that waits; and a main site that wants no more."""
    want_events(engine)
    ids = [note_event(engine, vps_id) for vps_id in (1, 2, 3)]
    with engine.begin() as connection:
        for note in ("delivered", "dead"):
            taken = deliveries.take(connection)
            assert taken is not None
            if note == "delivered":
                deliveries.note_delivered(connection, taken, 204)
            else:
                deliveries.note_gone(connection, taken, 410, "answered 410")
        connection.execute(
            text("UPDATE webhook_events SET state = 'dead', ended_at = now() WHERE id = :id"), {"id": ids[1]}
        )
    return ids


def states(engine: Engine) -> list[str]:
    return [event["state"] for event in events(engine)]


async def test_an_operator_looks_and_sends_again(
    olga: httpx.AsyncClient, program: httpx.AsyncClient, engine: Engine, ended: list[int]
) -> None:
    page = (await olga.get("/ops/webhooks")).text
    assert "The main site wants no more events" in page
    assert "1 event waits." in page
    assert "answered 410" in page
    answer = await program.get("/webhooks?state=dead")
    assert WebhooksAnswer.model_validate_json(answer.content)
    data: dict[str, Any] = answer.json()["data"]
    assert [event["id"] for event in data["events"]] == [ended[1]]
    assert (data["endpoint"]["waiting"], data["endpoint"]["dead"]) == (1, 1)
    assert "told of changes again" in (await told(olga, "/ops/webhooks/enable")).text
    assert (await sent(olga, "/ops/webhooks/enable")).status_code == 409
    assert "1 events are sent again (dead)" in (await told(olga, "/ops/webhooks/replay", dead="true")).text
    assert states(engine) == ["delivered", "waiting", "waiting"]
    assert f"event {ended[0]} is sent again" in (await told(olga, "/ops/webhooks/replay", event=str(ended[0]))).text
    assert states(engine) == ["waiting"] * 3
    assert "0 events are sent again" in (await told(olga, "/ops/webhooks/replay", since="2026-03-01T12:00")).text
    with engine.connect() as connection:
        noted = connection.execute(text('SELECT "by", action FROM operator_actions ORDER BY id')).all()
    assert noted == [("api:olga", "webhooks enable"), *[("api:olga", "webhooks replay")] * 3]


AHEAD = datetime(2030, 3, 1, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("change", "next_try"),
    [
        pytest.param("not_before = NULL", AHEAD, id="as it is due"),
        pytest.param("not_before = '2031-03-01T12:00:00Z'", AHEAD.replace(year=2031), id="not before that"),
        pytest.param("not_before = '2029-03-01T12:00:00Z'", AHEAD, id="it is due later than that"),
        pytest.param("disabled_at = now()", None, id="it answered 410 Gone"),
        pytest.param("wanted = false", None, id="it is told nothing"),
    ],
)
async def test_no_next_try_is_told_that_there_will_not_be(
    olga: httpx.AsyncClient, program: httpx.AsyncClient, engine: Engine, change: str, next_try: datetime | None
) -> None:
    want_events(engine)
    note_event(engine)
    with engine.begin() as connection:
        connection.execute(text("UPDATE webhook_events SET due_at = :at"), {"at": AHEAD})
        connection.execute(text(f"UPDATE webhook_endpoint SET {change}"))
    (event,) = (await program.get("/webhooks")).json()["data"]["events"]
    page = (await olga.get("/ops/webhooks")).text
    if next_try is None:
        assert event["due_at"] is None
        assert "next try" not in page
    else:
        assert datetime.fromisoformat(event["due_at"]) == next_try
        assert f"1 Mar {next_try.year}, 12:00 UTC" in page.partition("next try")[2].partition("</p>")[0]


async def test_a_program_sends_again(program: httpx.AsyncClient, engine: Engine, ended: list[int]) -> None:
    for body in ({"event": ended[0]}, {"dead": True}, {"since": "2026-03-01T12:00:00+01:00"}):
        answer = await program.post("/webhooks/replay", json=body)
        assert answer.status_code == 202, answer.text
    assert states(engine) == ["waiting"] * 3
    assert (await program.post("/webhooks/enable")).status_code == 202


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"dead": False},
        {"event": 1, "dead": True},
        {"event": 0},
        {"event": "1"},
        {"since": "2026-03-01T12:00:00"},
        {"since": "yesterday"},
        {"since": "2026-02-30T12:00:00Z"},
        {"since": 1772366400},
        {"all": True},
    ],
)
async def test_nonsense_sends_nothing(
    program: httpx.AsyncClient, engine: Engine, ended: list[int], body: dict[str, Any]
) -> None:
    del ended
    before = states(engine)
    answer = await program.post("/webhooks/replay", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_field")
    assert states(engine) == before


async def test_while_it_is_off_the_page_says_so(olga: httpx.AsyncClient, program: httpx.AsyncClient) -> None:
    assert "MAIN_SITE_WEBHOOK_URL is not set" in (await olga.get("/ops/webhooks")).text
    answer = await program.post("/webhooks/replay", json={"dead": True})
    assert answer.status_code == 409
