"""The IPv6 address of a VPS: in its record, where its customer may read it, and in what an order says."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("vps", sa.Column("ip6_address", sa.Text()))
    op.add_column("orders_seen", sa.Column("ip6_address", sa.Text()))
    op.execute("GRANT SELECT (ip6_address) ON vps TO panel_client")


def downgrade() -> None:
    op.drop_column("orders_seen", "ip6_address")
    op.drop_column("vps", "ip6_address")
