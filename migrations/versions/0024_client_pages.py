"""What the customers' pages need: who is signed in, which signed links were used, and the journal as a customer sees it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)

SHOWN = "'name', 'status', 'cpu', 'ram_mb', 'disk_gb', 'os', 'ip_address', 'ip6_address'"
SHOWN_OF = """(SELECT jsonb_object_agg(e.key, e.value)
  FROM jsonb_each(CASE jsonb_typeof(o.{side}) WHEN 'object' THEN o.{side} END) e WHERE e.key IN ({shown}))"""

# The view reads with its owner's rights, so it says itself whose records these are: as the policy vps_client does. It
# begins with the operation that gave the VPS to its present owner, and of that one it keeps back what was before.
ACTIVITY = """
CREATE VIEW client_activity WITH (security_barrier) AS
SELECT o.vps_id, o.seq, o.kind, o.action, o.source, o.applied_at,
  o.action <> 'create' AND coalesce(o.after ? 'user_id', false) AS became_theirs,
  CASE WHEN NOT coalesce(o.after ? 'user_id', false) THEN {before} END AS before,
  {after} AS after
FROM operations o JOIN vps v ON v.id = o.vps_id
WHERE o.state = 'applied' AND v.deleted_at IS NULL
  AND v.user_id = CAST(nullif(current_setting('panel.user_id', true), '') AS bigint)
  AND o.seq >= (SELECT max(x.seq) FROM operations x
                WHERE x.vps_id = o.vps_id AND x.state = 'applied' AND x.after ? 'user_id')
"""


def upgrade() -> None:
    op.create_table(
        "client_sessions",
        sa.Column("token_hash", sa.Text(), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("credential", sa.Text(), nullable=False),
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
    sides = {side: SHOWN_OF.format(side=side, shown=SHOWN) for side in ("before", "after")}
    op.execute(ACTIVITY.format(**sides))
    op.execute("GRANT SELECT ON client_activity TO panel_client")


def downgrade() -> None:
    op.execute("DROP VIEW client_activity")
    op.drop_table("used_sign_in_links")
    op.drop_table("client_sessions")
