"""Since when a guest is who it is, and since when an order names its guest: what was read before says nothing of it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("guests", sa.Column("fingerprint_since", sa.DateTime(timezone=True)))
    op.add_column("orders_seen", sa.Column("guest_since", sa.DateTime(timezone=True)))


def downgrade() -> None:
    op.drop_column("orders_seen", "guest_since")
    op.drop_column("guests", "fingerprint_since")
