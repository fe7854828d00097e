"""Samples of a running panel: memory of each process, connections of PostgreSQL and Redis. What they show, pure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import redis
from sqlalchemy import text

from runtime.processes.children import descendants
from tests.support.live_panel import LivePanel
from tests.support.resources import resident_bytes

MB = 2**20
CONNECTIONS = text(
    "SELECT application_name, count(*) FROM pg_stat_activity"
    " WHERE datname = current_database() AND application_name LIKE 'panel-sync%' AND application_name <> :own"
    " GROUP BY 1"
)


@dataclass(frozen=True, slots=True)
class Sample:
    """One look. ``at_s``: seconds since the load began; memory in bytes by process, connections by who has them."""

    at_s: float
    resident: Mapping[str, int]
    connections: Mapping[str, int]


@dataclass(slots=True)
class Measured:
    """All looks, and the sentences of what is wrong with them."""

    samples: list[Sample] = field(default_factory=list)

    def look(self, panel: LivePanel, at_s: float) -> None:
        """Add a sample."""
        resident = {}
        for process in panel.supervisor.processes:
            for pid in (process.pid, *sorted(descendants(process.pid))):
                try:
                    resident[f"{process.name} {pid}"] = resident_bytes(pid)
                except (FileNotFoundError, ProcessLookupError):
                    continue  # ended between the two looks
        with panel.engine.connect() as connection:
            found = connection.execute(CONNECTIONS, {"own": "panel-sync test"})
            connections = {f"postgresql: {row[0]}": int(row[1]) for row in found}
        with redis.Redis.from_url(panel.redis.url) as client:
            connections["redis"] = int(client.info("clients")["connected_clients"]) - 1  # but for this one
        self.samples.append(Sample(at_s, resident, connections))

    def after(self, warm_up_s: float) -> Measured:
        """The samples from then on."""
        return Measured([sample for sample in self.samples if sample.at_s >= warm_up_s])

    def slopes(self) -> dict[str, float]:
        """Bytes a second, of each process that was there all the time."""
        steady = set.intersection(*(set(sample.resident) for sample in self.samples))
        times = [sample.at_s for sample in self.samples]
        return {
            name: statistics.linear_regression(times, [s.resident[name] for s in self.samples]).slope
            for name in sorted(steady)
        }

    def grown_connections(self) -> list[str]:
        """Whose connections grew for good: the fewest of the last quarter are more than the most of the first half.

        A pool that opens another connection for a moment, and closes it, has not grown.
        """
        half, quarter = len(self.samples) // 2, len(self.samples) // 4
        early, late = _most(self.samples[:half]), _fewest(self.samples[-quarter:])
        return [
            f"{name}: {early.get(name, 0)} -> {count}" for name, count in late.items() if count > early.get(name, 0)
        ]

    def table(self) -> str:
        """For people: first and last size and slope of each process, connections from the fewest to the most."""
        slopes = self.slopes()
        first, last = self.samples[0], self.samples[-1]
        lines = [f"{'process':32} {'first MB':>9} {'last MB':>9} {'MB/10 min':>10}"]
        for name, slope in slopes.items():
            sizes = f"{first.resident[name] / MB:9.1f} {last.resident[name] / MB:9.1f}"
            lines.append(f"{name:32} {sizes} {slope * 600 / MB:10.2f}")
        fewest, most = _fewest(self.samples), _most(self.samples)
        lines += [f"{name:48} {fewest[name]} to {most[name]} connections" for name in sorted(most)]
        return "\n".join(lines)


def _most(samples: Sequence[Sample]) -> dict[str, int]:
    return {name: max(counts) for name, counts in _connections(samples).items()}


def _fewest(samples: Sequence[Sample]) -> dict[str, int]:
    return {name: min(counts) for name, counts in _connections(samples).items()}


def _connections(samples: Sequence[Sample]) -> dict[str, list[int]]:
    names = {name for sample in samples for name in sample.connections}
    return {name: [sample.connections.get(name, 0) for sample in samples] for name in names}


def open_files(pid: int) -> int:
    """How many file descriptors a process has."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))
