"""One PostgreSQL for many tests: migrated once into a template, cloned as often as tests need one at the same time.

A database that a test gives back is emptied for the next: to copy the template makes a thousand files.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql
from sqlalchemy import make_url
from sqlalchemy.ext.asyncio import AsyncEngine

from panel.deadlines import Deadlines
from panel.migrate import migrate
from panel.sessions import async_engine
from runtime.processes.free_ports import LOOPBACK
from runtime.servers.embedded_postgres import EmbeddedPostgres
from tests.support.keys import random_key
from tests.support.sockets import port_open
from tests.support.waiting import PATIENT_API_S, wait_until

OWNER = "panel_owner"
LOGIN = "panel_login"
TEMPLATE = "panel_template"


Connection = psycopg.Connection[tuple[object, ...]]


PATIENT = Deadlines(5 * PATIENT_API_S)
"""For whoever does not ask how fast an answer comes."""


@dataclass(frozen=True, slots=True)
class Database:
    """A migrated database of one test. ``app_url``: the application's login; ``owner_url``: the tables' owner.

    Neither is a superuser, so that row-level security and missing rights bite as they would in production.
    ``pooled_url``: the application's login through a pooler that gives each transaction another session, or None.
    """

    name: str
    app_url: str
    owner_url: str
    admin_url: str
    pooled_url: str | None = None

    @property
    def urls(self) -> dict[str, str]:
        """The settings by which a panel reaches it."""
        if self.pooled_url is None:
            return {"DATABASE_URL": self.app_url}
        return {"DATABASE_URL": self.pooled_url, "DATABASE_SESSION_URL": self.app_url}

    @property
    def fields(self) -> dict[str, str]:
        """The same, by the names of the fields of ``Settings``."""
        return {name.lower(): url for name, url in self.urls.items()}

    def api_engine(self, application: str, *, pool_size: int = 10, deadlines: Deadlines = PATIENT) -> AsyncEngine:
        """An engine as the API has it, but for its deadlines."""
        url, pooled = self.urls["DATABASE_URL"], self.pooled_url is not None
        return async_engine(url, application, pool_size=pool_size, deadlines=deadlines, pooled=pooled)


SCHEMA = """
SELECT md5(string_agg(line, '|' ORDER BY line)) FROM (
  SELECT concat('class', oid, relname, relnatts, relchecks, relhastriggers, relrowsecurity, relacl, reloptions) AS line
  FROM pg_class WHERE relnamespace = 'public'::regnamespace
  UNION ALL SELECT concat('column', attrelid, attname, atttypid, atttypmod, attnotnull, attacl) FROM pg_attribute
  JOIN pg_class c ON c.oid = attrelid WHERE c.relnamespace = 'public'::regnamespace
  UNION ALL SELECT concat('constraint', oid, conname, convalidated) FROM pg_constraint
  UNION ALL SELECT concat('trigger', oid, tgname, tgenabled) FROM pg_trigger
  UNION ALL SELECT concat('policy', oid, polname, polqual, polwithcheck) FROM pg_policy
  UNION ALL SELECT concat('index', indexrelid, indisvalid) FROM pg_index
  UNION ALL SELECT concat('function', oid, proname, prosrc, proacl) FROM pg_proc
  WHERE pronamespace = 'public'::regnamespace
  UNION ALL SELECT concat('namespace', nspname, nspacl) FROM pg_namespace WHERE nspname NOT LIKE 'pg\\_t%'
  UNION ALL SELECT concat('setting', setrole, setconfig) FROM pg_db_role_setting
  WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())) lines
"""
"""A database whose schema a test has changed is dropped, not used again. A copy has its template's object numbers."""

CUT_OFF = """
SELECT coalesce(bool_and(pg_terminate_backend(pid, 10000)), true) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""

TABLES = """
SELECT quote_ident(relname) FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace ORDER BY 1
"""

LARGE_BYTES = 256 * 1024

LARGE = f"""
SELECT quote_ident(relname) FROM pg_class
WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND pg_relation_size(oid) > {LARGE_BYTES}
"""

SEQUENCES = "SELECT quote_ident(sequencename), last_value FROM pg_sequences WHERE schemaname = 'public'"


class Databases:
    """The server and what is made on it. ``start`` costs a second or two, ``clone`` some hundredths at most."""

    def __init__(self, directory: Path) -> None:
        # Tests log in thousands of times: half of a login's cost is its password's hashing.
        self.server = EmbeddedPostgres(directory, durable=False, settings={"scram_iterations": "1"})
        self._owner_password = random_key()
        self._app_password = random_key()
        self._numbers = itertools.count(1)
        self._spare: list[Database] = []
        self._pristine = Pristine(schema="", rows={}, sequences={})
        self._pooler: str | None = None

    def start(self) -> None:
        """Start the server and migrate the template."""
        self.start_bare()
        self._create(TEMPLATE)
        template = self._describe(TEMPLATE)
        migrate(template.owner_url, template.app_url)
        with psycopg.connect(template.admin_url, autocommit=True) as connection:
            self._pristine = _pristine(connection)

    def start_bare(self) -> None:
        """Start the server, with a role that may own a database and nothing of the panel's."""
        self.server.start()
        with self._admin() as connection:
            connection.execute(
                sql.SQL("CREATE ROLE {} LOGIN CREATEROLE PASSWORD {}").format(
                    sql.Identifier(OWNER), sql.Literal(self._owner_password)
                )
            )

    @property
    def template_url(self) -> str:
        """The application's login, at the template."""
        return self._describe(TEMPLATE).app_url

    def behind(self, pooler_url: str) -> None:
        """From now on the API of every panel reaches its database through this pooler."""
        self._pooler = pooler_url

    def clone(self) -> Database:
        """What the template is, to the last sequence."""
        if self._pooler is not None:  # what the last test did may have ended it, and it is starting again
            wait_until(port_open(make_url(self._pooler).port or 0), "the pooler")
        if self._spare:
            return self._spare.pop()
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

    def give_back(self, database: Database) -> None:
        """Done with it: whoever is still connected is cut off, and the next test may have it, as good as new."""
        if self._pooler is not None:  # it may not have seen yet that its connections were cut off
            self.drop(database)
            return
        with psycopg.connect(database.admin_url, autocommit=True) as connection:
            alone = connection.execute(CUT_OFF).fetchone() == (True,)
            unchanged = alone and _schema(connection) == self._pristine.schema
            if unchanged:
                self._pristine.restore(connection)
        if unchanged:
            self._spare.append(database)
        else:
            self.drop(database)

    def drop(self, database: Database) -> None:
        """Drop it, whoever is still connected."""
        with self._admin() as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(database.name)))

    def destroy(self) -> None:
        """Stop the server and remove its files."""
        self.server.destroy()

    def server_connection(self, database: str) -> Connection:
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
        pooled = self._pooler and make_url(self._pooler).set(database=name).render_as_string(hide_password=False)
        return Database(
            name=name,
            app_url=f"postgresql://{LOGIN}:{self._app_password}@{place}",
            owner_url=f"postgresql://{OWNER}:{self._owner_password}@{place}",
            admin_url=self.server.admin_url(name),
            pooled_url=pooled,
        )

    def _admin(self) -> Connection:
        return psycopg.connect(self.server.admin_url(), autocommit=True)


@dataclass(frozen=True, slots=True)
class Pristine:
    """A migrated database that nobody has used. ``rows``: what the migrations wrote, by table, as COPY has it."""

    schema: str
    rows: dict[str, bytes]
    sequences: dict[str, int | None]

    def restore(self, connection: Connection) -> None:
        """Make the database at ``connection`` so again; its schema must be."""
        filled = {*self.rows, *_filled(connection)}
        large = filled & _large(connection)
        with connection.transaction():
            # TRUNCATE makes new files for a table, its indexes and its long values: too dear for a few rows.
            connection.execute("SET LOCAL session_replication_role = replica")
            for table in sorted(filled - large):
                connection.execute(f"DELETE FROM {table}".encode())
            if large:
                connection.execute(f"TRUNCATE {', '.join(sorted(large))} CASCADE".encode())
            for table, rows in self.rows.items():
                with connection.cursor().copy(f"COPY {table} FROM STDIN".encode()) as copy:
                    copy.write(rows)
            for sequence, last in _sequences(connection).items():
                if last != self.sequences[sequence]:
                    was = self.sequences[sequence]
                    connection.execute("SELECT setval(%s, %s, %s)", [sequence, was or 1, was is not None])


def _pristine(connection: Connection) -> Pristine:
    rows = {}
    for table in _tables(connection):
        with connection.cursor().copy(f"COPY {table} TO STDOUT".encode()) as copy:
            copied = b"".join(bytes(part) for part in copy)
        if copied:
            rows[table] = copied
    return Pristine(_schema(connection), rows, _sequences(connection))


def _schema(connection: Connection) -> str:
    row = connection.execute(SCHEMA).fetchone()
    assert row is not None
    return str(row[0])


def _tables(connection: Connection) -> list[str]:
    return [str(name) for (name,) in connection.execute(TABLES)]


def _filled(connection: Connection) -> list[str]:
    asked = " UNION ALL ".join(f"(SELECT '{table}' FROM {table} LIMIT 1)" for table in _tables(connection))
    return [str(name) for (name,) in connection.execute(asked.encode())]


def _large(connection: Connection) -> set[str]:
    return {str(name) for (name,) in connection.execute(LARGE.encode())}


def _sequences(connection: Connection) -> dict[str, int | None]:
    rows = connection.execute(SEQUENCES)
    return {str(name): None if last is None else int(str(last)) for name, last in rows}
