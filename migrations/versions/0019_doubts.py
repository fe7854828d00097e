"""Why a guest's identity is in doubt, and since when: a configuration that was asked for earlier settles nothing."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("guests", sa.Column("doubt", sa.Text()))
    op.add_column("guests", sa.Column("doubted_at", sa.DateTime(timezone=True)))


def downgrade() -> None:
    op.drop_column("guests", "doubted_at")
    op.drop_column("guests", "doubt")
