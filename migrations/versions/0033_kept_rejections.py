"""The last rejection of a held set stays on its row when an approval follows it.

Processes of the version before may run meanwhile: what they approve leaves the column as it is. The column takes a short
lock and nothing is rewritten.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0033"
down_revision = "0032"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("holds", sa.Column("rejected_at", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    op.drop_column("holds", "rejected_at")
