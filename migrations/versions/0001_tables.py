"""The tables: users, records, the journal, the views of the outside, runs and findings."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(sa.schema.CreateSequence(sa.Sequence("vps_id_seq", data_type=sa.BigInteger)))
    op.create_table(
        "guests",
        sa.Column("cluster", sa.Text(), nullable=False),
        sa.Column("vmid", sa.Integer(), nullable=False),
        sa.Column("guest_type", sa.Text(), nullable=False),
        sa.Column("node", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("power", sa.Text(), nullable=False),
        sa.Column("power_since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("lock", sa.Text(), nullable=True),
        sa.Column("lock_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("template", sa.Boolean(), nullable=False),
        sa.Column("cores", sa.Double(), nullable=True),
        sa.Column("memory_mb", sa.Integer(), nullable=True),
        sa.Column("disk_gb", sa.Integer(), nullable=True),
        sa.Column("tags", postgresql.ARRAY(sa.Text()), server_default=sa.text("'{}'::text[]"), nullable=False),
        sa.Column("ip_address", sa.Text(), nullable=True),
        sa.Column("signature", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=True),
        sa.Column("fingerprint_state", sa.Text(), nullable=False),
        sa.Column("fingerprint_read_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("fingerprint_seen", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("previous_fingerprint", sa.Text(), nullable=True),
        sa.Column("moving_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("first_seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("read_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "fingerprint_state IN ('unread', 'read', 'stale', 'forbidden')", name=op.f("ck_guests_fingerprint_state")
        ),
        sa.CheckConstraint("guest_type IN ('qemu', 'lxc')", name=op.f("ck_guests_guest_type")),
        sa.CheckConstraint("power IN ('running', 'stopped', 'error', 'unknown')", name=op.f("ck_guests_power")),
        sa.PrimaryKeyConstraint("cluster", "vmid", name=op.f("pk_guests")),
    )
    op.create_index("ix_guests_fingerprint", "guests", ["fingerprint"], unique=False)
    op.create_index("ix_guests_node", "guests", ["cluster", "node"], unique=False)
    op.create_table(
        "lanes",
        sa.Column("vps_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("last_seq", sa.BigInteger(), nullable=False),
        sa.Column("applied_seq", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("head", sa.Text(), nullable=False),
        sa.Column("order_id", sa.Text(), nullable=True),
        sa.Column("merged_into", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("head IN ('live', 'deleted')", name=op.f("ck_lanes_head")),
        sa.CheckConstraint("applied_seq <= last_seq", name=op.f("ck_lanes_applied_within")),
        sa.ForeignKeyConstraint(["merged_into"], ["lanes.vps_id"], name=op.f("fk_lanes_merged_into_lanes")),
        sa.PrimaryKeyConstraint("vps_id", name=op.f("pk_lanes")),
    )
    op.create_index(
        "ix_lanes_behind", "lanes", ["vps_id"], unique=False, postgresql_where=sa.text("applied_seq < last_seq")
    )
    op.create_index("ix_lanes_order_id", "lanes", ["order_id"], unique=False)
    op.create_table(
        "leases",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_leases")),
    )
    op.create_table(
        "nudges",
        sa.Column("task", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("asked_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.PrimaryKeyConstraint("task", "subject", name=op.f("pk_nudges")),
    )
    op.create_table(
        "orders_seen",
        sa.Column("order_id", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("state_since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("owner", sa.Text(), nullable=True),
        sa.Column("owner_since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("panel_vps_id", sa.BigInteger(), nullable=True),
        sa.Column("panel_vps_id_given", sa.Boolean(), nullable=False),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("cpu", sa.Integer(), nullable=True),
        sa.Column("ram_mb", sa.Integer(), nullable=True),
        sa.Column("disk_gb", sa.Integer(), nullable=True),
        sa.Column("os", sa.Text(), nullable=True),
        sa.Column("hypervisor", sa.Text(), nullable=True),
        sa.Column("ip_address", sa.Text(), nullable=True),
        sa.Column("cluster", sa.Text(), nullable=True),
        sa.Column("node", sa.Text(), nullable=True),
        sa.Column("vmid", sa.Integer(), nullable=True),
        sa.Column("guest_type", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("first_seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("effective_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("guest_type IN ('qemu', 'lxc')", name=op.f("ck_orders_seen_guest_type")),
        sa.CheckConstraint(
            "state IN ('pending', 'active', 'suspended', 'ended', 'unknown')", name=op.f("ck_orders_seen_state")
        ),
        sa.PrimaryKeyConstraint("order_id", name=op.f("pk_orders_seen")),
    )
    op.create_index("ix_orders_seen_guest", "orders_seen", ["cluster", "vmid"], unique=False)
    op.create_index("ix_orders_seen_owner", "orders_seen", ["owner"], unique=False)
    op.create_index("ix_orders_seen_panel_vps_id", "orders_seen", ["panel_vps_id"], unique=False)
    op.create_table(
        "refused_calls",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("status_code", sa.Integer(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=True),
        sa.Column("user_id", sa.BigInteger(), nullable=True),
        sa.Column("order_id", sa.Text(), nullable=True),
        sa.Column("vps_id", sa.BigInteger(), nullable=True),
        sa.Column("request_id", sa.Text(), nullable=True),
        sa.Column("api_key_label", sa.Text(), nullable=True),
        sa.Column("address", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_refused_calls")),
    )
    op.create_index("ix_refused_calls_at", "refused_calls", ["at"], unique=False)
    op.create_table(
        "runs",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("trigger", sa.Text(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column(
            "started_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "counts", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False
        ),
        sa.Column("problems", postgresql.ARRAY(sa.Text()), server_default=sa.text("'{}'::text[]"), nullable=False),
        sa.Column("plan_hash", sa.Text(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.CheckConstraint("kind IN ('full', 'fast', 'plan')", name=op.f("ck_runs_kind")),
        sa.CheckConstraint("state IN ('running', 'done', 'failed', 'abandoned')", name=op.f("ck_runs_state")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_runs")),
    )
    op.create_index("ix_runs_started_at", "runs", ["started_at"], unique=False)
    op.create_table(
        "source_states",
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("last_good_count", sa.Integer(), nullable=True),
        sa.Column("last_good_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_sweep_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("delta_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_users_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("degraded_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("degraded_reason", sa.Text(), nullable=True),
        sa.Column("circuit", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("acknowledged_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("source", name=op.f("pk_source_states")),
    )
    op.create_table(
        "users",
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("main_site_user_id", sa.Text(), nullable=True),
        sa.Column("username", sa.Text(), nullable=False),
        sa.Column("email", sa.Text(), nullable=True),
        sa.Column("email_verified", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("map_source", sa.Text(), nullable=True),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column(
            "updated_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.CheckConstraint("map_source IN ('link', 'import', 'operator', 'email')", name=op.f("ck_users_map_source")),
        sa.CheckConstraint("(main_site_user_id IS NULL) = (map_source IS NULL)", name=op.f("ck_users_map_has_source")),
        sa.CheckConstraint("id > 0", name=op.f("ck_users_id_positive")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_users")),
        sa.UniqueConstraint("main_site_user_id", name=op.f("uq_users_main_site_user_id")),
    )
    op.create_table(
        "absences",
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("absent_since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("consecutive", sa.Integer(), nullable=False),
        sa.Column("last_absent_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_run_id", sa.BigInteger(), nullable=False),
        sa.Column("evidence", postgresql.ARRAY(sa.BigInteger()), nullable=False),
        sa.CheckConstraint("kind IN ('order', 'guest')", name=op.f("ck_absences_kind")),
        sa.CheckConstraint("consecutive > 0", name=op.f("ck_absences_counted")),
        sa.ForeignKeyConstraint(["last_run_id"], ["runs.id"], name=op.f("fk_absences_last_run_id_runs")),
        sa.PrimaryKeyConstraint("kind", "subject", name=op.f("pk_absences")),
    )
    op.create_table(
        "findings",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("class", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("severity", sa.Text(), nullable=False),
        sa.Column("vps_id", sa.BigInteger(), nullable=True),
        sa.Column("order_id", sa.Text(), nullable=True),
        sa.Column("cluster", sa.Text(), nullable=True),
        sa.Column("vmid", sa.Integer(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column(
            "detail", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False
        ),
        sa.Column(
            "first_seen_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column(
            "last_seen_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("last_run_id", sa.BigInteger(), nullable=True),
        sa.Column("resolved_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("acknowledged_by", sa.Text(), nullable=True),
        sa.Column("snoozed_until", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("severity IN ('info', 'warning', 'alarm')", name=op.f("ck_findings_severity")),
        sa.ForeignKeyConstraint(["last_run_id"], ["runs.id"], name=op.f("fk_findings_last_run_id_runs")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_findings")),
    )
    op.create_index(op.f("ix_findings_last_run_id"), "findings", ["last_run_id"], unique=False)
    op.create_index("ix_findings_vps_id", "findings", ["vps_id"], unique=False)
    op.create_index(
        "uq_findings_open",
        "findings",
        ["class", "subject"],
        unique=True,
        postgresql_where=sa.text("resolved_at IS NULL"),
    )
    op.create_table(
        "holds",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("plan_hash", sa.Text(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("items", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("run_id", sa.BigInteger(), nullable=False),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("decision", sa.Text(), nullable=True),
        sa.Column("decided_by", sa.Text(), nullable=True),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("decision IN ('approved', 'rejected', 'expired')", name=op.f("ck_holds_decision")),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_holds_run_id_runs")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_holds")),
    )
    op.create_index("ix_holds_plan_hash", "holds", ["plan_hash"], unique=False)
    op.create_index(op.f("ix_holds_run_id"), "holds", ["run_id"], unique=False)
    op.create_index("uq_holds_open", "holds", ["scope"], unique=True, postgresql_where=sa.text("decision IS NULL"))
    op.create_table(
        "operations",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("vps_id", sa.BigInteger(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("payload", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("result", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("evidence", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("before", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("after", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("request_id", sa.Text(), nullable=True),
        sa.Column("api_key_label", sa.Text(), nullable=True),
        sa.Column("idempotency_key", sa.Text(), nullable=True),
        sa.Column("run_id", sa.BigInteger(), nullable=True),
        sa.Column("epoch", sa.BigInteger(), nullable=True),
        sa.Column(
            "accepted_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("applied_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("publish_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=True),
        sa.Column("publishes", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.CheckConstraint("(state = 'queued') = (applied_at IS NULL)", name=op.f("ck_operations_settled_has_time")),
        sa.CheckConstraint(
            "action IN ('create', 'update', 'delete', 'merge', 'link', 'unlink', 'restore')",
            name=op.f("ck_operations_action"),
        ),
        sa.CheckConstraint(
            "kind <> 'repair' OR (run_id IS NOT NULL AND epoch IS NOT NULL)", name=op.f("ck_operations_repair_has_run")
        ),
        sa.CheckConstraint("kind = 'sync' OR reason IS NOT NULL", name=op.f("ck_operations_repair_has_reason")),
        sa.CheckConstraint("kind IN ('sync', 'repair', 'operator')", name=op.f("ck_operations_kind")),
        sa.CheckConstraint(
            "state IN ('queued', 'applied', 'superseded', 'rejected', 'dead')", name=op.f("ck_operations_state")
        ),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_operations_run_id_runs")),
        sa.ForeignKeyConstraint(["vps_id"], ["lanes.vps_id"], name=op.f("fk_operations_vps_id_lanes")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_operations")),
        sa.UniqueConstraint("vps_id", "seq", name=op.f("uq_operations_vps_id_seq")),
    )
    op.create_index(
        "ix_operations_deletes",
        "operations",
        ["applied_at"],
        unique=False,
        postgresql_where=sa.text("action = 'delete'"),
    )
    op.create_index(
        "ix_operations_due",
        "operations",
        ["publish_at", "id"],
        unique=False,
        postgresql_where=sa.text("state = 'queued'"),
    )
    op.create_index(
        "ix_operations_queued",
        "operations",
        ["vps_id", "seq"],
        unique=False,
        postgresql_where=sa.text("state = 'queued'"),
    )
    op.create_index("ix_operations_run_id", "operations", ["run_id"], unique=False)
    op.create_table(
        "snapshots",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("run_id", sa.BigInteger(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("complete", sa.Boolean(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("problem", sa.Text(), nullable=True),
        sa.Column("began_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("effective_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "finished_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("kept", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_snapshots_run_id_runs")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_snapshots")),
    )
    op.create_index(
        "ix_snapshots_finished_at", "snapshots", ["finished_at"], unique=False, postgresql_where=sa.text("NOT kept")
    )
    op.create_index("ix_snapshots_run_id", "snapshots", ["run_id"], unique=False)
    op.create_index("ix_snapshots_scope", "snapshots", ["source", "scope", "id"], unique=False)
    op.create_table(
        "vps",
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("cpu", sa.Integer(), nullable=False),
        sa.Column("ram_mb", sa.Integer(), nullable=False),
        sa.Column("disk_gb", sa.Integer(), nullable=False),
        sa.Column("os", sa.Text(), nullable=False),
        sa.Column("hypervisor", sa.Text(), nullable=False),
        sa.Column("ip_address", sa.Text(), nullable=True),
        sa.Column("order_id", sa.Text(), nullable=True),
        sa.Column("order_state", sa.Text(), nullable=False),
        sa.Column("order_source", sa.Text(), nullable=False),
        sa.Column("order_changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("order_as_of", sa.DateTime(timezone=True), nullable=False),
        sa.Column("cluster", sa.Text(), nullable=True),
        sa.Column("node", sa.Text(), nullable=True),
        sa.Column("vmid", sa.Integer(), nullable=True),
        sa.Column("guest_type", sa.Text(), nullable=True),
        sa.Column("fingerprint", sa.Text(), nullable=True),
        sa.Column("link_state", sa.Text(), server_default="unlinked", nullable=False),
        sa.Column("link_source", sa.Text(), nullable=True),
        sa.Column("link_changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("power_state", sa.Text(), nullable=False),
        sa.Column("power_detail", sa.Text(), nullable=True),
        sa.Column("power_source", sa.Text(), nullable=False),
        sa.Column("power_changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("power_as_of", sa.DateTime(timezone=True), nullable=False),
        sa.Column("unconfirmed_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("owner_changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("plan_changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("missing_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("order_linked_once", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("guest_linked_once", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("last_sync_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_update_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("applied_seq", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("deleted_reason", sa.Text(), nullable=True),
        sa.Column("merged_into", sa.BigInteger(), nullable=True),
        sa.Column("protected_until", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("guest_type IN ('qemu', 'lxc')", name=op.f("ck_vps_guest_type")),
        sa.CheckConstraint(
            "hypervisor IN ('proxmox', 'vmware', 'hyperv', 'kvm', 'xen')", name=op.f("ck_vps_hypervisor")
        ),
        sa.CheckConstraint(
            "link_state IN ('unlinked', 'conflict') = (vmid IS NULL)", name=op.f("ck_vps_link_state_fits")
        ),
        sa.CheckConstraint(
            "link_state IN ('unlinked', 'pushed', 'verified', 'unverified', 'conflict')", name=op.f("ck_vps_link_state")
        ),
        sa.CheckConstraint(
            "order_state IN ('pending', 'active', 'suspended', 'ended', 'unknown')", name=op.f("ck_vps_order_state")
        ),
        sa.CheckConstraint(
            "power_state IN ('running', 'stopped', 'error', 'unknown')", name=op.f("ck_vps_power_state")
        ),
        sa.CheckConstraint(
            "status IN ('creating', 'running', 'stopped', 'suspended', 'error')", name=op.f("ck_vps_status")
        ),
        sa.CheckConstraint("(cluster IS NULL) = (vmid IS NULL)", name=op.f("ck_vps_link_whole")),
        sa.CheckConstraint("(deleted_at IS NULL) = (deleted_reason IS NULL)", name=op.f("ck_vps_tombstone_reason")),
        sa.CheckConstraint("cpu > 0 AND ram_mb >= 128 AND disk_gb > 0", name=op.f("ck_vps_plan_positive")),
        sa.CheckConstraint(
            "merged_into IS NULL OR (deleted_at IS NOT NULL AND merged_into <> id)", name=op.f("ck_vps_merged")
        ),
        sa.CheckConstraint("vmid > 0", name=op.f("ck_vps_vmid_positive")),
        sa.ForeignKeyConstraint(["merged_into"], ["vps.id"], name=op.f("fk_vps_merged_into_vps")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_vps_user_id_users")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_vps")),
    )
    op.create_index(
        "ix_vps_client", "vps", ["user_id", "id"], unique=False, postgresql_where=sa.text("deleted_at IS NULL")
    )
    op.create_index("ix_vps_fingerprint", "vps", ["fingerprint"], unique=False)
    op.create_index("ix_vps_merged_into", "vps", ["merged_into"], unique=False)
    op.create_index("ix_vps_order_id", "vps", ["order_id"], unique=False)
    op.create_index(
        "ix_vps_tombstones", "vps", ["deleted_at"], unique=False, postgresql_where=sa.text("deleted_at IS NOT NULL")
    )
    op.create_index(
        "uq_vps_live_guest", "vps", ["cluster", "vmid"], unique=True, postgresql_where=sa.text("deleted_at IS NULL")
    )
    op.create_index(
        "uq_vps_live_order_id", "vps", ["order_id"], unique=True, postgresql_where=sa.text("deleted_at IS NULL")
    )
    op.create_table(
        "claims",
        sa.Column("order_id", sa.Text(), nullable=False),
        sa.Column("vps_id", sa.BigInteger(), nullable=False),
        sa.Column("operation_id", sa.BigInteger(), nullable=False),
        sa.Column(
            "claimed_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.ForeignKeyConstraint(["operation_id"], ["operations.id"], name=op.f("fk_claims_operation_id_operations")),
        sa.ForeignKeyConstraint(["vps_id"], ["lanes.vps_id"], name=op.f("fk_claims_vps_id_lanes")),
        sa.PrimaryKeyConstraint("order_id", name=op.f("pk_claims")),
    )
    op.create_index("ix_claims_vps_id", "claims", ["vps_id"], unique=False)
    op.create_table(
        "idempotency_keys",
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("body_hash", sa.Text(), nullable=False),
        sa.Column("operation_id", sa.BigInteger(), nullable=True),
        sa.Column("status_code", sa.Integer(), nullable=True),
        sa.Column("answer", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.ForeignKeyConstraint(
            ["operation_id"], ["operations.id"], name=op.f("fk_idempotency_keys_operation_id_operations")
        ),
        sa.PrimaryKeyConstraint("scope", "key", name=op.f("pk_idempotency_keys")),
    )
    op.create_index("ix_idempotency_keys_created_at", "idempotency_keys", ["created_at"], unique=False)
    op.create_table(
        "scopes",
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("snapshot_id", sa.BigInteger(), nullable=False),
        sa.Column("began_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["snapshot_id"], ["snapshots.id"], name=op.f("fk_scopes_snapshot_id_snapshots")),
        sa.PrimaryKeyConstraint("source", "scope", name=op.f("pk_scopes")),
    )


def downgrade() -> None:
    op.drop_table("scopes")
    op.drop_index("ix_idempotency_keys_created_at", table_name="idempotency_keys")
    op.drop_table("idempotency_keys")
    op.drop_index("ix_claims_vps_id", table_name="claims")
    op.drop_table("claims")
    op.drop_index("uq_vps_live_order_id", table_name="vps", postgresql_where=sa.text("deleted_at IS NULL"))
    op.drop_index("uq_vps_live_guest", table_name="vps", postgresql_where=sa.text("deleted_at IS NULL"))
    op.drop_index("ix_vps_tombstones", table_name="vps", postgresql_where=sa.text("deleted_at IS NOT NULL"))
    op.drop_index("ix_vps_order_id", table_name="vps")
    op.drop_index("ix_vps_merged_into", table_name="vps")
    op.drop_index("ix_vps_fingerprint", table_name="vps")
    op.drop_index("ix_vps_client", table_name="vps", postgresql_where=sa.text("deleted_at IS NULL"))
    op.drop_table("vps")
    op.drop_index("ix_snapshots_scope", table_name="snapshots")
    op.drop_index("ix_snapshots_run_id", table_name="snapshots")
    op.drop_index("ix_snapshots_finished_at", table_name="snapshots", postgresql_where=sa.text("NOT kept"))
    op.drop_table("snapshots")
    op.drop_index("ix_operations_run_id", table_name="operations")
    op.drop_index("ix_operations_queued", table_name="operations", postgresql_where=sa.text("state = 'queued'"))
    op.drop_index("ix_operations_due", table_name="operations", postgresql_where=sa.text("state = 'queued'"))
    op.drop_index("ix_operations_deletes", table_name="operations", postgresql_where=sa.text("action = 'delete'"))
    op.drop_table("operations")
    op.drop_index("uq_holds_open", table_name="holds", postgresql_where=sa.text("decision IS NULL"))
    op.drop_index(op.f("ix_holds_run_id"), table_name="holds")
    op.drop_index("ix_holds_plan_hash", table_name="holds")
    op.drop_table("holds")
    op.drop_index("uq_findings_open", table_name="findings", postgresql_where=sa.text("resolved_at IS NULL"))
    op.drop_index("ix_findings_vps_id", table_name="findings")
    op.drop_index(op.f("ix_findings_last_run_id"), table_name="findings")
    op.drop_table("findings")
    op.drop_table("absences")
    op.drop_table("users")
    op.drop_table("source_states")
    op.drop_index("ix_runs_started_at", table_name="runs")
    op.drop_table("runs")
    op.drop_index("ix_refused_calls_at", table_name="refused_calls")
    op.drop_table("refused_calls")
    op.drop_index("ix_orders_seen_panel_vps_id", table_name="orders_seen")
    op.drop_index("ix_orders_seen_owner", table_name="orders_seen")
    op.drop_index("ix_orders_seen_guest", table_name="orders_seen")
    op.drop_table("orders_seen")
    op.drop_table("nudges")
    op.drop_table("leases")
    op.drop_index("ix_lanes_order_id", table_name="lanes")
    op.drop_index("ix_lanes_behind", table_name="lanes", postgresql_where=sa.text("applied_seq < last_seq"))
    op.drop_table("lanes")
    op.drop_index("ix_guests_node", table_name="guests")
    op.drop_index("ix_guests_fingerprint", table_name="guests")
    op.drop_table("guests")
    op.execute(sa.schema.DropSequence(sa.Sequence("vps_id_seq")))
