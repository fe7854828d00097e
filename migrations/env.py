"""Alembic's environment: given a connection by :mod:`panel.migrate`, never a URL with a password."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection, text

import panel.schema.adoption_tables
import panel.schema.audit_tables
import panel.schema.client_tables
import panel.schema.duty_tables
import panel.schema.guest_tables
import panel.schema.operator_tables
import panel.schema.pause_tables
import panel.schema.power_tables
import panel.schema.prune_tables
import panel.schema.service_level_tables
import panel.schema.source_tables
import panel.schema.statistics_tables
import panel.schema.webhook_tables
import panel.schema.what_if_tables  # noqa: F401 - their tables belong to the metadata too
from panel.schema.tables import metadata

LOCK_TIMEOUT = "5s"  # rather fail and be run again than queue every customer's read behind a DDL lock
STATEMENT_TIMEOUT = "15min"


def run(connection: Connection) -> None:
    """Run the migrations of this invocation, one transaction each, one migrator at a time."""
    connection.execute(text(f"SET lock_timeout = '{LOCK_TIMEOUT}'"))
    connection.execute(text(f"SET statement_timeout = '{STATEMENT_TIMEOUT}'"))
    connection.commit()
    context.configure(
        connection=connection,
        target_metadata=metadata,
        transaction_per_migration=True,
        compare_type=True,
        compare_server_default=True,
    )
    with context.begin_transaction():
        context.run_migrations()


run(context.config.attributes["connection"])
