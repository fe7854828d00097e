"""What guests' own configurations say of their size."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "guest_configs",
        sa.Column("cluster", sa.Text(), nullable=False),
        sa.Column("vmid", sa.Integer(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("cores", sa.Double(), nullable=True),
        sa.Column("memory_mb", sa.Integer(), nullable=True),
        sa.Column("disk_gb", sa.Integer(), nullable=True),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("read_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["cluster", "vmid"],
            ["guests.cluster", "guests.vmid"],
            name=op.f("fk_guest_configs_cluster_guests"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("cluster", "vmid", name=op.f("pk_guest_configs")),
    )
    op.execute("GRANT SELECT, INSERT, UPDATE ON guest_configs TO panel_app")


def downgrade() -> None:
    op.drop_table("guest_configs")
