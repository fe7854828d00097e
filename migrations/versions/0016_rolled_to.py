"""Where the read through the main site's users stopped; a complete read of one user alone is no scope of its own."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("source_states", sa.Column("rolled_to", sa.Text()))
    op.execute("DELETE FROM scopes WHERE scope LIKE 'user:%'")


def downgrade() -> None:
    op.drop_column("source_states", "rolled_to")
