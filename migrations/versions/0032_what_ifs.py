"""Plans that operators asked for under another repair policy.

A new table only, so processes of the version before may run meanwhile.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0032"
down_revision = "0031"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "what_ifs",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("asked_at", MOMENT, server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("asked_by", sa.Text(), nullable=False),
        sa.Column("policy", postgresql.JSONB(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("ended_at", MOMENT, nullable=True),
        sa.Column("run_id", sa.BigInteger(), nullable=True),
        sa.Column("outcome", postgresql.JSONB(), nullable=True),
        sa.Column("problem", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_what_ifs")),
        sa.CheckConstraint("state IN ('waiting', 'done', 'failed')", name=op.f("ck_what_ifs_state")),
        sa.CheckConstraint("(state = 'waiting') = (ended_at IS NULL)", name=op.f("ck_what_ifs_ended_has_time")),
        sa.CheckConstraint("(state = 'done') = (outcome IS NOT NULL)", name=op.f("ck_what_ifs_done_has_outcome")),
        sa.CheckConstraint("(state = 'failed') = (problem IS NOT NULL)", name=op.f("ck_what_ifs_failed_has_problem")),
    )
    op.create_index("ix_what_ifs_asked_at", "what_ifs", ["asked_at"])
    op.execute("GRANT SELECT, DELETE ON what_ifs TO panel_app")
    op.execute("GRANT INSERT (asked_by, policy, state) ON what_ifs TO panel_app")
    op.execute("GRANT UPDATE (state, ended_at, run_id, outcome, problem) ON what_ifs TO panel_app")


def downgrade() -> None:
    op.drop_table("what_ifs")
