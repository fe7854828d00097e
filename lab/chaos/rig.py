"""The running parts, and ways to kill, freeze, cut off and inspect them."""

from __future__ import annotations

import math
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy import Engine, make_url, text
from sqlalchemy.exc import DBAPIError

from lab.chaos import message_faults
from lab.chaos.phases import Failing
from lab.chaos.poison import Poisoner
from lab.chaos.proofs.beats import BeatWatch
from lab.chaos.tcp_proxy import TcpProxy
from lab.simulators.main_site.verbs import MainSiteVerbs
from lab.simulators.proxmox.verbs import ProxmoxVerbs
from panel.settings import Settings
from runtime.errors import RuntimeFaultError
from runtime.processes.supervisor import ManagedProcess, Supervisor
from runtime.servers.embedded_postgres import EmbeddedPostgres
from runtime.servers.embedded_redis import EmbeddedRedis


@dataclass(slots=True)
class Rig:
    """API, workers, beats, PostgreSQL, Redis and the simulated outside. Only one thread acts on the parts.

    ``database``: as superuser, because chaos cuts other logins' connections. ``proxy``: the panel's only way to Redis.
    ``api_away``: from each kill of the API until it listens again, in seconds of the monotonic clock.
    """

    settings: Settings
    outside: Supervisor
    parts: Supervisor
    postgres: EmbeddedPostgres
    redis: EmbeddedRedis
    proxy: TcpProxy
    site: MainSiteVerbs
    clusters: Mapping[str, ProxmoxVerbs]
    database: Engine
    beats: BeatWatch
    directory: Path
    kills: int = 0
    database_frozen: bool = False  # a query would wait for a thaw that perhaps this thread must do
    killed_beats: list[tuple[int, float]] = field(default_factory=list)
    api_away: list[Failing] = field(default_factory=list)
    kept_back: list[bytes] = field(default_factory=list)  # messages
    poisoner: Poisoner | None = None
    next_panel_id: int = 1001
    next_world: int = 1

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.settings.port}"

    def check(self) -> None:
        """Restart parts that died, as a supervisor does. Raises if a simulator died: chaos never kills these."""
        self.outside.check()
        self.parts.check()
        self.beats.know({process.pid: process.log_path for process in self.named("beat") if process.running})
        if self.api_away and self.api_away[-1].until == math.inf and self._listens():
            self.api_away[-1] = replace(self.api_away[-1], until=time.monotonic())

    def _listens(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.settings.port), timeout=0.5):
            return True
        return False

    def named(self, prefix: str) -> list[ManagedProcess]:
        """The parts whose names begin with ``prefix``."""
        return [process for process in self.parts.processes if process.name.startswith(prefix)]

    def pick(self, prefix: str, choice: int) -> ManagedProcess:
        """One of the parts whose names begin with ``prefix``."""
        parts = self.named(prefix)
        return parts[choice % len(parts)]

    def reconcilers(self) -> list[ManagedProcess]:
        """The workers that take runs."""
        return [p for p in self.named("worker") if any("reconcile" in part for part in p.argv if "--queues" in part)]

    def active_beat(self) -> ManagedProcess:
        """The beat that schedules, or the first beat while none is known to schedule."""
        beats = self.named("beat")
        return next((b for b in beats if b.running and b.pid == self.beats.active), beats[0])

    def kill(self, process: ManagedProcess) -> None:
        """SIGKILL the process and its children, if it runs."""
        if process.running:
            pid = process.pid
            with suppress(RuntimeFaultError):
                at = time.monotonic()
                process.kill()
                self.kills += 1
                if process.name.startswith("api"):
                    self.api_away.append(Failing("api", at, math.inf))
            if process.name.startswith("beat") and pid == self.beats.active:
                self.killed_beats.append((pid, time.time()))

    def cut_connections(self, application: str = "panel-sync%") -> int:
        """Terminate the sessions whose application_name is LIKE ``application``. Returns how many."""
        if self.database_frozen:
            return 0
        try:
            with self.database.begin() as connection:
                return len(connection.execute(CUT, {"application": application}).all())
        except DBAPIError:
            return 0

    def flush_redis(self) -> None:
        """Delete everything in Redis."""
        with self._at_redis() as client:
            client.flushall()

    def limit_connections(self, most: int) -> None:
        """Limit the connections of the panel's login; -1: no limit."""
        login = make_url(self.settings.database_url).username
        with self.database.begin() as connection:
            connection.execute(text(f'ALTER ROLE "{login}" CONNECTION LIMIT {most}'))

    def hold_workers(self) -> None:
        """Freeze all workers, and cut their sessions, so that they take no message and hold no lock."""
        for worker in self.named("worker"):
            if worker.running:
                worker.pause()
        self.cut_connections("panel-sync worker")

    def release_workers(self) -> None:
        """Let the workers continue."""
        for worker in self.named("worker"):
            worker.resume()

    def shuffle_messages(self) -> None:
        """Double the waiting messages and reverse their order."""
        with self._at_redis() as client:
            message_faults.reverse_and_double(client)

    def keep_messages_back(self) -> None:
        """Keep the waiting messages back until ``deliver_messages``."""
        with self._at_redis() as client:
            self.kept_back += message_faults.keep_back(client)

    def deliver_messages(self) -> int:
        """Deliver the messages that were kept back. Returns how many."""
        kept, self.kept_back = self.kept_back, []
        with self._at_redis() as client:
            message_faults.deliver(client, kept)
        return len(kept)

    @contextmanager
    def _at_redis(self) -> Iterator[Redis]:
        """A client that bypasses the proxy. An error of Redis ends the block and is not raised."""
        with suppress(RedisError), Redis.from_url(self.redis.url, socket_timeout=5) as client:
            yield client

    def kill_parts(self) -> None:
        """Kill every part of the panel."""
        for part in self.parts.processes:
            if part.running:
                part.kill()

    def thaw(self) -> None:
        """Let everything that was frozen continue."""
        for part in self.parts.processes:
            part.resume()
        for server in (self.redis, self.postgres):
            server.resume()
        self.database_frozen = False

    def calm(self) -> None:
        """End every fault: thaw frozen parts, start servers that are down, clear the simulators' faults."""
        self.thaw()
        self.proxy.heal()
        for server in (self.redis, self.postgres):
            server.start()
        self.limit_connections(-1)
        self.site.clear_faults()
        for cluster in self.clusters.values():
            cluster.clear_faults()


CUT = text(
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE application_name LIKE :application AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
)
