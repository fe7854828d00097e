"""How the relay sends to the broker: queue by queue, Celery messages by task name, many per round trip."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import structlog
from celery import Celery

from panel.broker import refusal_code, use_broker
from panel.power import due
from panel.runs import schedule_duties
from tracing.spans import Kind, span
from tracing.traceparent import common_trace

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Doorbell:
    """One message: the task, its argument, and how task lists show it (no personal data). Several sync calls have one
    message, with their operations as its argument. ``traceparents``: the traces of the requests that it is for."""

    task: str
    argument: int | str | tuple[int, ...]
    shown: str
    traceparents: tuple[str, ...] = ()

    @property
    def operations(self) -> tuple[int, ...]:
        """The operations that a message of sync calls names."""
        if isinstance(self.argument, tuple):
            return self.argument
        return (int(self.argument),) if self.task == APPLY else ()


APPLY = "sync.apply"
MOST_SHOWN = 8
"""VPSes that a task list shows of one message."""


def call_bells(calls: Sequence[Any], most: int) -> list[Doorbell]:
    """Messages for these operations (``id``, ``vps_id``, ``action``, ``traceparent``, ``alone``), of up to ``most``
    calls each. All calls of a VPS are in the same message, and what must be alone has one of its own."""
    alone = [[call] for call in calls if call.alone]
    by_vps: dict[int, list[Any]] = {}
    for call in sorted((call for call in calls if not call.alone), key=lambda call: call.id):
        by_vps.setdefault(call.vps_id, []).append(call)
    sets: list[list[Any]] = []
    for of_vps in by_vps.values():
        if not sets or len(sets[-1]) + len(of_vps) > most:
            sets.append([])
        sets[-1] += of_vps
    return [_call_bell(one) for one in (*sets, *alone)]


def _call_bell(calls: Sequence[Any]) -> Doorbell:
    traces = tuple(dict.fromkeys(call.traceparent for call in calls if call.traceparent is not None))
    if len(calls) == 1:
        return Doorbell(APPLY, calls[0].id, f"op={calls[0].id} vps={calls[0].vps_id} {calls[0].action}", traces)
    ids = tuple(sorted(call.id for call in calls))
    vpses = sorted({call.vps_id for call in calls})
    named = ", ".join(map(str, vpses[:MOST_SHOWN]))
    more = f" and {len(vpses) - MOST_SHOWN} more" if len(vpses) > MOST_SHOWN else ""
    return Doorbell(APPLY, ids, f"{len(ids)} calls op={ids[0]}..{ids[-1]} vps={named}{more}", traces)


IDS = {APPLY: "operation_id", due.TASK: "action_id"}
"""What log lines and traces call the argument of a task."""

SYNC = "sync"
SIDE_QUEUES = ("statistics", "webhooks")
"""Nothing is lost with a message of these: who looks at statistics asks again, and so does the relay for events. So a
message that such a queue refuses, or has no room for, is left out."""

QUEUES = (SYNC, "power", "reconcile", *SIDE_QUEUES)
"""Published to one by one, in this order: what Redis refuses of one queue stops no other."""

SIDE_LIMIT = 1000
"""A side queue that holds this many messages gets no more. Where no worker takes them, Redis would fill up."""


def queue_of(task: str) -> str:
    """The queue of a task."""
    room = task.partition(".")[0]
    return room if room in QUEUES else "reconcile"


class Publisher(Protocol):
    """Sends messages to the broker. An error means "perhaps delivered", never "not delivered"."""

    def publish(self, bells: Sequence[Doorbell]) -> None: ...

    def waiting(self, queue: str) -> int:
        """How many messages of this queue the broker holds that no worker has taken."""
        ...


class Outbox:
    """Publishes queue by queue, and knows what the broker refuses. ``refused``: queue -> the code of its refusal."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self._unanswered: str | None = None  # the error's class, while the broker does not answer
        self.refused: dict[str, str] = {}
        self.waiting = publisher.waiting

    @property
    def stops_calls(self) -> bool:
        """Whether sync calls are not published."""
        return self._unanswered is not None or SYNC in self.refused

    @property
    def fault(self) -> str | None:
        """What the broker says, with the queues if it takes the others; None if all is published."""
        if self.stops_calls:
            return self._unanswered or self.refused[SYNC]
        return f"{_names(self.refused.values())} for {_names(self.refused)}" if self.refused else None

    @property
    def health(self) -> str | None:
        """The same as `/readyz` shows it."""
        if self.stops_calls:
            return f"publishing fails: {self.fault}"
        if self.refused:
            return f"publishing to {_names(self.refused)} fails: {_names(self.refused.values())}"
        return None

    def publish(self, bells: Sequence[Doorbell]) -> list[Doorbell]:
        """Publish these. Returns those that are to be published again: they were perhaps not delivered."""
        failed: list[Doorbell] = []
        away = False
        for queue in QUEUES:
            own = [bell for bell in bells if queue_of(bell.task) == queue]
            if own and (away or not self._sent(queue, own)):
                away = self._unanswered is not None  # then it is not asked for the other queues
                failed += own if away or queue not in SIDE_QUEUES else []
        return failed

    def ask_refused(self) -> bool:
        """See whether the broker still refuses the queues besides that of sync calls, since no message of theirs may
        come to try it with. Returns whether it takes one of them again."""
        refused = [queue for queue in self.refused if queue != SYNC]
        for queue in refused:
            with contextlib.suppress(Exception):  # it is as it was
                self.waiting(queue)
                del self.refused[queue]
        return any(queue not in self.refused for queue in refused)

    def _sent(self, queue: str, bells: Sequence[Doorbell]) -> bool:
        """Publish to one queue. Returns False if that failed; then any of them was perhaps delivered."""
        try:
            if queue not in SIDE_QUEUES or self.waiting(queue) < SIDE_LIMIT:
                self._publisher.publish(bells)
        except Exception as error:  # noqa: BLE001 - any fault of any broker: perhaps delivered, published again
            code, kind = refusal_code(error), type(error).__name__
            before = self._unanswered, self.refused.get(queue)
            if code is None:
                self._unanswered = kind
            else:
                self._unanswered, self.refused[queue] = None, code
            if before != (self._unanswered, self.refused.get(queue)):  # once, and not with each try
                log.warning("publish_failed", queue=queue, messages=len(bells), error=kind, code=code)
            return False
        self._unanswered = None
        self.refused.pop(queue, None)
        return True


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
                noted: dict[str, str | int | None] = {"panel.task": bell.task}
                if isinstance(bell.argument, tuple):
                    noted["panel.calls"] = len(bell.argument)
                elif bell.task in IDS:
                    noted[f"panel.{IDS[bell.task]}"] = bell.argument
                trace, links = common_trace(bell.traceparents)
                name = f"publish {bell.task}"
                with span(name, Kind.PRODUCER, continues=trace, links=links, attributes=noted) as sent:
                    self._app.send_task(
                        bell.task,
                        args=[bell.argument] if bell.argument != "" else [],
                        argsrepr=bell.shown,
                        kwargsrepr="",
                        queue=queue_of(bell.task),
                        producer=producer,
                        retry=False,
                        headers=_headers(sent.traceparent or trace),
                    )

    def waiting(self, queue: str) -> int:
        """The length of this queue in Redis."""
        with self._app.producer_or_acquire() as producer:
            return int(producer.channel.client.llen(queue))

    def send(self, task: str) -> None:
        """Send one message for beat, without waiting if Redis is away."""
        queue = "sync" if task.startswith("sync.") else "reconcile"
        trigger = {"trigger": schedule_duties.BEAT}
        with span(f"publish {task}", Kind.PRODUCER, attributes={"panel.task": task}) as sent:
            self._app.send_task(
                task,
                kwargs=trigger,
                argsrepr="",
                kwargsrepr=schedule_duties.BEAT,
                queue=queue,
                retry=False,
                headers=_headers(sent.traceparent),
            )


def _headers(traceparent: str | None) -> dict[str, str]:
    """The message's own headers: by this one the task continues the trace."""
    return {} if traceparent is None else {"traceparent": traceparent}


def _names(names: Iterable[str]) -> str:
    return ", ".join(sorted(set(names)))
