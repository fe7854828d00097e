"""The table of the service level of a day and of a month; :mod:`panel.operators.service_levels` writes and reads it."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Double, Integer, Table, Text, text

from panel.schema.tables import metadata, now_column

service_levels = Table(
    "service_levels",
    metadata,
    # One row for each class of drift and stretch of time, counted anew once an hour. The journal says the same, only
    # too slowly for a page.
    Column("class", Text, primary_key=True),
    Column("days", Integer, primary_key=True, server_default=text("30")),
    Column("mended", BigInteger, nullable=False),
    Column("timed", BigInteger, nullable=False),  # of how many it is known how long they had lasted
    Column("within", BigInteger, nullable=False),  # of these, how many were mended within within_s
    Column("within_s", Double, nullable=False),  # MEND_WITHIN_S when they were counted
    Column("median_s", Double),
    Column("p95_s", Double),
    Column("longest_s", Double),
    now_column("counted_at"),
)
