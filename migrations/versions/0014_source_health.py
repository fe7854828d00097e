"""Since when each source is not believed, and why; and since when the first filling of the panel is allowed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("source_states", sa.Column("unwell_since", sa.DateTime(timezone=True)))
    op.add_column("source_states", sa.Column("unwell_cause", sa.Text()))
    op.add_column("source_states", sa.Column("unwell_reason", sa.Text()))
    op.add_column("source_states", sa.Column("filling_since", sa.DateTime(timezone=True)))


def downgrade() -> None:
    op.drop_column("source_states", "filling_since")
    op.drop_column("source_states", "unwell_reason")
    op.drop_column("source_states", "unwell_cause")
    op.drop_column("source_states", "unwell_since")
