"""What operators decide: pauses of sources, and when a finding was acknowledged."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("source_states", sa.Column("paused_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("source_states", sa.Column("paused_until", sa.DateTime(timezone=True), nullable=True))
    op.add_column("source_states", sa.Column("paused_by", sa.Text(), nullable=True))
    op.add_column("source_states", sa.Column("pause_reason", sa.Text(), nullable=True))
    op.create_check_constraint(
        op.f("ck_source_states_pause_whole"),
        "source_states",
        "num_nulls(paused_at, paused_until, paused_by, pause_reason) IN (0, 4)",
    )
    op.add_column("findings", sa.Column("acknowledged_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index("ix_holds_decided_at", "holds", ["decided_at"], postgresql_where=sa.text("decision IS NOT NULL"))
    op.execute("GRANT DELETE ON holds TO panel_app")  # sets that changed before anybody decided


def downgrade() -> None:
    op.execute("REVOKE DELETE ON holds FROM panel_app")
    op.drop_index("ix_holds_decided_at", "holds")
    op.drop_column("findings", "acknowledged_at")
    op.drop_constraint(op.f("ck_source_states_pause_whole"), "source_states")
    for column in ("pause_reason", "paused_by", "paused_until", "paused_at"):
        op.drop_column("source_states", column)
