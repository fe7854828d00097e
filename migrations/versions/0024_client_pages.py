"""What the customers' pages need: who is signed in, and which signed links were used."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "client_sessions",
        sa.Column("token_hash", sa.Text(), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("created_at", MOMENT, server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("expires_at", MOMENT, nullable=False),
        sa.Column("seen_at", MOMENT, server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.CheckConstraint("user_id > 0", name=op.f("ck_client_sessions_user_id_positive")),
        sa.PrimaryKeyConstraint("token_hash", name=op.f("pk_client_sessions")),
    )
    op.create_index("ix_client_sessions_expires_at", "client_sessions", ["expires_at"])
    op.create_index("ix_client_sessions_user_id", "client_sessions", ["user_id"])
    op.create_table(
        "used_sign_in_links",
        sa.Column("signature", sa.Text(), nullable=False),
        sa.Column("expires_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("signature", name=op.f("pk_used_sign_in_links")),
    )
    op.create_index("ix_used_sign_in_links_expires_at", "used_sign_in_links", ["expires_at"])
    op.execute("GRANT SELECT, INSERT, DELETE ON client_sessions, used_sign_in_links TO panel_app")
    op.execute("GRANT UPDATE (seen_at) ON client_sessions TO panel_app")


def downgrade() -> None:
    op.drop_table("used_sign_in_links")
    op.drop_table("client_sessions")
