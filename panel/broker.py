"""Every client of Redis, and Celery's connection to it. All are made here, so that all check its certificate the same
way."""

from __future__ import annotations

import re
import secrets
import ssl
from typing import Any

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from domain.failures import caused_by, led_to
from panel.server_urls import redis_tls, verified_redis_url


def use_broker(app: Any, url: str) -> None:  # noqa: ANN401 - Celery has no types
    """Let a Celery application use this Redis. Flower and kombu take the application's configuration."""
    bare, tls = redis_tls(url)
    app.conf.broker_url = bare
    app.conf.broker_use_ssl = tls or None


def redis_client(url: str, timeout_s: float) -> redis.Redis:
    """A client that tries once, for at most ``timeout_s`` seconds."""
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


PROBE = "panel-sync:probe:"
"""The prefix of the keys that test whether Redis takes work. Each key is used once and removed."""

PROBE_LIFE_MS = 10_000


def try_work(client: redis.Redis) -> None:
    """Put a message into Redis and take it back, as the relay and the workers do. Raises redis.RedisError, OSError.

    A Redis that answers a ping may still take no work: a replica, one with a full memory or disk, or a user without
    rights.
    """
    key, value = PROBE + secrets.token_hex(8), secrets.token_hex(8)
    client.lpush(key, value)
    client.pexpire(key, PROBE_LIFE_MS)
    _require_same(client.rpop(key), value)


async def try_work_async(client: redis.asyncio.Redis) -> None:
    """The same for the API's event loop."""
    key, value = PROBE + secrets.token_hex(8), secrets.token_hex(8)
    await client.lpush(key, value)
    await client.pexpire(key, PROBE_LIFE_MS)
    _require_same(await client.rpop(key), value)


def _require_same(taken: object, value: str) -> None:
    if taken not in (value, value.encode()):
        raise redis.InvalidResponse("the message that was put in did not come back")


REFUSALS = {
    "READONLY": "it takes no writes: it is a replica",
    "OOM": "its memory is full",
    "MISCONF": "it takes no writes because it cannot save to its disk",
    "NOPERM": "the user lacks a right",
    "NOAUTH": "it asks for a password",
    "WRONGPASS": "the user or the password is refused",
    "LOADING": "it is loading its data",
    "MASTERDOWN": "it is a replica without its master",
    "CLUSTERDOWN": "its cluster is down",
    "MOVED": "it is a node of a cluster, which the panel's queues cannot use",
    "BUSY": "it is busy with a script",
    "NOREPLICAS": "it takes no writes without its replicas",
}
"""The first word of Redis's error -> what it means. Redis sends the same words in every version."""


def refusal_code(error: BaseException) -> str | None:
    """The first word of the error with which Redis refused; None if it did not answer."""
    for cause in led_to(error):
        if isinstance(cause, redis.RedisError):
            code = cause.status_code
            if code is None and isinstance(cause, redis.ResponseError):
                match = re.match(r"[A-Z]{2,20}(?= |$)", str(cause))
                code = match[0] if match else "ERR"
            if code is not None:
                return str(code)
    return None


def fault_of(error: BaseException) -> str:
    """What an error of Redis means, in words. Its own text is left out, because that quotes keys and names.

    kombu wraps Redis's error, so the chain of causes is searched.
    """
    code = refusal_code(error)
    if code is not None:
        return REFUSALS.get(code, f"it refuses ({code})")
    if caused_by(error, redis.AuthenticationError):
        return "the user or the password is refused"
    if caused_by(error, redis.InvalidResponse):
        return "it does not keep what it is given"
    if caused_by(error, ssl.SSLCertVerificationError):
        return "its certificate is not trusted"
    return "it can't be reached"
