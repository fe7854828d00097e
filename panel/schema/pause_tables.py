"""Tables of what runs leave alone: what operators paused (:mod:`panel.operators.pauses`), and the subjects at which
runs fail (:mod:`panel.operators.quarantine`)."""

from __future__ import annotations

from sqlalchemy import BigInteger, CheckConstraint, Column, ForeignKey, Integer, Table, Text

from panel.schema.tables import Time, metadata, now_column, one_of

pauses = Table(
    "pauses",
    metadata,
    # all | feed | proxmox:<cluster>: runs do not read it and conclude nothing. vps:<id> | user:<id>: runs read it but
    # do not write it.
    Column("target", Text, primary_key=True),
    Column("reason", Text, nullable=False),
    Column("paused_by", Text, nullable=False),
    now_column("paused_at"),
    Column("paused_until", Time, nullable=False),
)

quarantine = Table(
    "quarantine",
    metadata,
    # Subjects at which runs fail: vps:<id>, order:<id>, guest:<cluster>/<vmid>. next_try_at NULL: the failures are
    # counted, but the subject is not held back yet.
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
