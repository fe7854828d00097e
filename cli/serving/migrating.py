"""``panel-sync migrate``: bring a database to this version's tables."""

from __future__ import annotations

from sqlalchemy.exc import DBAPIError

from cli.connect import database_fault, place
from cli.environment import command_settings
from cli.errors import CommandError
from cli.output.console import err
from cli.output.progress import Working
from panel.migrate import MigrationRefusedError
from panel.migrate import migrate as migrate_database
from panel.settings import Settings


def migrate_given(settings: Settings) -> str:
    """Migrate the configured database as its owner, and return the revision that it has now."""
    variable = "DATABASE_OWNER_URL" if settings.database_owner_url else "DATABASE_URL"
    owner_url = settings.database_owner_url or settings.database_url
    try:
        with Working("migrating the database"):
            return migrate_database(owner_url, settings.database_url)
    except MigrationRefusedError as error:
        raise CommandError(f"PostgreSQL at {place(owner_url)} ({variable}): {error}") from error
    except DBAPIError as error:
        state = getattr(error.orig, "sqlstate", None)
        remedy = (
            "; let DATABASE_OWNER_URL name a user that owns the database and may create roles"
            if state == "42501"
            else "; another session holds a lock on its tables: try again"
            if state == "55P03"
            else ""
        )
        raise CommandError(
            f"PostgreSQL at {place(owner_url)} ({variable}): {database_fault(error, owner_url)}{remedy}"
        ) from error


def migrate() -> None:
    """Bring the database to this version's tables, and make the roles and the application's login.

    It connects with DATABASE_OWNER_URL if that is set, else with DATABASE_URL. It may be repeated; two migrations never
    run at the same time.

    Example: panel-sync migrate

    Ends with 0 if the tables are this version's now; with 2, and why, if they are not.
    """
    settings = command_settings("database_url")
    err.print(f"The database is at revision {migrate_given(settings)}.")
