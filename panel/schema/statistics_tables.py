"""The table of statistics. :mod:`panel.statistics` writes it. Clients read the view ``client_statistics``."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Identity, Index, Table, Text, UniqueConstraint
from sqlalchemy.dialects.postgresql import JSONB

from domain.statistics.measurements import Timeframe
from panel.schema.tables import Time, metadata, now_column, one_of

vps_statistics = Table(
    "vps_statistics",
    metadata,
    # One row for each VPS and timeframe that its customer looked at lately. Another owner has other rows.
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("vps_id", BigInteger, nullable=False),
    Column("user_id", BigInteger, nullable=False),
    Column("timeframe", Text, nullable=False),
    # Where it was asked for: one read of a node at a time.
    Column("cluster", Text, nullable=False),
    Column("node", Text, nullable=False),
    now_column("asked_at"),
    Column("waits_since", Time),  # NULL: answered
    Column("taken_until", Time),  # a worker reads it
    # The last answer, and the machine that it is of. NULL: there was none yet.
    Column("read_at", Time),
    Column("machine", Text),
    Column("points", JSONB),
    # Why the last try gave nothing. NULL: it gave the answer above.
    Column("failed_at", Time),
    Column("problem", Text),
    one_of("timeframe", *Timeframe),
    UniqueConstraint("vps_id", "user_id", "timeframe"),
    Index("ix_vps_statistics_user_id", "user_id", "asked_at"),
    Index("ix_vps_statistics_asked_at", "asked_at"),
    Index("ix_vps_statistics_node", "cluster", "node"),
)
