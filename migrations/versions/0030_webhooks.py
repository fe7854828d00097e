"""Events for the main site, each written with the change that it tells of. Two new tables, so processes of the version
before may run meanwhile; what they change is not told."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0030"
down_revision = "0029"
branch_labels = None
depends_on = None

# What an event says is written once. How its delivery goes on may change.
DELIVERY = "state, due_at, attempts, first_tried_at, tried_at, ended_at, last_status, last_error"


def upgrade() -> None:
    moment = sa.DateTime(timezone=True)
    op.create_table(
        "webhook_endpoint",
        sa.Column("one", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("wanted", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("disabled_at", moment, nullable=True),
        sa.Column("failing_since", moment, nullable=True),
        sa.Column("away_tries", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("not_before", moment, nullable=True),
        sa.Column("rung_at", moment, nullable=True),
        sa.PrimaryKeyConstraint("one", name=op.f("pk_webhook_endpoint")),
        sa.CheckConstraint("one", name=op.f("ck_webhook_endpoint_one_row")),
    )
    op.execute("INSERT INTO webhook_endpoint DEFAULT VALUES")
    op.create_table(
        "webhook_events",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column("vps_id", sa.BigInteger(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("created_at", moment, server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("state", sa.Text(), server_default=sa.text("'waiting'"), nullable=False),
        sa.Column("due_at", moment, server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("first_tried_at", moment, nullable=True),
        sa.Column("tried_at", moment, nullable=True),
        sa.Column("ended_at", moment, nullable=True),
        sa.Column("last_status", sa.Integer(), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_events")),
        sa.CheckConstraint("state IN ('waiting', 'delivered', 'dead')", name=op.f("ck_webhook_events_state")),
        sa.CheckConstraint("(state = 'waiting') = (ended_at IS NULL)", name=op.f("ck_webhook_events_ended_has_time")),
    )
    waiting = sa.text("state = 'waiting'")
    op.create_index("ix_webhook_events_due", "webhook_events", ["due_at", "id"], postgresql_where=waiting)
    op.create_index("ix_webhook_events_waiting_vps", "webhook_events", ["vps_id", "id"], postgresql_where=waiting)
    op.create_index("ix_webhook_events_vps_id", "webhook_events", ["vps_id", "id"])
    op.create_index("ix_webhook_events_state", "webhook_events", ["state", "id"])
    op.create_index("ix_webhook_events_created_at", "webhook_events", ["created_at"])
    op.execute("GRANT SELECT, UPDATE ON webhook_endpoint TO panel_app")
    op.execute("GRANT SELECT, DELETE ON webhook_events TO panel_app")
    op.execute("GRANT INSERT (message_id, vps_id, type, body) ON webhook_events TO panel_app")
    op.execute(f"GRANT UPDATE ({DELIVERY}) ON webhook_events TO panel_app")


def downgrade() -> None:
    op.drop_table("webhook_events")
    op.drop_table("webhook_endpoint")
