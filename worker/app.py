"""The Celery application of workers, beat and Flower: ``celery -A worker.app worker``, ``celery -A worker.app beat``.

Beat (:mod:`worker.beat`) only asks. A worker follows a message from beat only if PostgreSQL still has the request, and
a run writes only while it has the lease. So a second beat, or a message that is delivered twice, does no harm.
"""

from __future__ import annotations

import gc
from typing import Any

from celery import Celery, signals

from panel.broker import use_broker
from panel.heartbeat import pulse
from panel.logging import configure_logging
from panel.operators.repair_policy.what_ifs import TASK as WHAT_IF
from panel.redaction import secrets_of
from panel.runs.schedule_duties import LANES
from panel.settings import get_settings
from sources.outgoing.trace_collector import export_traces
from worker.monitoring.task_numbers import count_tasks, listen
from worker.monitoring.task_traces import trace_tasks
from worker.schedule import beat_schedule
from worker.shutdown_deadline import end_within
from worker.transport import drop_foreign_messages

TASKS = frozenset({"sync.apply", "power.act", "statistics.read", "webhooks.send", WHAT_IF, *LANES})
"""The names of all tasks. A message for another task is dropped."""

END_MARGIN_S = 4.0
"""Seconds beyond the soft shutdown that a worker has to end by itself."""

settings = get_settings()

app = Celery("panel-sync", include=["worker.tasks"], events="worker.events:Events")
app.config_from_object("celeryconfig")
use_broker(app, settings.redis_url)
drop_foreign_messages(TASKS)
app.conf.worker_send_task_events = settings.task_events
app.conf.beat_schedule = beat_schedule(settings)


@signals.setup_logging.connect
def _logging(**_: Any) -> None:  # noqa: ANN401 - Celery's signal
    configure_logging(settings.log_format, secrets=secrets_of(settings))


@signals.worker_init.connect
def _before_consuming(**_: Any) -> None:  # noqa: ANN401 - Celery's signal
    from worker.consumer import Heartbeat  # noqa: PLC0415 - beat and Flower import this module but consume nothing

    app.steps["consumer"].add(Heartbeat)
    pulse.watch()
    count_tasks(TASKS)
    trace_tasks(settings.traces_url)
    gc.collect()
    gc.freeze()  # a collection would copy the memory that the pool's processes share with this one


@signals.worker_ready.connect
def _ready(**_: Any) -> None:  # noqa: ANN401 - Celery's signal
    end_within(app.conf.worker_soft_shutdown_timeout + END_MARGIN_S)
    listen(settings.metrics_host, settings.metrics_port)


@signals.beat_init.connect
def _before_beating(**_: Any) -> None:  # noqa: ANN401 - Celery's signal
    export_traces(settings.traces_url, "beat")
    listen(settings.metrics_host, settings.metrics_port)
