"""Fails if the migrations and the tables differ (``alembic check`` on a real PostgreSQL)."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from alembic import command
from alembic.util import CommandError
from sqlalchemy import create_engine

from panel.migrate import alembic_config, migrate
from panel.server_urls import sqlalchemy_url
from runtime.servers.embedded_postgres import EmbeddedPostgres


def main() -> int:
    """Migrate an empty database and compare it with the metadata. Returns 1 on a difference."""
    with tempfile.TemporaryDirectory(prefix="panel-sync-check-") as directory:
        server = EmbeddedPostgres(Path(directory), durable=False)
        server.start()
        try:
            migrate(server.admin_url())
            engine = create_engine(sqlalchemy_url(server.admin_url()))
            with engine.connect() as connection:
                config = alembic_config()
                config.attributes["connection"] = connection
                command.check(config)
            engine.dispose()
        except CommandError as error:
            sys.stderr.write(f"migrations differ from panel/schema/tables.py: {error}\n")
            return 1
        finally:
            server.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
