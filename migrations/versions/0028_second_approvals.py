"""Who approved a held set first while it needs two operators; and, by class of drift, how long the differences of a month
had lasted.

Processes of the version before may run meanwhile. They know no first approval: what they approve alone is approved by
one operator only, and a run of this version counts it as that.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.add_column("holds", sa.Column("needs_second", sa.Boolean(), server_default=sa.text("false"), nullable=False))
    op.add_column("holds", sa.Column("first_by", sa.Text(), nullable=True))
    op.add_column("holds", sa.Column("first_at", MOMENT, nullable=True))
    # No row has a first approval yet, so the index is built over nothing.
    op.create_index("ix_holds_first_at", "holds", ["first_at"], postgresql_where=sa.text("first_at IS NOT NULL"))
    op.create_table(
        "service_levels",
        sa.Column("class", sa.Text(), nullable=False),
        sa.Column("mended", sa.BigInteger(), nullable=False),
        sa.Column("timed", sa.BigInteger(), nullable=False),
        sa.Column("within", sa.BigInteger(), nullable=False),
        sa.Column("within_s", sa.Float(), nullable=False),
        sa.Column("median_s", sa.Float(), nullable=True),
        sa.Column("p95_s", sa.Float(), nullable=True),
        sa.Column("longest_s", sa.Float(), nullable=True),
        sa.Column("counted_at", MOMENT, server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.PrimaryKeyConstraint("class", name=op.f("pk_service_levels")),
    )
    op.execute("GRANT SELECT, INSERT, DELETE ON service_levels TO panel_app")


def downgrade() -> None:
    op.drop_table("service_levels")
    op.drop_index("ix_holds_first_at", "holds")
    op.drop_column("holds", "first_at")
    op.drop_column("holds", "first_by")
    op.drop_column("holds", "needs_second")
