"""Messages are doubled, reversed and kept back as the faults say: workers take from the right."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from redis import Redis

from lab.chaos import message_faults
from runtime.servers.embedded_redis import EmbeddedRedis


@pytest.fixture
def client(redis_server: EmbeddedRedis) -> Iterator[Redis]:
    with Redis.from_url(redis_server.url, socket_timeout=60) as made:
        made.flushall()
        for message in ("first", "second", "third"):
            made.lpush(message_faults.QUEUE, message)
        yield made


def taken(client: Redis) -> list[object]:
    """What a worker takes, in its order."""
    return list(iter(lambda: client.rpop(message_faults.QUEUE), None))


def test_the_last_comes_first_and_each_twice(client: Redis) -> None:
    assert message_faults.reverse_and_double(client) == 3
    assert message_faults.waiting(client) == 6
    assert taken(client) == [b"third", b"third", b"second", b"second", b"first", b"first"]


def test_what_was_kept_back_comes_in_its_order(client: Redis) -> None:
    kept = message_faults.keep_back(client)
    assert taken(client) == []
    message_faults.deliver(client, kept)
    message_faults.deliver(client, [])
    assert taken(client) == [b"first", b"second", b"third"]


def test_a_bell_is_a_message_or_an_error(client: Redis, redis_server: EmbeddedRedis) -> None:
    client.flushall()
    message_faults.ring(redis_server.url, [7, 8])
    assert message_faults.waiting(client) == 2
    redis_server.kill()
    with pytest.raises(message_faults.BrokerAwayError):
        message_faults.ring(redis_server.url, [9])
    redis_server.start()
    message_faults.ring(redis_server.url, [9])
    with Redis.from_url(redis_server.url, socket_timeout=60) as again:
        assert message_faults.waiting(again) >= 1
