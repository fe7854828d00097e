"""The main site takes events again: what waited for it comes at once, and what it refused at its own times."""

from __future__ import annotations

import pytest
from sqlalchemy import Connection, Engine, text

from panel.webhooks import deliveries, endpoint, views
from panel.webhooks.views import endpoint as endpoint_view
from tests.integration.worker.conftest import send
from tests.support.stand_ins.webhook_receiver import WebhookReceiver, all_due, events, note_event
from worker.webhooks.events import send_events

A_DAY_LATER = "UPDATE webhook_endpoint SET failing_since = failing_since - interval '1 day', not_before = NULL"
NEXT_TRY_FAR_AWAY = (
    "UPDATE webhook_events SET tried_at = tried_at - interval '1 hour', due_at = due_at + interval '10 hours'"
    " WHERE attempts > 0"
)


def test_a_main_site_that_was_down_for_a_day_gets_everything(told: Engine, main_site: WebhookReceiver) -> None:
    """While it is down it is spared, nothing is lost, and once it is back it need not wait for long delays."""
    for vps_id in range(1, 41):
        note_event(told, vps_id)
    away = main_site.settings(main_site_webhook_url="http://127.0.0.1:9/nobody")
    for _ in range(30):
        all_due(told)
        assert "no connection" in (send_events(told, away, sleep=lambda _: None).problem or "")
    assert send_events(told, away, sleep=lambda _: None).problem is None, "nothing is tried before the pause is over"
    assert sum(event["attempts"] for event in events(told)) == 30, "one a pass"
    with told.begin() as connection:
        assert not endpoint.ring(connection), "nor is a worker asked"
        connection.execute(text(A_DAY_LATER))
        connection.execute(text(NEXT_TRY_FAR_AWAY))
    assert send(told, main_site).taken == 40
    assert {event["state"] for event in events(told)} == {"delivered"}
    with told.connect() as connection:
        told_of = endpoint_view(connection)
    assert (told_of.failing_since, told_of.waiting) == (None, 0)


def test_what_the_main_site_refused_keeps_its_own_times(told: Engine, main_site: WebhookReceiver) -> None:
    """That it takes others says nothing of an event that it refuses: it would be sent again with each of them."""
    for vps_id in range(5):
        note_event(told, vps_id)
    main_site.answers = [(422, {})] * 5
    assert send(told, main_site).refused == 5
    with told.begin() as connection:
        connection.execute(text(A_DAY_LATER))
        connection.execute(text(NEXT_TRY_FAR_AWAY))
    note_event(told, 9)
    assert send(told, main_site).taken == 1
    assert [event["attempts"] for event in events(told)] == [1] * 6
    with told.connect() as connection:
        assert endpoint_view(connection).failing_since is None


def test_what_waited_for_the_main_site_is_woken_in_small_steps(
    told: Engine, main_site: WebhookReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that fails is made up for with the next delivery."""
    monkeypatch.setattr(deliveries, "WOKEN_AT_ONCE", 2)
    for vps_id in range(1, 7):
        note_event(told, vps_id)
    away = main_site.settings(main_site_webhook_url="http://127.0.0.1:9/nobody")
    for _ in range(6):
        all_due(told)
        send_events(told, away, sleep=lambda _: None)
    with told.begin() as connection:
        connection.execute(text(A_DAY_LATER))
        connection.execute(text(NEXT_TRY_FAR_AWAY))
    note_event(told, 9)
    wake, steps = deliveries.wake, 0

    def second_fails(connection: Connection) -> bool:
        nonlocal steps
        steps += 1
        if steps == 2:
            raise TimeoutError
        return wake(connection)

    monkeypatch.setattr(deliveries, "wake", second_fails)
    with pytest.raises(TimeoutError):
        send(told, main_site)
    assert [event["state"] for event in events(told)].count("delivered") == 1
    assert send(told, main_site).taken == 6
    assert steps > 3
    with told.connect() as connection:
        assert endpoint_view(connection).failing_since is None


LATER = (
    "UPDATE webhook_endpoint SET not_before = not_before - make_interval(secs => :s),"
    " failing_since = failing_since - make_interval(secs => :s)",
    "UPDATE webhook_events SET due_at = due_at - make_interval(secs => :s),"
    " tried_at = tried_at - make_interval(secs => :s), first_tried_at = first_tried_at - make_interval(secs => :s)"
    " WHERE state = 'waiting'",
)
NEXT_TRY = text(
    "SELECT CAST(extract(epoch FROM greatest((SELECT not_before FROM webhook_endpoint),"
    " (SELECT min(due_at) FROM webhook_events WHERE state = 'waiting')) - clock_timestamp()) AS float8)"
)
STATE = text("SELECT state FROM webhook_events WHERE id = :id")


def _minutes_until_delivered(engine: Engine, main_site: WebhookReceiver, event_id: int) -> float:
    waited = 0.0
    for _ in range(1_000):
        send(engine, main_site)
        with engine.begin() as connection:
            if connection.scalar(STATE, {"id": event_id}) == "delivered":
                return waited / 60
            seconds = max(1.0, float(connection.scalar(NEXT_TRY) or 0.0) + 0.01)
            for statement in LATER:
                connection.execute(text(statement), {"s": seconds})
        waited += seconds
    raise AssertionError("it is never delivered")


def test_a_main_site_that_fails_at_some_events_gets_the_others(told: Engine, main_site: WebhookReceiver) -> None:
    """It answers 500 to the events of twenty VPS. Each is tried once before it is known; then others go first."""
    main_site.refuses = dict.fromkeys(range(1, 21), 500)
    for vps_id in range(1, 21):
        note_event(told, vps_id)
    late = [_minutes_until_delivered(told, main_site, note_event(told, 1_000 + number)) for number in range(4)]
    assert max(late[1:]) < 15, late


def test_the_days_in_which_nothing_was_sent_do_not_count(told: Engine, main_site: WebhookReceiver) -> None:
    """The main site said 410, and four days later an operator lets it be told again."""
    note_event(told, 1)
    main_site.answers = [(410, {}), (503, {})]
    send(told, main_site)
    with told.begin() as connection:
        ago = "first_tried_at = first_tried_at - interval '4 days', tried_at = tried_at - interval '4 days'"
        connection.execute(text(f"UPDATE webhook_events SET {ago}"))
        views.enable(connection)
    send(told, main_site)
    assert [event["state"] for event in events(told)] == ["waiting"]
