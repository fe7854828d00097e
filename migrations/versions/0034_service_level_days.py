"""The service level of the last day is stored beside that of a month: pages read it when many repairs were made, too.

Processes of the version before may run meanwhile. They count the month alone and delete the day with it until one of
this version counts again; a page of theirs may show the numbers of a day as those of a month.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0034"
down_revision = "0033"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("service_levels", sa.Column("days", sa.Integer(), server_default=sa.text("30"), nullable=False))
    op.drop_constraint("pk_service_levels", "service_levels", type_="primary")
    op.create_primary_key("pk_service_levels", "service_levels", ["class", "days"])


def downgrade() -> None:
    op.execute("DELETE FROM service_levels WHERE days <> 30")
    op.drop_constraint("pk_service_levels", "service_levels", type_="primary")
    op.create_primary_key("pk_service_levels", "service_levels", ["class"])
    op.drop_column("service_levels", "days")
