"""Clients of Redis, and Celery's connection to it: all are made here, so that all check the same certificate."""

from __future__ import annotations

from typing import Any

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from panel.server_urls import redis_tls, verified_redis_url


def use_broker(app: Any, url: str) -> None:  # noqa: ANN401 - Celery has no types
    """Let a Celery application use that Redis. Flower and everything of kombu's follow the application."""
    bare, tls = redis_tls(url)
    app.conf.broker_url = bare
    app.conf.broker_use_ssl = tls or None


def redis_client(url: str, timeout_s: float) -> redis.Redis:
    """A client that tries once, for so many seconds."""
    return redis.Redis.from_url(
        verified_redis_url(url),
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        retry=Retry(NoBackoff(), 0),
    )


def async_redis_client(url: str, timeout_s: float) -> redis.asyncio.Redis:
    """The same for the API's event loop."""
    return redis.asyncio.Redis.from_url(
        verified_redis_url(url),
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        retry=AsyncRetry(NoBackoff(), 0),
    )
