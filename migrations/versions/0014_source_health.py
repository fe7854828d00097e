"""Since when each source is not believed, and why: one alarm a source."""

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


def downgrade() -> None:
    op.drop_column("source_states", "unwell_reason")
    op.drop_column("source_states", "unwell_cause")
    op.drop_column("source_states", "unwell_since")
