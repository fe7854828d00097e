"""How the relay sends to the broker: Celery messages by task name, many per round trip."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from celery import Celery

from panel.broker import use_broker
from panel.journal.relay import Doorbell
from panel.runs import schedule_duties

QUEUES = {"sync.apply": "sync", "users.import": "reconcile", "reconcile.run": "reconcile", "power.act": "power"}


def producer_app(redis_url: str) -> Celery:
    """A Celery application that only sends. It names tasks and does not import them."""
    app = Celery("panel-sync-relay")
    app.config_from_object("celeryconfig")
    use_broker(app, redis_url)
    return app


class CeleryPublisher:
    """Publishes doorbells through one connection. When the broker fails, kombu's or redis' own error is raised."""

    def __init__(self, app: Any) -> None:  # noqa: ANN401 - Celery has no types
        self._app = app

    def publish(self, bells: Sequence[Doorbell]) -> None:
        """Send all of them. After an error, any of them may or may not have arrived."""
        with self._app.producer_or_acquire() as producer, producer.batch():
            for bell in bells:
                self._app.send_task(
                    bell.task,
                    args=[bell.argument] if bell.argument != "" else [],
                    argsrepr=bell.shown,
                    kwargsrepr="",
                    queue=QUEUES.get(bell.task, "reconcile"),
                    producer=producer,
                    retry=False,
                )

    def waiting(self) -> int:
        """The length of the queue of sync calls in Redis."""
        with self._app.producer_or_acquire() as producer:
            return int(producer.channel.client.llen(QUEUES["sync.apply"]))

    def send(self, task: str) -> None:
        """Send one message for beat, without waiting if Redis is away."""
        queue = "sync" if task.startswith("sync.") else "reconcile"
        trigger = {"trigger": schedule_duties.BEAT}
        self._app.send_task(
            task, kwargs=trigger, argsrepr="", kwargsrepr=schedule_duties.BEAT, queue=queue, retry=False
        )
