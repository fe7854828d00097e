"""What each worker process holds: one engine, made after fork, and the settings."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from celery import signals
from sqlalchemy import Engine

from panel.sessions import sync_engine
from panel.settings import get_settings


@lru_cache(maxsize=1)
def engine() -> Engine:
    """This process's engine. It is made on first use, because connections must not be shared across fork."""
    return sync_engine(get_settings().session_url, "panel-sync worker")


@signals.worker_process_init.connect
def _after_fork(**_: Any) -> None:  # noqa: ANN401 - Celery's signal
    engine.cache_clear()


@signals.worker_process_shutdown.connect
def _at_exit(**_: Any) -> None:  # noqa: ANN401 - Celery's signal
    if engine.cache_info().currsize:
        engine().dispose()
