"""Publishing: the relay's batches against one send_task per operation over the same connection pool."""

from __future__ import annotations

import time

import redis

from benchmarks.measure import Ratio
from benchmarks.servers import Servers
from panel.journal.publish import CeleryPublisher, producer_app
from panel.journal.relay import Doorbell

MESSAGES = 5_000
BATCH = 500


def measure(servers: Servers) -> list[Ratio]:
    """Messages per second."""
    app = producer_app(servers.redis.url)
    publisher = CeleryPublisher(app)
    bells = [Doorbell("sync.apply", i, f"op={i} vps=1 update") for i in range(MESSAGES)]
    publisher.publish(bells[:10])  # connections and pools are made before the clock runs
    batched = _rate(publisher, bells, BATCH, servers.redis.url)
    single = _rate(publisher, bells, 1, servers.redis.url)
    what = "messages published per second (batches of 500 / one by one)"
    return [Ratio(what, f"{batched:.0f}/s", f"{single:.0f}/s", batched / single)]


def _rate(publisher: CeleryPublisher, bells: list[Doorbell], size: int, redis_url: str) -> float:
    began = time.perf_counter()
    for first in range(0, len(bells), size):
        publisher.publish(bells[first : first + size])
    rate = len(bells) / (time.perf_counter() - began)
    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
    return rate
