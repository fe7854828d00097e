"""The trace of a call and of a power action, so that the work that a worker does later continues it.

Processes of the version before may run meanwhile: they leave the columns empty. The columns take a short lock each and
nothing is rewritten. The type limits the length, because a check would read the whole journal.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0031"
down_revision = "0030"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("operations", sa.Column("traceparent", sa.String(55)))
    op.add_column("power_actions", sa.Column("traceparent", sa.String(55)))
    op.execute("GRANT INSERT (traceparent) ON power_actions TO panel_app")


def downgrade() -> None:
    op.drop_column("power_actions", "traceparent")
    op.drop_column("operations", "traceparent")
