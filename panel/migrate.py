"""Migrates a database to the tables of this version, and makes the roles and the application's login.

Only migrations need the owner's connection. The role ``panel_app`` may read and write rows but not change tables.
Row-level security lets ``panel_client`` see the client's own records only.
"""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, text
from sqlalchemy.engine import make_url

from panel.server_urls import sqlalchemy_url
from panel.sessions import NoSessionError, driver_connection, plain_engine, require_session

MIGRATION_LOCK = 0x70616E656C  # one migration at a time


def alembic_config() -> Config:
    """Alembic's configuration, without an ini file and without a URL."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).resolve().parent.parent / "migrations"))
    config.set_main_option("path_separator", "os")
    return config


def migrate(owner_url: str, app_url: str = "", revision: str = "head") -> str:
    """Migrate to ``revision`` as the owner, and grant the application's login what it needs.

    If ``app_url`` names another user than the owner, that login is created if it is missing (its password is sent as a
    SCRAM verifier) and made a member of ``panel_app``. Returns the revision that the database is at afterwards.
    """
    engine = plain_engine(owner_url, "panel-sync migrate")
    try:
        with engine.connect() as connection:
            _require_session(connection)
            _require_utf8(connection)
            connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": MIGRATION_LOCK})
            connection.commit()
            try:
                _ensure_roles(connection)
                config = alembic_config()
                config.attributes["connection"] = connection
                command.upgrade(config, revision)
                keep_temporary_tables(connection)
                connection.commit()
                if app_url:
                    _ensure_login(connection, app_url)
            finally:
                connection.rollback()
                connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": MIGRATION_LOCK})
                connection.commit()
        return current_revision(engine) or ""
    finally:
        engine.dispose()


def current_revision(engine: Engine) -> str | None:
    """The revision a database is at; None for an empty database."""
    with engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def head_revision() -> str:
    """The revision that this version of the code needs."""
    return ScriptDirectory.from_config(alembic_config()).get_current_head() or ""


def keep_temporary_tables(connection: Connection) -> None:
    """Let only the application make temporary tables in this database: it reads its sources into such tables.

    Every migration does this, and it has no revision of its own: a copy or a dump of a database loses these rights.
    """
    name = connection.scalar(text("SELECT current_database()"))
    database = connection.dialect.identifier_preparer.quote_identifier(str(name))
    connection.exec_driver_sql(f"GRANT TEMPORARY ON DATABASE {database} TO panel_app")
    connection.exec_driver_sql(f"REVOKE TEMPORARY ON DATABASE {database} FROM PUBLIC")


class MigrationRefusedError(Exception):
    """The database cannot be migrated as it is. The message is one sentence with the remedy."""


def _require_session(connection: Connection) -> None:
    """Behind a transaction pooler the lock would stay in another session, and the next migration wait for ever."""
    try:
        require_session(driver_connection(connection))
    except NoSessionError:
        raise MigrationRefusedError(str(NoSessionError("DATABASE_OWNER_URL"))) from None


def _require_utf8(connection: Connection) -> None:
    encoding = connection.scalar(text("SHOW server_encoding"))
    if encoding != "UTF8":
        raise MigrationRefusedError(
            f"the database's encoding is {encoding}, but names need UTF8: create it with ENCODING 'UTF8'"
        )


def _ensure_roles(connection: Connection) -> None:
    for role in ("panel_app", "panel_client"):
        exists = connection.scalar(text("SELECT 1 FROM pg_roles WHERE rolname = :r"), {"r": role})
        if not exists:
            # Tests migrate two databases of one server at the same time. The slower one finds that the role exists.
            connection.execute(
                text(
                    f"DO $$ BEGIN CREATE ROLE {role} NOLOGIN; "
                    "EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$"
                )
            )
    connection.execute(
        text("DO $$ BEGIN GRANT panel_client TO panel_app; EXCEPTION WHEN unique_violation THEN NULL; END $$")
    )
    connection.commit()


def _ensure_login(connection: Connection, app_url: str) -> None:
    url = make_url(sqlalchemy_url(app_url))
    user, owner = url.username or "", connection.scalar(text("SELECT current_user"))
    driver = connection.connection.driver_connection
    if driver is None:
        raise RuntimeError("no driver connection")
    quoted = connection.dialect.identifier_preparer.quote_identifier(user)
    if user and user != owner:
        exists = connection.scalar(text("SELECT 1 FROM pg_roles WHERE rolname = :r"), {"r": user})
        if not exists and url.password:
            secret = str(url.password).encode()
            verifier = driver.pgconn.encrypt_password(secret, user.encode(), b"scram-sha-256")
            connection.exec_driver_sql(f"CREATE ROLE {quoted} LOGIN PASSWORD '{verifier.decode()}'")
        connection.exec_driver_sql(f"GRANT panel_app TO {quoted}")
    elif user and not connection.scalar(text("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")):
        # If the owner is also the application's login, it must be able to become the client's role. It may grant itself
        # that role, because it made it.
        connection.exec_driver_sql(f"GRANT panel_client TO {quoted}")
    connection.commit()
