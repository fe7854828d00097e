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
    """PostgreSQL and Redis, started on entry and gone afterwards."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self.postgres = EmbeddedPostgres(directory / "postgres")
        self.redis = EmbeddedRedis(directory / "redis")
        self._numbers = itertools.count(1)

    def __enter__(self) -> Self:
        super().__enter__()
        for server in (self.postgres, self.redis):
            server.start()
            self.callback(server.destroy)
        return self

    def database(self) -> str:
        """The URL of a fresh migrated database with user 5."""
        name = f"bench_{next(self._numbers)}"
        with psycopg.connect(self.postgres.admin_url(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        url = self.postgres.admin_url(name)
        migrate(url)
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("INSERT INTO users (id, username) VALUES (5, 'bench')")
        return url
