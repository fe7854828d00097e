"""What must happen again and again, and when it was asked for and done last."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    moment = sa.DateTime(timezone=True)
    op.create_table(
        "duties",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("every_s", sa.Double(), nullable=True),
        sa.Column("since", moment, server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("asked_at", moment, nullable=True),
        sa.Column("began_at", moment, nullable=True),
        sa.Column("done_at", moment, nullable=True),
        sa.Column("failed_at", moment, nullable=True),
        sa.Column("problem", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_duties")),
    )
    op.execute("GRANT SELECT, INSERT, UPDATE ON duties TO panel_app")


def downgrade() -> None:
    op.drop_table("duties")
