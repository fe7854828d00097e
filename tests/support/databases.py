"""One PostgreSQL for many tests: migrated once into a template, cloned for each."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from panel.migrate import migrate
from runtime.embedded_postgres import EmbeddedPostgres
from runtime.ports import LOOPBACK
from tests.support.keys import random_key

OWNER = "panel_owner"
LOGIN = "panel_login"
TEMPLATE = "panel_template"


@dataclass(frozen=True, slots=True)
class Database:
    """A migrated database of one test. ``app_url``: the application's login; ``owner_url``: the tables' owner.

    Neither is a superuser, so that row-level security and missing rights bite as they would in production.
    """

    name: str
    app_url: str
    owner_url: str
    admin_url: str


class Databases:
    """The server and what is made on it. ``start`` costs a second or two, ``clone`` some hundredths."""

    def __init__(self, directory: Path) -> None:
        self.server = EmbeddedPostgres(directory, durable=False)
        self._owner_password = random_key()
        self._app_password = random_key()
        self._numbers = itertools.count(1)

    def start(self) -> None:
        """Start the server and migrate the template."""
        self.start_bare()
        self._create(TEMPLATE)
        template = self._describe(TEMPLATE)
        migrate(template.owner_url, template.app_url)

    def start_bare(self) -> None:
        """Start the server, with a role that may own a database and nothing of the panel's."""
        self.server.start()
        with self._admin() as connection:
            connection.execute(
                sql.SQL("CREATE ROLE {} LOGIN CREATEROLE PASSWORD {}").format(
                    sql.Identifier(OWNER), sql.Literal(self._owner_password)
                )
            )

    def clone(self) -> Database:
        """A fresh copy of the template."""
        database = self._describe(f"test_{next(self._numbers)}")
        self._create(database.name, TEMPLATE)
        name = sql.Identifier(database.name)
        with self._admin() as connection:  # a copy has the rights to everything in the database, but not those to it
            connection.execute(sql.SQL("GRANT TEMPORARY ON DATABASE {} TO panel_app").format(name))
            connection.execute(sql.SQL("REVOKE TEMPORARY ON DATABASE {} FROM PUBLIC").format(name))
        return database

    def empty(self) -> Database:
        """A fresh database without any tables, for tests of the migrations themselves."""
        database = self._describe(f"test_{next(self._numbers)}")
        self._create(database.name)
        return database

    def drop(self, database: Database) -> None:
        """Drop it, whoever is still connected."""
        with self._admin() as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(database.name)))

    def destroy(self) -> None:
        """Stop the server and remove its files."""
        self.server.destroy()

    def server_connection(self, database: str) -> psycopg.Connection[tuple[object, ...]]:
        """A superuser's connection to one of them, for what no role of the panel may do."""
        return psycopg.connect(self.server.admin_url(database), autocommit=True)

    def _create(self, name: str, template: str = "template1") -> None:
        # Files are copied, not logged: half of the time for each of a thousand tests.
        with self._admin() as connection:
            connection.execute(
                sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE {} STRATEGY FILE_COPY").format(
                    sql.Identifier(name), sql.Identifier(OWNER), sql.Identifier(template)
                )
            )

    def _describe(self, name: str) -> Database:
        place = f"{LOOPBACK}:{self.server.port}/{name}"
        return Database(
            name=name,
            app_url=f"postgresql://{LOGIN}:{self._app_password}@{place}",
            owner_url=f"postgresql://{OWNER}:{self._owner_password}@{place}",
            admin_url=self.server.admin_url(name),
        )

    def _admin(self) -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(self.server.admin_url(), autocommit=True)
