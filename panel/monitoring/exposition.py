"""The text that Prometheus reads: the numbers of the processes, and what else is given."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector

from panel.monitoring.instruments import REGISTRY, RESERVED
from panel.monitoring.process_files import read_together

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4


class ProcessNumbers(Collector):
    """What this process counted, or all that share its directory. Besides it shows the metrics in ``more``."""

    def __init__(self, more: Iterable[Metric] = ()) -> None:
        self._more = tuple(more)

    def collect(self) -> Iterable[Metric]:
        """All metrics now. Raises BusyError if another scrape does not end."""
        directory = RESERVED.directory
        own = REGISTRY.collect() if directory is None else read_together(directory)
        return chain(own, self._more)


def as_text(more: Iterable[Metric] = ()) -> bytes:
    """All metrics in Prometheus' text format. Reads files, so it belongs into a thread. Raises BusyError."""
    return generate_latest(registry_of(more))


def registry_of(more: Iterable[Metric] = ()) -> CollectorRegistry:
    """A registry that shows them, for the library's own listener."""
    registry = CollectorRegistry()
    registry.register(ProcessNumbers(more))
    return registry
