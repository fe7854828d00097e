from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from tests.support.stand_ins.webhook_receiver import WebhookReceiver, want_events, webhook_receiver
from worker.webhooks.events import Passed, send_events


@pytest.fixture
def told(engine: Engine) -> Engine:
    """A panel that tells the main site."""
    want_events(engine)
    return engine


@pytest.fixture
def main_site() -> Iterator[WebhookReceiver]:
    """A main site that takes events."""
    with webhook_receiver() as made:
        yield made


def send(engine: Engine, receiver: WebhookReceiver, **more: object) -> Passed:
    """What one pass of a worker does."""
    return send_events(engine, receiver.settings(**more), sleep=lambda _: None)
