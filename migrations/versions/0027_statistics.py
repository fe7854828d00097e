"""Statistics of VPS that customers looked at lately. Processes of the version before may run meanwhile."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None

# The view reads with its owner's rights, so it says itself whose records these are: as the policy vps_client does. An
# answer that is of another machine, or from before the VPS became its present owner's, is none.
VIEW = """
CREATE VIEW client_statistics WITH (security_barrier) AS
SELECT s.vps_id, s.timeframe, s.waits_since, s.failed_at, s.problem, a.read_at, a.points
FROM vps_statistics s JOIN vps v ON v.id = s.vps_id
LEFT JOIN vps_statistics a ON a.id = s.id AND v.link_state = 'verified'
  AND a.machine = concat_ws('/', v.cluster, v.guest_type, v.vmid, v.fingerprint)
  AND a.read_at > v.owner_changed_at AND a.read_at > v.link_changed_at
WHERE v.deleted_at IS NULL AND s.user_id = v.user_id
  AND v.user_id = CAST(nullif(current_setting('panel.user_id', true), '') AS bigint)
"""


def upgrade() -> None:
    moment = sa.DateTime(timezone=True)
    op.create_table(
        "vps_statistics",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("vps_id", sa.BigInteger(), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("timeframe", sa.Text(), nullable=False),
        sa.Column("cluster", sa.Text(), nullable=False),
        sa.Column("node", sa.Text(), nullable=False),
        sa.Column("asked_at", moment, server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("waits_since", moment, nullable=True),
        sa.Column("taken_until", moment, nullable=True),
        sa.Column("read_at", moment, nullable=True),
        sa.Column("machine", sa.Text(), nullable=True),
        sa.Column("points", postgresql.JSONB(), nullable=True),
        sa.Column("failed_at", moment, nullable=True),
        sa.Column("problem", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "timeframe IN ('hour', 'day', 'week', 'month', 'year')", name=op.f("ck_vps_statistics_timeframe")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_vps_statistics")),
        sa.UniqueConstraint("vps_id", "user_id", "timeframe", name=op.f("uq_vps_statistics_vps_id_user_id_timeframe")),
    )
    op.create_index("ix_vps_statistics_user_id", "vps_statistics", ["user_id", "asked_at"])
    op.create_index("ix_vps_statistics_asked_at", "vps_statistics", ["asked_at"])
    op.create_index("ix_vps_statistics_node", "vps_statistics", ["cluster", "node"])
    op.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON vps_statistics TO panel_app")
    # No policy for panel_client: it sees the view and never the table.
    op.execute("ALTER TABLE vps_statistics ENABLE ROW LEVEL SECURITY")
    op.execute("CREATE POLICY vps_statistics_app ON vps_statistics TO panel_app USING (true) WITH CHECK (true)")
    op.execute(VIEW)
    op.execute("GRANT SELECT ON client_statistics TO panel_client")


def downgrade() -> None:
    op.execute("DROP VIEW client_statistics")
    op.drop_table("vps_statistics")
