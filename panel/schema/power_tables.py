"""The table of power actions. :mod:`panel.power.requests` inserts its rows, :mod:`panel.power.progress` writes how far
they come, and nothing else does."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, CheckConstraint, Column, Identity, Index, Integer, String, Table, Text, text
from sqlalchemy.dialects.postgresql import JSONB

from domain.power.actions import OPEN
from panel.schema.tables import Time, metadata, now_column, one_of

IS_OPEN = f"state IN ({', '.join(repr(state.value) for state in OPEN)})"

NOT_DONE = "state IN ('queued', 'sending', 'sent', 'failed', 'unknown')"
"""What an operator may have to look at."""

power_actions = Table(
    "power_actions",
    metadata,
    # One row for each action that a customer asked for. The rows stay when the record is pruned.
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("vps_id", BigInteger, nullable=False),
    Column("user_id", BigInteger, nullable=False),
    Column("action", Text, nullable=False),
    Column("force", Boolean, nullable=False),
    Column("request_id", Text),
    Column("traceparent", String(55)),  # the trace of the request, if there is one
    now_column("asked_at"),
    # The machine that it is for. Another machine at this address gets nothing.
    Column("cluster", Text, nullable=False),
    Column("vmid", Integer, nullable=False),
    Column("guest_type", Text, nullable=False),
    Column("fingerprint", Text, nullable=False),
    # How far it has come.
    Column("state", Text, nullable=False),
    Column("step", Integer, nullable=False, server_default=text("0")),  # which of several commands
    Column("valid_until", Time, nullable=False),  # nothing is sent after this
    Column("begun_at", Time),  # when the first command was noted as about to be sent
    Column("sending_at", Time),  # the same of the current command. It is set once and never sent again
    Column("command", Text),
    Column("node", Text),
    Column("before", JSONB),  # what was seen just before it was sent
    Column("upid", Text),  # Proxmox's name of the task
    Column("rejected", Text),  # Proxmox answered with this error
    Column("code", Text),
    Column("reason", Text),  # a sentence for the customer: what it waits for, or what came of it
    Column("evidence", JSONB),  # for operators
    Column("ended_at", Time),
    # Who works on it, and when the relay publishes it next.
    Column("attempt", Integer, nullable=False, server_default=text("0")),
    Column("taken_until", Time),
    Column("publish_at", Time, nullable=False, server_default=text("clock_timestamp()")),
    Column("publishes", Integer, nullable=False, server_default=text("0")),
    one_of("action", "start", "stop", "reboot", "restart"),
    one_of("guest_type", "qemu", "lxc"),
    one_of("state", "queued", "sending", "sent", "done", "failed", "refused", "unknown"),
    one_of("command", "start", "stop", "shutdown", "reboot", "reset"),
    CheckConstraint(f"({IS_OPEN}) = (ended_at IS NULL)", name="ended_has_time"),
    CheckConstraint("ended_at IS NULL OR (code IS NOT NULL AND reason IS NOT NULL)", name="ended_has_reason"),
    CheckConstraint("state <> 'queued' OR sending_at IS NULL", name="queued_is_not_sent"),
    CheckConstraint("state <> 'sent' OR upid IS NOT NULL", name="sent_has_task"),
    CheckConstraint(
        "sending_at IS NULL OR (command IS NOT NULL AND node IS NOT NULL AND before IS NOT NULL"
        " AND begun_at IS NOT NULL)",
        name="sending_is_noted",
    ),
    CheckConstraint("upid IS NULL OR sending_at IS NOT NULL", name="task_was_sent"),
    # One at a time for each VPS and for each machine: the database decides it.
    Index("uq_power_actions_open_vps", "vps_id", unique=True, postgresql_where=text(IS_OPEN)),
    Index("uq_power_actions_open_guest", "cluster", "vmid", unique=True, postgresql_where=text(IS_OPEN)),
    Index("ix_power_actions_due", "publish_at", "id", postgresql_where=text(IS_OPEN)),
    Index("ix_power_actions_not_done", "id", postgresql_where=text(NOT_DONE)),
    Index("ix_power_actions_user_id", "user_id", "asked_at"),
    Index("ix_power_actions_vps_id", "vps_id", "id"),
    Index("ix_power_actions_asked_at", "asked_at"),
)
