"""Faults of the queue between relay and workers: messages that are doubled, reordered, lost or late."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from redis import Redis

from panel.journal.publish import CeleryPublisher, Doorbell, producer_app

QUEUE = "sync"


class BrokerAwayError(Exception):
    """Any fault of the broker. kombu, redis and the socket raise different errors; this one stands for all of them."""


def ring(redis_url: str, operations: Iterable[int]) -> None:
    """Send a message for each of the operations, in this order. After a BrokerAwayError some may have arrived."""
    bells = [Doorbell("sync.apply", operation, f"op={operation}") for operation in operations]
    with producer_app(redis_url) as app:
        try:
            CeleryPublisher(app).publish(bells)
        except Exception as error:
            raise BrokerAwayError from error


def waiting(client: Redis) -> int:
    """How many messages wait for a worker."""
    return client.llen(QUEUE)


def reverse_and_double(client: Redis) -> int:
    """Double each waiting message and reverse their order. Returns how many messages waited."""
    return cast("int", client.eval(_REVERSE, 1, QUEUE))


def keep_back(client: Redis) -> list[bytes]:
    """Remove all waiting messages, and return them, the oldest first."""
    return cast("list[bytes]", client.eval(_KEEP_BACK, 1, QUEUE))


def deliver(client: Redis, messages: list[bytes]) -> None:
    """Put these messages into the queue."""
    if messages:
        client.lpush(QUEUE, *messages)


# The newest message is the leftmost; workers take from the right.
_REVERSE = """
local there = redis.call('LRANGE', KEYS[1], 0, -1)
redis.call('DEL', KEYS[1])
for i = #there, 1, -1 do
  redis.call('RPUSH', KEYS[1], there[i], there[i])
end
return #there
"""
_KEEP_BACK = """
local there = redis.call('LRANGE', KEYS[1], 0, -1)
redis.call('DEL', KEYS[1])
local oldest_first = {}
for i = #there, 1, -1 do
  oldest_first[#oldest_first + 1] = there[i]
end
return oldest_first
"""
