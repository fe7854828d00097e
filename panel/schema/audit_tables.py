"""The tables of the audit of use; :mod:`panel.operators.audit` writes and reads them."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Identity, Index, Integer, PrimaryKeyConstraint, Table, Text

from panel.schema.tables import Time, metadata, now_column

access_counts = Table(
    "access_counts",
    metadata,
    # Who used or tried a credential, from where, and how that ended. Uses are counted by the hour, so that a flood
    # makes only a few rows (:mod:`api.access_audit` bounds how many).
    Column("hour", Time),
    Column("who", Text),
    Column("network", Text),
    Column("route", Text),  # "POST /api/vps/sync": the template, never the path
    Column("status_code", Integer),
    Column("code", Text),  # of the problem; "" for a success
    Column("count", BigInteger, nullable=False),
    Column("first_at", Time, nullable=False),
    Column("last_at", Time, nullable=False),
    Column("last_request_id", Text, nullable=False),
    PrimaryKeyConstraint("hour", "who", "network", "route", "status_code", "code"),
)

operator_actions = Table(
    "operator_actions",
    metadata,
    # Every decision of an operator, written in the decision's transaction and never changed. Names and ids only, no
    # texts that people wrote.
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    now_column("at"),
    Column("by", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("request_id", Text),
    Column("network", Text),
    Index("ix_operator_actions_at", "at"),
)
