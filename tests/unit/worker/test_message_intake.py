"""A worker with a steady backlog is busy, not deaf."""

from __future__ import annotations

from typing import Any

import pytest
from celery.worker.consumer import Consumer as CeleryConsumer

from panel.heartbeat import OLD_S, MessageIntake, pulse
from worker.consumer import Consumer


def test_each_message_shows_that_the_worker_takes_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is never seen to wait for one, because the next one has always come already."""
    now, taken = [0.0], list[Any]()
    monkeypatch.setattr(pulse, "clock", lambda: now[0])
    monkeypatch.setattr(CeleryConsumer, "create_task_handler", lambda _self: taken.append)
    consumer = Consumer.__new__(Consumer)  # a real one needs a broker
    consumer.intake = MessageIntake(0.0)
    handle = consumer.create_task_handler()
    for now[0] in (OLD_S, 2 * OLD_S, 3 * OLD_S):
        handle("a message")
        assert consumer.intake.is_healthy(now[0] + OLD_S, waits=False, limit_s=OLD_S)
    assert taken == ["a message"] * 3
    assert not consumer.intake.is_healthy(now[0] + OLD_S + 1, waits=False, limit_s=OLD_S), "then none came"
