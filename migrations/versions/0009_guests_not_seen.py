"""Guests that were asked about without an answer, and guests that a list stopped showing: since when."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("guests", sa.Column("fingerprint_tried_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("guests", sa.Column("unlisted_since", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    op.drop_column("guests", "unlisted_since")
    op.drop_column("guests", "fingerprint_tried_at")
