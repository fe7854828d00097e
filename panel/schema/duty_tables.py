"""The table of periodic duties; :mod:`panel.runs.schedule_duties` writes and reads it."""

from __future__ import annotations

from sqlalchemy import Column, Double, Table, Text

from panel.schema.tables import Time, metadata, now_column

duties = Table(
    "duties",
    metadata,
    # All times are the database's, because the clocks of beat and of the workers may differ.
    Column("name", Text, primary_key=True),  # a task, or "relay"
    Column("every_s", Double),  # NULL: whenever there is something to do
    now_column("since"),
    Column("asked_at", Time),
    Column("began_at", Time),
    Column("done_at", Time),
    Column("failed_at", Time),
    Column("problem", Text),  # of failed_at: an error's class or code
)
