"""Since when a user's map says what it says: a map that is new is not the second observation of an owner."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    column = sa.Column(
        "mapped_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.text("clock_timestamp()")
    )
    op.add_column("users", column)


def downgrade() -> None:
    op.drop_column("users", "mapped_at")
