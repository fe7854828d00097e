"""Which records had a guest's address, deleted ones too, without a look at all that were ever deleted."""

from __future__ import annotations

from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_vps_guest", "vps", ["cluster", "vmid"])


def downgrade() -> None:
    op.drop_index("ix_vps_guest", table_name="vps")
