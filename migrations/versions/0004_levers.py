"""Levers: pauses of one VPS or customer too, quarantine of what keeps failing, whose run it is, who was told."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

PAUSE = ("paused_at", "paused_until", "paused_by", "pause_reason")


def upgrade() -> None:
    op.create_table(
        "pauses",
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("paused_by", sa.Text(), nullable=False),
        sa.Column("paused_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("paused_until", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("target", name=op.f("pk_pauses")),
    )
    op.execute(
        "INSERT INTO pauses (target, reason, paused_by, paused_at, paused_until)"
        " SELECT source, pause_reason, paused_by, paused_at, paused_until FROM source_states"
        " WHERE paused_at IS NOT NULL"
    )
    op.drop_constraint(op.f("ck_source_states_pause_whole"), "source_states")
    for column in PAUSE:
        op.drop_column("source_states", column)
    op.create_table(
        "quarantine",
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("stage", sa.Text(), nullable=False),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("first_failed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_failed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("next_try_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_run_id", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("stage IN ('load', 'match', 'decide', 'write')", name=op.f("ck_quarantine_stage")),
        sa.CheckConstraint("failures > 0", name=op.f("ck_quarantine_counted")),
        sa.ForeignKeyConstraint(["last_run_id"], ["runs.id"], name=op.f("fk_quarantine_last_run_id_runs")),
        sa.PrimaryKeyConstraint("subject", name=op.f("pk_quarantine")),
    )
    op.create_index(op.f("ix_quarantine_last_run_id"), "quarantine", ["last_run_id"])
    op.drop_column("leases", "expires_at")
    op.add_column("leases", sa.Column("taken_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("findings", sa.Column("notified_at", sa.DateTime(timezone=True), nullable=True))
    # What is open already was seen by whoever upgrades; only what comes from now on is told.
    op.execute("UPDATE findings SET notified_at = clock_timestamp()")
    op.create_index(
        "ix_findings_untold",
        "findings",
        ["id"],
        postgresql_where=sa.text("resolved_at IS NULL AND notified_at IS NULL"),
    )
    op.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON pauses, quarantine TO panel_app")


def downgrade() -> None:
    op.drop_index("ix_findings_untold", "findings")
    op.drop_column("findings", "notified_at")
    op.drop_column("leases", "taken_at")
    op.add_column("leases", sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True))
    op.drop_table("quarantine")
    moment = sa.DateTime(timezone=True)
    kinds: tuple[sa.types.TypeEngine[Any], ...] = (moment, moment, sa.Text(), sa.Text())
    for column, kind in zip(PAUSE, kinds, strict=True):
        op.add_column("source_states", sa.Column(column, kind, nullable=True))
    op.create_check_constraint(
        op.f("ck_source_states_pause_whole"),
        "source_states",
        "num_nulls(paused_at, paused_until, paused_by, pause_reason) IN (0, 4)",
    )
    # Earlier versions know pauses of sources only.
    op.execute(
        "INSERT INTO source_states (source, paused_at, paused_until, paused_by, pause_reason)"
        " SELECT target, paused_at, paused_until, paused_by, reason FROM pauses"
        " WHERE target IN ('all', 'feed') OR target LIKE 'proxmox:%'"
        " ON CONFLICT (source) DO UPDATE SET paused_at = excluded.paused_at, paused_until = excluded.paused_until,"
        " paused_by = excluded.paused_by, pause_reason = excluded.pause_reason"
    )
    op.drop_table("pauses")
