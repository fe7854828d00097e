"""Messages to workers as a faulty queue delivers them: doubled, reordered, lost or late."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from redis import Redis

from panel.journal.publish import CeleryPublisher, producer_app
from panel.journal.relay import Doorbell

QUEUE = "sync"


class BrokerAwayError(Exception):
    """Any fault of the broker: kombu, redis and the socket have different errors."""


def ring(redis_url: str, operations: Iterable[int]) -> None:
    """Send one message for each of these calls, in this order. Raises BrokerAwayError: any of them may have arrived."""
    bells = [Doorbell("sync.apply", operation, f"op={operation}") for operation in operations]
    with producer_app(redis_url) as app:
        try:
            CeleryPublisher(app).publish(bells)
        except Exception as error:
            raise BrokerAwayError from error


def waiting(client: Redis) -> int:
    """How many messages no worker has taken yet."""
    return client.llen(QUEUE)


def reverse_and_double(client: Redis) -> int:
    """Make each waiting message come twice, the last one first. Returns how many waited."""
    return cast("int", client.eval(_REVERSE, 1, QUEUE))


def keep_back(client: Redis) -> list[bytes]:
    """Take away all waiting messages, oldest first."""
    return cast("list[bytes]", client.eval(_KEEP_BACK, 1, QUEUE))


def deliver(client: Redis, messages: list[bytes]) -> None:
    """Deliver these messages now."""
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
