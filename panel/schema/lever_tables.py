"""Tables of what is left alone: what operators paused (:mod:`panel.operators.pauses`), and what runs failed at
(:mod:`panel.operators.quarantine`)."""

from __future__ import annotations

from sqlalchemy import BigInteger, CheckConstraint, Column, ForeignKey, Integer, Table, Text

from panel.schema.tables import Time, metadata, now_column, one_of

pauses = Table(
    "pauses",
    metadata,
    # all | feed | proxmox:<cluster>: not read, and nothing concluded. vps:<id> | user:<id>: read, not written by runs.
    Column("target", Text, primary_key=True),
    Column("reason", Text, nullable=False),
    Column("paused_by", Text, nullable=False),
    now_column("paused_at"),
    Column("paused_until", Time, nullable=False),
)

quarantine = Table(
    "quarantine",
    metadata,
    # What runs failed at: vps:<id>, order:<id>, guest:<cluster>/<vmid>. next_try_at NULL: counted, not held back yet.
    Column("subject", Text, primary_key=True),
    Column("stage", Text, nullable=False),
    Column("cause", Text, nullable=False),  # classes and codes only: an error's own text may quote a customer
    Column("failures", Integer, nullable=False),
    Column("first_failed_at", Time, nullable=False),
    Column("last_failed_at", Time, nullable=False),
    Column("next_try_at", Time),
    Column("last_run_id", BigInteger, ForeignKey("runs.id"), nullable=False, index=True),
    one_of("stage", "load", "match", "decide", "write"),
    CheckConstraint("failures > 0", name="counted"),
)
