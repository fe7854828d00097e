"""Reconcile runs against downloading the same bytes, COPY, and one FULL JOIN, each in a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg

from benchmarks.measure import Aim, Point, Ratio, median, median_ratio
from benchmarks.measuring.processes import cpu_used
from benchmarks.servers import Servers
from benchmarks.sweeping_fleet import clusters_of, drift, fill

OF_A_RUN = ("runs", "snapshots", "scopes", "leases", "source_states")
"""The tables in which every run writes rows of its own: one for each node, two for each cluster, a few for itself."""

LANES = {"full": ("join", 4.0), "delta": ("join", 3.0), "fast": ("download", 3.0)}
"""The yardstick of each kind of run, and how many times as long it may take."""
DRIFTS = (("0.1 %", 1000, 5.0), ("5 %", 20, 12.0))
"""Share, every which record, and how many times as long as the yardstick it may take to mend them."""
DRIFT_AT_MOST = 100_000
"""Of a larger fleet, 5 % takes a dozen runs of minutes: a run loads no more candidates than its budget allows."""
PEAK_MB = 300
DEARER = 1.2
"""How many times the CPU of a record of the smallest fleet a record of a larger one may cost."""


def measure(servers: Servers) -> Iterator[Ratio]:
    """Seconds of each kind of run, how much memory they take, and how many rows they write."""
    given = os.environ.get("SWEEP", "10000" if servers.quick else "10000,100000,1000000")
    smallest: tuple[str, float] | None = None
    for machines in map(int, given.split(",")):
        full = yield from _of(servers, machines)
        record_us = median([(run["cpu_s"] + run["postgres_cpu_s"]) / machines * 1e6 for run in full])
        if smallest is None:
            smallest = _short(machines), record_us
            continue
        what = f"CPU of a record, full run in sync of {_short(machines)} / of {smallest[0]} (times dearer)"
        ratio = record_us / smallest[1]
        yield Ratio(what, f"{record_us:.0f} us", f"{smallest[1]:.0f} us", ratio, aim=Aim("<=", DEARER))


def _of(servers: Servers, machines: int) -> Generator[Ratio, None, list[dict[str, Any]]]:
    """All rows of one size; returns its full runs in sync."""
    url, size = servers.database(), _short(machines)
    fill(url, machines)
    with sources(machines) as port:
        fleet = Fleet(url, port, machines, servers.postgres_pid)
        fleet.run("full")  # the first one writes what a panel of this size remembers of each source
        pairs = 3 if machines <= 100_000 and not servers.quick else 1
        peak_mb, written, runs = 0.0, 0, dict[str, list[dict[str, Any]]]()
        for lane, (yardstick, limit) in LANES.items():
            ours, theirs = _in_turn(fleet, lane, yardstick, pairs)
            runs[lane] = ours
            yield _ratio(f"{lane} run in sync of {size}", ours, theirs, Aim("<=", limit), machines)
            peak_mb = max(peak_mb, *(took["peak_mb"] for took in ours))
            written += sum(took["written"] for took in ours)
        yield Ratio(f"peak memory of the runs of {size}", f"{peak_mb:.0f} MB", "", None,
                    aim=Aim("<=", PEAK_MB, " MB"), judged=peak_mb)  # fmt: skip
        yield Ratio(f"rows written by the runs of {size} beside their own", f"{written:,}", "", None,
                    aim=Aim("<=", 0), judged=written)  # fmt: skip
        for share, every, limit in DRIFTS if machines <= DRIFT_AT_MOST else ():
            drift(url, every)
            mended, theirs = [fleet.mend()], [fleet.run("join")]
            checked(theirs[0]["differ"] == 0, theirs[0])
            yield _ratio(f"drift of {share} of {size}, mended by a full run", mended, theirs, Aim("<=", limit))
    return runs["full"]


def _in_turn(fleet: Fleet, lane: str, yardstick: str, pairs: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    ours, theirs = [], []
    for _ in range(pairs):
        ours.append(fleet.run(lane))
        checked(ours[-1]["summary"] == "nothing to repair" and not ours[-1]["problems"], ours[-1])
        theirs.append(fleet.run(yardstick))
        checked(theirs[-1].get("differ", 0) == 0, theirs[-1])
    return ours, theirs


@dataclass(slots=True)
class Fleet:
    """A panel's database and its sources."""

    url: str
    port: int
    machines: int
    postgres_pid: int
    environment: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        root, clusters = f"http://127.0.0.1:{self.port}", clusters_of(self.machines)
        settings = {
            "session_url": self.url, "database_url": self.url, "main_site_url": root, "main_site_api_key": "k" * 40,
            "user_id_space": "mapped", "sync_budget": None,
            "proxmox_clusters": [
                {"name": f"c{n}", "urls": [f"{root}/c{n}"], "token_id": "bench@pve!t", "token_secret": "s" * 36}
                for n in range(clusters)
            ],
        }  # fmt: skip
        self.environment = {
            **os.environ, "SWEEP_URL": root, "SWEEP_DATABASE": self.url, "SWEEP_CLUSTERS": str(clusters),
            "SWEEP_SETTINGS": json.dumps(settings),
        }  # fmt: skip

    def run(self, lane: str) -> dict[str, Any]:
        """One run in a process of its own: what it says, and how many rows it wrote beside its own."""
        before = self._written()
        command = [sys.executable, "-m", "benchmarks.sweeping_process", lane]
        with cpu_used([self.postgres_pid]) as postgres:
            done = subprocess.run(command, env=self.environment, stdout=subprocess.PIPE, text=True, check=True)  # noqa: S603 - own module
        said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return said | {"written": self._written() - before, "postgres_cpu_s": postgres.cpu_s}

    def mend(self) -> dict[str, Any]:
        """Full runs until one leaves nothing to the next: what they took together."""
        runs = [self.run("full")]
        while runs[-1]["counts"]["cut"]:
            runs.append(self.run("full"))
        return {name: sum(run[name] for run in runs) for name in ("s", "cpu_s", "postgres_cpu_s")}

    @staticmethod
    def cpu(runs: Sequence[dict[str, Any]]) -> str:
        """CPU seconds of a run: of its process, and of PostgreSQL."""
        own, postgres = (median([run[name] for run in runs]) for name in ("cpu_s", "postgres_cpu_s"))
        return f"{own:.2f} + {postgres:.2f}"

    @staticmethod
    def cpu_ratio(ours: Sequence[dict[str, Any]], theirs: Sequence[dict[str, Any]]) -> float:
        """Both parts of ours over both of the yardstick's."""
        return median_ratio(*([run["cpu_s"] + run["postgres_cpu_s"] for run in runs] for runs in (ours, theirs)))

    def _written(self) -> int:
        with psycopg.connect(self.url, autocommit=True) as connection:
            row = connection.execute(WRITTEN, {"own": list(OF_A_RUN)}).fetchone()
        return 0 if row is None else int(row[0] or 0)


WRITTEN = (
    "SELECT sum(n_tup_ins + n_tup_upd + n_tup_del) FROM pg_stat_user_tables"
    " WHERE schemaname = 'public' AND NOT relname = ANY(%(own)s)"
)


@contextlib.contextmanager
def sources(machines: int) -> Iterator[int]:
    """The port of a main site and clusters that answer at once."""
    command = [sys.executable, "-m", "benchmarks.sweeping_sources", str(machines)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:  # noqa: S603 - own module
        try:
            yield int((server.stdout.readline() if server.stdout else "") or 0)
        finally:
            server.kill()


def checked(well: bool, said: dict[str, Any]) -> None:
    """End the bench if the panel is not what its model is."""
    if not well:
        raise RuntimeError(f"the fleet is not what it should be: {said}")


def _ratio(
    what: str, ours: list[dict[str, Any]], theirs: list[dict[str, Any]], aim: Aim, machines: int | None = None
) -> Ratio:
    seconds, yardstick = [took["s"] for took in ours], [took["s"] for took in theirs]
    cpu = f"{Fleet.cpu(ours)} / {Fleet.cpu(theirs)}"
    series = what.partition(" of ")[0]
    return Ratio(
        what, _s(median(seconds)), _s(median(yardstick)), median_ratio(seconds, yardstick), aim, cpu=f"{cpu} s",
        cpu_ratio=Fleet.cpu_ratio(ours, theirs),
        point=None if machines is None else Point(series, machines, median(seconds), median(yardstick)),
    )  # fmt: skip


def _s(seconds: float) -> str:
    return f"{seconds:.2f} s"


def _short(machines: int) -> str:
    return f"{machines // 1000}k" if machines < 1_000_000 else f"{machines / 1_000_000:g}M"
