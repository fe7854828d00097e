"""Which guest a call named for a record in conflict: a run settles it once that guest is nobody else's."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

FITS = "(claimed_cluster IS NULL) = (claimed_vmid IS NULL) AND (claimed_vmid IS NULL OR link_state = 'conflict')"

# What is open says it; of older conflicts nobody knows any more what was named.
FROM_FINDINGS = """
UPDATE vps r SET claimed_cluster = f.cluster, claimed_vmid = f.vmid FROM findings f
WHERE f.class = 'link-conflict' AND f.resolved_at IS NULL AND f.vps_id = r.id AND f.cluster IS NOT NULL
  AND f.vmid IS NOT NULL AND r.link_state = 'conflict'
"""


def upgrade() -> None:
    op.add_column("vps", sa.Column("claimed_cluster", sa.Text()))
    op.add_column("vps", sa.Column("claimed_vmid", sa.Integer()))
    op.execute(FROM_FINDINGS)
    op.create_check_constraint(op.f("ck_vps_claim_fits"), "vps", FITS)
    op.create_index(
        "ix_vps_claim",
        "vps",
        ["claimed_cluster", "claimed_vmid"],
        postgresql_where=sa.text("claimed_vmid IS NOT NULL"),
    )


def downgrade() -> None:
    op.drop_index("ix_vps_claim", table_name="vps")
    op.drop_constraint(op.f("ck_vps_claim_fits"), "vps")
    op.drop_column("vps", "claimed_vmid")
    op.drop_column("vps", "claimed_cluster")
