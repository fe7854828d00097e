"""Rights: the application reads and writes rows; a client's role sees its own live records only."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# Records, the journal, findings and users are never deleted by the application, only bookkeeping is.
DELETABLE = ("absences", "idempotency_keys", "nudges", "refused_calls", "runs", "snapshots")
CLIENT_COLUMNS = (
    "id, user_id, name, cpu, ram_mb, disk_gb, os, hypervisor, ip_address, status, order_id, order_state, "
    "order_source, order_as_of, power_state, power_detail, power_source, power_as_of, unconfirmed_since, "
    "cluster, node, link_state, version, created_at, updated_at, deleted_at"
)


def upgrade() -> None:
    op.execute("GRANT USAGE ON SCHEMA public TO panel_app, panel_client")
    op.execute("GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA public TO panel_app")
    op.execute("REVOKE INSERT, UPDATE ON alembic_version FROM panel_app")
    op.execute("GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO panel_app")
    op.execute(f"GRANT DELETE ON {', '.join(DELETABLE)} TO panel_app")

    op.execute(f"GRANT SELECT ({CLIENT_COLUMNS}) ON vps TO panel_client")
    op.execute("GRANT SELECT ON scopes TO panel_client")
    op.execute("ALTER TABLE vps ENABLE ROW LEVEL SECURITY")
    op.execute("CREATE POLICY vps_app ON vps TO panel_app USING (true) WITH CHECK (true)")
    # Without panel.user_id the setting is NULL or '' and no row passes: closed by default.
    op.execute(
        "CREATE POLICY vps_client ON vps AS PERMISSIVE FOR SELECT TO panel_client USING ("
        "deleted_at IS NULL AND user_id = nullif(current_setting('panel.user_id', true), '')::bigint)"
    )


def downgrade() -> None:
    op.execute("DROP POLICY vps_client ON vps")
    op.execute("DROP POLICY vps_app ON vps")
    op.execute("ALTER TABLE vps DISABLE ROW LEVEL SECURITY")
    op.execute("REVOKE ALL ON ALL TABLES IN SCHEMA public FROM panel_app, panel_client")
    op.execute("REVOKE ALL ON ALL SEQUENCES IN SCHEMA public FROM panel_app, panel_client")
    op.execute("REVOKE ALL ON SCHEMA public FROM panel_app, panel_client")
