"""Connections to PostgreSQL, with the timeouts that keep one slow query from stopping the panel."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Engine, create_engine
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from panel.settings import sqlalchemy_url


def _arguments(application: str, statement_ms: int, lock_ms: int) -> dict[str, Any]:
    return {
        "application_name": application,
        "client_encoding": "utf8",
        "connect_timeout": 3,
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 15_000,
        "options": (
            f"-c statement_timeout={statement_ms} -c lock_timeout={lock_ms} "
            "-c idle_in_transaction_session_timeout=30000 -c timezone=UTC"
        ),
    }


def sync_engine(
    url: str, application: str, *, statement_ms: int = 20_000, lock_ms: int = 5_000, pool_size: int = 2
) -> Engine:
    """An engine for a worker or a command. Make it after fork; dispose of it at exit.

    Timeouts in milliseconds. ``pool_pre_ping`` finds connections that a PostgreSQL restart has cut.
    """
    return create_engine(
        sqlalchemy_url(url),
        pool_size=pool_size,
        max_overflow=2,
        pool_timeout=5,
        pool_pre_ping=True,
        pool_recycle=1800,
        hide_parameters=True,  # an error's text must not quote customers' values
        connect_args=_arguments(application, statement_ms, lock_ms),
    )


def async_engine(url: str, application: str, *, pool_size: int = 10) -> AsyncEngine:
    """The API's engine: short timeouts, since every answer must come within two seconds or so."""
    return create_async_engine(
        sqlalchemy_url(url),
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=1.5,
        pool_pre_ping=True,
        pool_recycle=1800,
        hide_parameters=True,  # an error's text must not quote customers' values
        connect_args=_arguments(application, 5_000, 1_500) | {"connect_timeout": 2},
    )
