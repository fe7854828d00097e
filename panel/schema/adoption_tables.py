"""The table of adoptions: guests that an operator gave to an order (:mod:`panel.adoptions`)."""

from __future__ import annotations

from sqlalchemy import BigInteger, CheckConstraint, Column, Identity, Index, Integer, Table, Text, text
from sqlalchemy.dialects.postgresql import ARRAY

from panel.schema.tables import Time, metadata, now_column, one_of

OPEN = text("ended_at IS NULL")

adoptions = Table(
    "adoptions",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    # The machine that the operator saw. Another machine at this address is not adopted.
    Column("cluster", Text, nullable=False),
    Column("vmid", Integer, nullable=False),
    Column("guest_type", Text, nullable=False),
    Column("fingerprint", Text, nullable=False),
    # The order, and whose it was: by the main site's id and by the panel's.
    Column("order_id", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("user_id", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
    Column("evidence", ARRAY(Text), nullable=False),  # the sentences that the operator could read
    Column("adopted_by", Text, nullable=False),
    now_column("adopted_at"),
    # What became of it. Until then ``why`` says what it waits for.
    Column("why", Text),
    Column("outcome", Text),
    Column("ended_at", Time),
    Column("ended_by", Text),  # the operator who withdrew it
    Column("vps_id", BigInteger),  # the record that was linked
    one_of("guest_type", "qemu", "lxc"),
    one_of("outcome", "linked", "withdrawn", "lapsed"),
    CheckConstraint("(ended_at IS NULL) = (outcome IS NULL)", name="ended_has_outcome"),
    CheckConstraint("(outcome = 'linked') IS TRUE = (vps_id IS NOT NULL)", name="linked_has_record"),
    # One guest has one order, and one order has one guest.
    Index("uq_adoptions_open_guest", "cluster", "vmid", unique=True, postgresql_where=OPEN),
    Index("uq_adoptions_open_order", "order_id", unique=True, postgresql_where=OPEN),
    Index("ix_adoptions_guest", "cluster", "vmid", "id"),
    Index("ix_adoptions_ended_at", "ended_at", postgresql_where=text("ended_at IS NOT NULL")),
)
