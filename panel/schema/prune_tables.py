"""The table of what pruning remembers; :mod:`panel.operators.prune` writes and reads it."""

from __future__ import annotations

from sqlalchemy import Column, Table, Text

from panel.schema.tables import metadata, now_column

prunings = Table(
    "prunings",
    metadata,
    # How far each task of pruning came. The next time it goes on there.
    Column("task", Text, primary_key=True),
    Column("reached", Text, nullable=False),
    now_column("at"),
)
