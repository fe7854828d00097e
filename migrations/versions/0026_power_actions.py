"""Power actions of customers: what was asked for, and what came of it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None

OPEN = "state IN ('queued', 'sending', 'sent')"

# How far an action has come. Who asked for what, when, and for which machine is written once.
PROGRESS = (
    "state, step, valid_until, begun_at, sending_at, command, node, before, upid, rejected, code, reason, evidence, "
    "ended_at, attempt, taken_until, publish_at, publishes"
)
ASKED = "vps_id, user_id, action, force, request_id, cluster, vmid, guest_type, fingerprint, state, valid_until"
CLIENT_COLUMNS = "id, vps_id, user_id, action, force, state, step, code, reason, asked_at, ended_at"

PRUNE = """
CREATE FUNCTION public.prune_power_actions(days integer, most integer) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  young timestamptz := clock_timestamp() - make_interval(days => greatest(days, 90));
  gone bigint;
BEGIN
  DELETE FROM public.power_actions WHERE ctid = ANY(ARRAY(
    SELECT p.ctid FROM public.power_actions p WHERE p.asked_at < young AND p.ended_at < young
    ORDER BY p.asked_at LIMIT most));
  GET DIAGNOSTICS gone = ROW_COUNT;
  RETURN gone;
END $$
"""


def upgrade() -> None:
    moment = sa.DateTime(timezone=True)
    op.create_table(
        "power_actions",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("vps_id", sa.BigInteger(), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("force", sa.Boolean(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=True),
        sa.Column("asked_at", moment, server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("cluster", sa.Text(), nullable=False),
        sa.Column("vmid", sa.Integer(), nullable=False),
        sa.Column("guest_type", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("step", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("valid_until", moment, nullable=False),
        sa.Column("begun_at", moment, nullable=True),
        sa.Column("sending_at", moment, nullable=True),
        sa.Column("command", sa.Text(), nullable=True),
        sa.Column("node", sa.Text(), nullable=True),
        sa.Column("before", postgresql.JSONB(), nullable=True),
        sa.Column("upid", sa.Text(), nullable=True),
        sa.Column("rejected", sa.Text(), nullable=True),
        sa.Column("code", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("evidence", postgresql.JSONB(), nullable=True),
        sa.Column("ended_at", moment, nullable=True),
        sa.Column("attempt", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("taken_until", moment, nullable=True),
        sa.Column("publish_at", moment, server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("publishes", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_power_actions")),
        sa.CheckConstraint("action IN ('start', 'stop', 'reboot', 'restart')", name=op.f("ck_power_actions_action")),
        sa.CheckConstraint("guest_type IN ('qemu', 'lxc')", name=op.f("ck_power_actions_guest_type")),
        sa.CheckConstraint(
            "state IN ('queued', 'sending', 'sent', 'done', 'failed', 'refused', 'unknown')",
            name=op.f("ck_power_actions_state"),
        ),
        sa.CheckConstraint(
            "command IN ('start', 'stop', 'shutdown', 'reboot', 'reset')", name=op.f("ck_power_actions_command")
        ),
        sa.CheckConstraint(f"({OPEN}) = (ended_at IS NULL)", name=op.f("ck_power_actions_ended_has_time")),
        sa.CheckConstraint(
            "ended_at IS NULL OR (code IS NOT NULL AND reason IS NOT NULL)",
            name=op.f("ck_power_actions_ended_has_reason"),
        ),
        sa.CheckConstraint("state <> 'queued' OR sending_at IS NULL", name=op.f("ck_power_actions_queued_is_not_sent")),
        sa.CheckConstraint("state <> 'sent' OR upid IS NOT NULL", name=op.f("ck_power_actions_sent_has_task")),
        sa.CheckConstraint(
            "sending_at IS NULL OR (command IS NOT NULL AND node IS NOT NULL AND before IS NOT NULL"
            " AND begun_at IS NOT NULL)",
            name=op.f("ck_power_actions_sending_is_noted"),
        ),
        sa.CheckConstraint("upid IS NULL OR sending_at IS NOT NULL", name=op.f("ck_power_actions_task_was_sent")),
    )
    where = sa.text(OPEN)
    op.create_index("uq_power_actions_open_vps", "power_actions", ["vps_id"], unique=True, postgresql_where=where)
    op.create_index(
        "uq_power_actions_open_guest", "power_actions", ["cluster", "vmid"], unique=True, postgresql_where=where
    )
    op.create_index("ix_power_actions_due", "power_actions", ["publish_at", "id"], postgresql_where=where)
    not_done = sa.text("state IN ('queued', 'sending', 'sent', 'failed', 'unknown')")
    op.create_index("ix_power_actions_not_done", "power_actions", ["id"], postgresql_where=not_done)
    op.create_index("ix_power_actions_user_id", "power_actions", ["user_id", "asked_at"])
    op.create_index("ix_power_actions_vps_id", "power_actions", ["vps_id", "id"])
    op.create_index("ix_power_actions_asked_at", "power_actions", ["asked_at"])

    # Each page of a VPS asks for the open findings about its order and its guest.
    still_open = sa.text("resolved_at IS NULL")
    op.create_index("ix_findings_open_order", "findings", ["order_id"], postgresql_where=still_open)
    op.create_index("ix_findings_open_guest", "findings", ["cluster", "vmid"], postgresql_where=still_open)

    op.execute("GRANT SELECT ON power_actions TO panel_app")
    op.execute(f"GRANT INSERT ({ASKED}) ON power_actions TO panel_app")
    op.execute(f"GRANT UPDATE ({PROGRESS}) ON power_actions TO panel_app")
    op.execute(f"GRANT SELECT ({CLIENT_COLUMNS}) ON power_actions TO panel_client")
    op.execute("ALTER TABLE power_actions ENABLE ROW LEVEL SECURITY")
    op.execute("CREATE POLICY power_actions_app ON power_actions TO panel_app USING (true) WITH CHECK (true)")
    # Without panel.user_id the setting is NULL or '' and no row passes: closed by default.
    op.execute(
        "CREATE POLICY power_actions_client ON power_actions AS PERMISSIVE FOR SELECT TO panel_client USING ("
        "user_id = nullif(current_setting('panel.user_id', true), '')::bigint)"
    )
    op.execute(PRUNE)
    op.execute("REVOKE ALL ON FUNCTION public.prune_power_actions(integer, integer) FROM PUBLIC")
    op.execute("GRANT EXECUTE ON FUNCTION public.prune_power_actions(integer, integer) TO panel_app")


def downgrade() -> None:
    op.execute("DROP FUNCTION public.prune_power_actions(integer, integer)")
    op.drop_index("ix_findings_open_guest", "findings")
    op.drop_index("ix_findings_open_order", "findings")
    op.drop_table("power_actions")
