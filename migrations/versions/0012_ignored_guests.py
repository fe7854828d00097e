"""Guests that no order names and that an operator wants to hear no more of."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "ignored_guests",
        sa.Column("cluster", sa.Text(), nullable=False),
        sa.Column("vmid", sa.Integer(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("ignored_by", sa.Text(), nullable=False),
        sa.Column(
            "ignored_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.PrimaryKeyConstraint("cluster", "vmid", name=op.f("pk_ignored_guests")),
    )
    op.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON ignored_guests TO panel_app")


def downgrade() -> None:
    op.drop_table("ignored_guests")
