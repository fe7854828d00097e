"""The tables of what the main site is told. Only :mod:`panel.webhooks` writes them."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, CheckConstraint, Column, Identity, Index, Integer, Table, Text, text

from panel.schema.tables import Time, metadata, now_column, one_of

webhook_endpoint = Table(
    "webhook_endpoint",
    metadata,
    # One row: where the main site takes events, and how it does. Its address and secret are settings.
    Column("one", Boolean, primary_key=True, server_default=text("true")),
    Column("wanted", Boolean, nullable=False, server_default=text("false")),  # whether events are noted at all
    Column("disabled_at", Time),  # it answered 410 Gone; nothing is sent until an operator enables it
    Column("failing_since", Time),  # since when it has taken no event, though it was sent some
    Column("away_tries", Integer, nullable=False, server_default=text("0")),
    Column("not_before", Time),  # while it is away, nothing is sent before this
    Column("rung_at", Time),  # when the relay last asked a worker to send
    CheckConstraint("one", name="one_row"),
)

webhook_events = Table(
    "webhook_events",
    metadata,
    # One row for each event, written in the transaction of the change that it tells of.
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    # Random, because a restored database gives out ids of its own again.
    Column("message_id", Text, nullable=False),
    Column("vps_id", BigInteger, nullable=False),
    Column("type", Text, nullable=False),
    Column("body", Text, nullable=False),  # what is signed and sent, to the byte
    now_column("created_at"),
    Column("state", Text, nullable=False, server_default=text("'waiting'")),
    Column("due_at", Time, nullable=False, server_default=text("clock_timestamp()")),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("first_tried_at", Time),
    Column("tried_at", Time),
    Column("ended_at", Time),  # when it was delivered or given up
    Column("last_status", Integer),
    Column("last_error", Text),
    one_of("state", "waiting", "delivered", "dead"),
    CheckConstraint("(state = 'waiting') = (ended_at IS NULL)", name="ended_has_time"),
    Index("ix_webhook_events_due", "due_at", "id", postgresql_where=text("state = 'waiting'")),
    Index("ix_webhook_events_waiting_vps", "vps_id", "id", postgresql_where=text("state = 'waiting'")),
    Index("ix_webhook_events_vps_id", "vps_id", "id"),
    Index("ix_webhook_events_state", "state", "id"),
    Index("ix_webhook_events_created_at", "created_at"),
)
