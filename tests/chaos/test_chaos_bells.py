"""Messages are doubled, reversed and kept back as the faults say: workers take from the right."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from redis import Redis

from chaos import bells
from runtime.embedded_redis import EmbeddedRedis


@pytest.fixture
def client(redis_server: EmbeddedRedis) -> Iterator[Redis]:
    with Redis.from_url(redis_server.url, socket_timeout=60) as made:
        made.flushall()
        for message in ("first", "second", "third"):
            made.lpush(bells.QUEUE, message)
        yield made


def taken(client: Redis) -> list[object]:
    """What a worker takes, in its order."""
    return list(iter(lambda: client.rpop(bells.QUEUE), None))


def test_the_last_comes_first_and_each_twice(client: Redis) -> None:
    assert bells.reverse_and_double(client) == 3
    assert bells.waiting(client) == 6
    assert taken(client) == [b"third", b"third", b"second", b"second", b"first", b"first"]


def test_what_was_kept_back_comes_in_its_order(client: Redis) -> None:
    kept = bells.keep_back(client)
    assert taken(client) == []
    bells.deliver(client, kept)
    bells.deliver(client, [])
    assert taken(client) == [b"first", b"second", b"third"]


def test_a_bell_is_a_message_or_an_error(client: Redis, redis_server: EmbeddedRedis) -> None:
    client.flushall()
    bells.ring(redis_server.url, [7, 8])
    assert bells.waiting(client) == 2
    redis_server.kill()
    with pytest.raises(bells.BrokerAwayError):
        bells.ring(redis_server.url, [9])
    redis_server.start()
    bells.ring(redis_server.url, [9])
    with Redis.from_url(redis_server.url, socket_timeout=60) as again:
        assert bells.waiting(again) >= 1
