"""The table of plans that operators asked for under another repair policy.

:mod:`panel.operators.repair_policy.what_ifs` writes and reads it.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, CheckConstraint, Column, Identity, Index, Table, Text
from sqlalchemy.dialects.postgresql import JSONB

from panel.schema.tables import Time, metadata, now_column, one_of

what_ifs = Table(
    "what_ifs",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    now_column("asked_at"),
    Column("asked_by", Text, nullable=False),
    Column("policy", JSONB, nullable=False),  # class -> mode, beside what REPAIR_POLICY says
    Column("state", Text, nullable=False),
    Column("ended_at", Time),
    Column("run_id", BigInteger),  # of the dry run; no foreign key: that row is pruned by itself
    Column("outcome", JSONB),
    Column("problem", Text),  # a sentence: why there is no outcome
    one_of("state", "waiting", "done", "failed"),
    CheckConstraint("(state = 'waiting') = (ended_at IS NULL)", name="ended_has_time"),
    CheckConstraint("(state = 'done') = (outcome IS NOT NULL)", name="done_has_outcome"),
    CheckConstraint("(state = 'failed') = (problem IS NOT NULL)", name="failed_has_problem"),
    Index("ix_what_ifs_asked_at", "asked_at"),
)
