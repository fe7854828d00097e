"""What was missing from a source that lost much at once: an acknowledgement is for that, and for no more."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("source_states", sa.Column("degraded_missing", sa.ARRAY(sa.Text()), nullable=True))


def downgrade() -> None:
    op.drop_column("source_states", "degraded_missing")
