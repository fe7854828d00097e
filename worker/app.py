"""The Celery application: ``celery -A worker.app worker`` (or ``beat``, ``flower``).

Beat only nudges. What is due is decided in PostgreSQL: a second beat, or a message delivered twice, finds the
lease taken and does nothing.
"""

from __future__ import annotations

from typing import Any

from celery import Celery, signals

from panel.broker import use_broker
from panel.logging import configure_logging
from panel.redaction import secrets_of
from panel.settings import get_settings
from worker.ending import end_within
from worker.heartbeat import pulse
from worker.jitter import JitteredInterval
from worker.transport import drop_what_is_not_ours

TELL_EVERY_S = 30.0
"""How often findings that a webhook did not take are offered again; a run that opens one asks at once."""

TASKS = frozenset(
    {
        "sync.apply",
        "sync.dispatch_pending",
        "reconcile.fast",
        "reconcile.run",
        "users.import",
        "findings.tell",
        "maintenance.prune",
    }
)
"""Everything that workers do; a message with another task is dropped."""

END_MARGIN_S = 4.0
"""Beyond the soft shutdown, for what ends by itself."""

settings = get_settings()

app = Celery("panel-sync", include=["worker.tasks"])
app.config_from_object("celeryconfig")
use_broker(app, settings.redis_url)
drop_what_is_not_ours(TASKS)
app.conf.worker_send_task_events = settings.task_events
app.conf.beat_schedule = {
    "sync.dispatch_pending": {"task": "sync.dispatch_pending", "schedule": 30.0, "options": {"expires": 25}},
    "reconcile.fast": {
        "task": "reconcile.fast",
        "schedule": settings.fast_interval_s,
        "options": {"expires": settings.fast_interval_s, "argsrepr": "beat"},
    },
    "reconcile.run": {
        "task": "reconcile.run",
        "schedule": JitteredInterval(settings.full_interval_s, settings.full_jitter),
        "kwargs": {"trigger": "beat"},
        "options": {"expires": settings.full_interval_s, "kwargsrepr": "beat", "argsrepr": ""},
    },
    "users.import": {
        "task": "users.import",
        "schedule": settings.users_interval_s,
        "options": {"expires": settings.users_interval_s},
    },
    "findings.tell": {"task": "findings.tell", "schedule": TELL_EVERY_S, "options": {"expires": TELL_EVERY_S}},
    "maintenance.prune": {"task": "maintenance.prune", "schedule": 3600.0, "options": {"expires": 3600}},
}


@signals.setup_logging.connect
def _logging(**_: Any) -> None:  # noqa: ANN401 - Celery's signal
    configure_logging(settings.log_format, secrets=secrets_of(settings))


@signals.worker_init.connect
def _beginning(**_: Any) -> None:  # noqa: ANN401 - Celery's signal
    from worker.consumer import Heartbeat  # noqa: PLC0415 - beat and Flower import this module, and consume nothing

    app.steps["consumer"].add(Heartbeat)
    pulse.watch()


@signals.worker_ready.connect
def _ready(**_: Any) -> None:  # noqa: ANN401 - Celery's signal
    end_within(app.conf.worker_soft_shutdown_timeout + END_MARGIN_S)
