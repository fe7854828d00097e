"""The table of what must happen again and again; :mod:`panel.runs.schedule_duties` writes and reads it."""

from __future__ import annotations

from sqlalchemy import Column, Double, Table, Text

from panel.schema.tables import Time, metadata, now_column

duties = Table(
    "duties",
    metadata,
    # All moments are the database's clock: those who ask and those who do may have others.
    Column("name", Text, primary_key=True),  # a task, or "relay"
    Column("every_s", Double),  # NULL: whenever there is something to do
    now_column("since"),
    Column("asked_at", Time),
    Column("began_at", Time),
    Column("done_at", Time),
    Column("failed_at", Time),
    Column("problem", Text),  # of failed_at: an error's class or code
)
