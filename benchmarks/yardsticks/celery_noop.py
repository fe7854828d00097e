"""Celery and nothing else: a task that does nothing, with Celery's defaults but for results, which nobody reads."""

from __future__ import annotations

import os

from celery import Celery

app = Celery("noop", broker=os.environ.get("REDIS_URL", ""))
app.conf.task_ignore_result = True
app.conf.task_default_queue = "noop"
app.conf.broker_connection_retry_on_startup = True


@app.task  # type: ignore[untyped-decorator]  # Celery has no types
def nothing(number: int) -> None:
    """Do nothing."""
