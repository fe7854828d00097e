"""Real servers for a benchmark: durable, as in production."""

from __future__ import annotations

import contextlib
import itertools
from pathlib import Path
from typing import Self

import psycopg

from panel.migrate import migrate
from runtime.servers.embedded_postgres import EmbeddedPostgres
from runtime.servers.embedded_redis import EmbeddedRedis


class Servers(contextlib.ExitStack):
    """PostgreSQL and Redis, started on entry and gone afterwards. ``quick``: measure little, and not long."""

    def __init__(self, directory: Path, *, quick: bool = False) -> None:
        super().__init__()
        self.directory, self.quick = directory, quick
        self.postgres = EmbeddedPostgres(directory / "postgres")
        self.redis = EmbeddedRedis(directory / "redis")
        self._numbers = itertools.count(1)

    def __enter__(self) -> Self:
        super().__enter__()
        for server in (self.postgres, self.redis):
            server.start()
            self.callback(server.destroy)
        return self

    @property
    def postgres_pid(self) -> int:
        """PostgreSQL's first process, the parent of all others."""
        found = (self.postgres.cluster_dir / "postmaster.pid").read_text(encoding="ascii")
        return int(found.partition("\n")[0])

    def fresh_redis(self) -> str:
        """The URL of a Redis of its own: two panels must not share their queues."""
        server = EmbeddedRedis(self.directory / f"redis-{next(self._numbers)}")
        server.start()
        self.callback(server.destroy)
        return server.url

    def empty_database(self) -> str:
        """The URL of a fresh database without tables."""
        name = f"bench_{next(self._numbers)}"
        with psycopg.connect(self.postgres.admin_url(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return self.postgres.admin_url(name)

    def database(self) -> str:
        """The URL of a fresh migrated database with user 5."""
        url = self.empty_database()
        migrate(url)
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("INSERT INTO users (id, username) VALUES (5, 'bench')")
        return url
