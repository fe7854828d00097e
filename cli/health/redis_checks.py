"""Doctor's checks of Redis: it takes messages, the user has all rights that Celery needs, and it keeps messages."""

from __future__ import annotations

import ssl
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import redis

from cli.connect import REDIS_TIMEOUT_S, place
from cli.health.checks import Check, Verdict, clock_check
from cli.serving.stack import queues_of
from panel.broker import PROBE, fault_of, redis_client, refusal_code, try_work
from panel.server_urls import is_loopback, redis_tls
from panel.settings import Settings

MINIMUM_REDIS = (6, 2)

NEEDED: tuple[tuple[str | int, ...], ...] = (
    ("BRPOP", f"{PROBE}none", "0.01"),
    ("HGET", "unacked", "none"),
    ("HDEL", "unacked", "none"),
    ("ZREM", "unacked_index", "none"),
    ("ZRANGE", "unacked_index", 0, 0),
    ("GET", "unacked_mutex"),
    ("SMEMBERS", "_kombu.binding.sync"),
    ("SREM", "_kombu.binding.sync", "none"),
    ("ZRANGEBYSCORE", "_kombu.binding_deadlines", 1, 0),
    ("LLEN", "none.reply.celery.pidbox"),
    ("HSET", f"{PROBE}hash", "field", 1),
    ("ZADD", f"{PROBE}sorted", 1, "member"),
    ("SADD", f"{PROBE}set", "member"),
    ("SET", f"{PROBE}text", 1, "PX", 1000),
    ("RPUSH", f"{PROBE}list", 1),
    ("DEL", *(f"{PROBE}{kind}" for kind in ("hash", "sorted", "set", "text", "list"))),
    ("EVAL", "return 0", 0),
    ("SCRIPT", "EXISTS", "0" * 40),
    ("WATCH", f"{PROBE}none"),
    ("UNWATCH",),
    ("TIME",),
)
"""Besides the length of each queue: every command that Celery sends to Redis for the panel, on the same keys, in forms
that change nothing."""


def check_redis(settings: Settings) -> list[Check]:
    """Check that Redis takes work, grants all rights, is verified, new enough and durable, and evicts nothing."""
    client = redis_client(settings.redis_url, REDIS_TIMEOUT_S)
    try:
        try_work(client)
        checks = [Check("Redis", Verdict.OK, f"takes work at {place(settings.redis_url)}")]
        checks += [
            *_rights(client, settings.redis_url, queues_of(settings)),
            *redis_tls_check(settings.redis_url),
            *_information(client),
        ]
    except (redis.RedisError, OSError) as error:
        seen = f"{fault_of(error)}, at {place(settings.redis_url)}"
        return [Check("Redis", Verdict.PROBLEM, seen, "check REDIS_URL and the server; calls are accepted meanwhile")]
    finally:
        client.close()
    return checks


def _rights(client: redis.Redis, url: str, queues: Sequence[str]) -> list[Check]:
    """A problem if the user may not run some of the needed commands."""
    number = urlsplit(url).path.strip("/") or "0"
    lacking: list[str] = []
    lengths = [("LLEN", queue) for queue in queues]
    for command in (*NEEDED, *lengths, ("PUBLISH", f"/{number}.celeryev/none", "")):
        try:
            client.execute_command(*command)  # type: ignore[no-untyped-call]  # redis-py's
        except redis.ResponseError as error:
            if refusal_code(error) == "NOPERM":
                lacking.append(" ".join(map(str, command[:2])))
    lacking += _subscribing(client, number)
    if not lacking:
        return []
    mend = "grant the rights that docs/runtime.md lists under Redis"
    return [Check("Redis", Verdict.PROBLEM, f"the user may not: {', '.join(lacking)}", mend)]


def _subscribing(client: redis.Redis, number: str) -> list[str]:
    with client.pubsub() as listening:  # type: ignore[no-untyped-call]  # redis-py's
        try:
            listening.psubscribe(f"/{number}.celery.pidbox")
            listening.get_message(timeout=REDIS_TIMEOUT_S)
        except redis.ResponseError as error:
            return ["PSUBSCRIBE"] if refusal_code(error) == "NOPERM" else []
    return []


def _information(client: redis.Redis) -> list[Check]:
    """What INFO and TIME show. Without the right to INFO the panel still works, so that is only a note."""
    try:
        info: dict[str, Any] = client.info()
    except redis.ResponseError as error:
        seen = f"INFO is refused ({refusal_code(error)}): its version is not known, nor whether it keeps messages"
        checks = [Check("Redis", Verdict.NOTE, seen, "to have doctor check them, grant the user +info")]
    else:
        checks = [redis_version(info), *_redis_memory(info)]
    before = time.time()
    seconds, micros = client.time()
    return [*checks, clock_check("Redis", seconds + micros / 1e6 - (before + time.time()) / 2)]


def redis_version(info: dict[str, Any]) -> Check:
    """Judge the server's version."""
    version = str(info.get("redis_version", "0"))
    seen = f"version {version}"
    if tuple(int(part) for part in version.split(".")[:2]) < MINIMUM_REDIS:
        return Check("Redis", Verdict.PROBLEM, seen, "upgrade it to 6.2 or later")
    return Check("Redis", Verdict.OK, seen)


def _redis_memory(info: dict[str, Any]) -> list[Check]:
    checks = []
    if info.get("aof_enabled") != 1:
        mend = "set appendonly yes; without it a restart of Redis delays calls until they are published again"
        checks.append(Check("Redis", Verdict.WARNING, "appendonly is off", mend))
    if (policy := info.get("maxmemory_policy")) != "noeviction":
        mend = "set maxmemory-policy noeviction; an evicting Redis throws messages away"
        checks.append(Check("Redis", Verdict.WARNING, f"maxmemory-policy is {policy}", mend))
    return checks or [Check("Redis", Verdict.OK, "appendonly, noeviction")]


def redis_tls_check(url: str) -> list[Check]:
    """Judge whether Redis is verified before it gets the password."""
    bare, tls = redis_tls(url)
    if tls and tls["ssl_cert_reqs"] is not ssl.CERT_REQUIRED:
        mend = "take ssl_cert_reqs out of REDIS_URL; REDIS_CA_FILE names an authority of your own"
        return [Check("Redis", Verdict.WARNING, "its certificate is not verified", mend)]
    if not tls and not is_loopback(urlsplit(bare).hostname or "localhost"):
        mend = "use rediss://, unless the network to that host is yours alone"
        return [Check("Redis", Verdict.NOTE, "reached without TLS: its password travels in the clear", mend)]
    return []
