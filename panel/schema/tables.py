"""The tables, as SQLAlchemy Core sees them. Constraints make wrong states impossible to store.

All times are ``timestamptz`` on the database's clock. Only :mod:`panel.journal` writes ``operations``, ``vps_queues``,
``order_claims`` and ``vps``. Only :mod:`panel.observations` writes what the sources showed (``guests``,
``orders_seen``, ``snapshots``, ``absences``). There is one exception: an operator's restore
(:mod:`panel.journal.restore`) deletes the absences of the order and the guest. :mod:`panel.operators.prune` deletes old
rows from all of them, and old tombstones. The other modules of this package have the other tables.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    Sequence,
    String,
    Table,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.types import TypeEngine

from domain.changes import OPERATION_STATES
from domain.record_columns import COLUMNS, Kind, RecordColumn, ValueSource, given_by

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

vps_id_seq = Sequence("vps_id_seq", metadata=metadata, data_type=BigInteger)
"""Ids are reserved while journaling, so that the first answer already carries the final id."""

Time = DateTime(timezone=True)


def one_of(column: str, *values: str) -> CheckConstraint:
    """A check that ``column`` holds one of ``values``."""
    listed = ", ".join(f"'{v}'" for v in values)
    return CheckConstraint(f"{column} IN ({listed})", name=column)


def now_column(name: str) -> Column[object]:
    """A time that defaults to the statement's clock."""
    return Column(name, Time, nullable=False, server_default=func.clock_timestamp())


users = Table(
    "users",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),  # the panel's id: sync calls and JWT
    # The main site's own id. Unique and never guessed: a wrong map hands machines to strangers.
    Column("main_site_user_id", Text, unique=True),
    Column("username", Text, nullable=False),
    Column("email", Text),
    Column("email_verified", Boolean, nullable=False, server_default=text("false")),
    Column("map_source", Text),  # link | import | operator | email
    now_column("mapped_at"),  # since when main_site_user_id has this value
    now_column("created_at"),
    now_column("updated_at"),
    CheckConstraint("id > 0", name="id_positive"),
    one_of("map_source", "link", "import", "operator", "email"),
    CheckConstraint("(main_site_user_id IS NULL) = (map_source IS NULL)", name="map_has_source"),
)

SQL_TYPES: dict[Kind, type[TypeEngine[Any]] | TypeEngine[Any]] = {
    Kind.ID: BigInteger,
    Kind.WHOLE: Integer,
    Kind.FLAG: Boolean,
    Kind.TIME: Time,
}
"""The database's type for each kind of column. Every other kind is stored as text."""


def sql_type(column: RecordColumn) -> type[TypeEngine[Any]] | TypeEngine[Any]:
    """The database's type of a record's column, also in ``orders_seen``."""
    return SQL_TYPES.get(column.kind, Text)


def _record_column(column: RecordColumn) -> Column[Any]:
    default = text(column.default) if column.kind is Kind.FLAG and column.default else column.default
    nullable, kind = not column.required, sql_type(column)
    return Column(column.name, kind, nullable=nullable, server_default=default, autoincrement=False)


vps = Table(
    "vps",
    metadata,
    # The columns are those of domain.record_columns.
    *(_record_column(column) for column in COLUMNS),
    *(one_of(column.name, *column.words) for column in COLUMNS if column.kind is Kind.WORD),
    PrimaryKeyConstraint("id"),
    ForeignKeyConstraint(["user_id"], ["users.id"]),
    ForeignKeyConstraint(["merged_into"], ["vps.id"]),
    CheckConstraint("cpu > 0 AND ram_mb >= 128 AND disk_gb > 0", name="plan_positive"),
    CheckConstraint("(cluster IS NULL) = (vmid IS NULL)", name="link_whole"),
    CheckConstraint("vmid > 0", name="vmid_positive"),
    CheckConstraint("link_state IN ('unlinked', 'conflict') = (vmid IS NULL)", name="link_state_fits"),
    CheckConstraint(
        "(claimed_cluster IS NULL) = (claimed_vmid IS NULL) AND (claimed_vmid IS NULL OR link_state = 'conflict')",
        name="claim_fits",
    ),
    CheckConstraint("merged_into IS NULL OR (deleted_at IS NOT NULL AND merged_into <> id)", name="merged"),
    CheckConstraint("(deleted_at IS NULL) = (deleted_reason IS NULL)", name="tombstone_reason"),
    Index("uq_vps_live_order_id", "order_id", unique=True, postgresql_where=text("deleted_at IS NULL")),
    Index("uq_vps_live_guest", "cluster", "vmid", unique=True, postgresql_where=text("deleted_at IS NULL")),
    Index("ix_vps_guestless_name", "name", postgresql_where=text("deleted_at IS NULL AND vmid IS NULL")),
    Index("ix_vps_guestless_ip_address", "ip_address", postgresql_where=text("deleted_at IS NULL AND vmid IS NULL")),
    Index("ix_vps_client", "user_id", "id", postgresql_where=text("deleted_at IS NULL")),
    Index("ix_vps_order_id", "order_id"),
    Index("ix_vps_merged_into", "merged_into"),
    Index("ix_vps_tombstones", "deleted_at", postgresql_where=text("deleted_at IS NOT NULL")),
    Index("ix_vps_fingerprint", "fingerprint"),
    Index("ix_vps_guest", "cluster", "vmid"),
    Index("ix_vps_claim", "claimed_cluster", "claimed_vmid", postgresql_where=text("claimed_vmid IS NOT NULL")),
)

vps_queues = Table(
    "vps_queues",
    metadata,
    # One row per reserved id: how far its calls are applied, and its state after the last *accepted* call.
    Column("vps_id", BigInteger, primary_key=True, autoincrement=False),
    Column("last_seq", BigInteger, nullable=False),
    Column("applied_seq", BigInteger, nullable=False, server_default=text("0")),
    Column("queue_state", Text, nullable=False),
    Column("order_id", Text),
    Column("merged_into", BigInteger, ForeignKey("vps_queues.vps_id")),
    one_of("queue_state", "live", "deleted"),
    CheckConstraint("applied_seq <= last_seq", name="applied_within"),
    Index("ix_vps_queues_order_id", "order_id"),
    Index("ix_vps_queues_merged_into", "merged_into", postgresql_where=text("merged_into IS NOT NULL")),
    Index("ix_vps_queues_behind", "vps_id", postgresql_where=text("applied_seq < last_seq")),
)

operations = Table(
    "operations",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("kind", Text, nullable=False),  # sync: an accepted call; repair: the reconciler's; operator
    Column("action", Text, nullable=False),
    Column("vps_id", BigInteger, ForeignKey("vps_queues.vps_id"), nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("source", Text, nullable=False),  # sync | orders | panel-api | proxmox | operator
    Column("payload", JSONB, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("error", Text),
    Column("result", Text),  # short, without personal data: "running -> stopped"
    Column("reason", Text),  # a sentence: why a repair was made, why a call was superseded or rejected
    Column("evidence", JSONB),
    Column("before", JSONB),
    Column("after", JSONB),
    Column("request_id", Text),
    Column("traceparent", String(55)),  # the trace of the call, if there is one
    Column("api_key_label", Text),
    Column("idempotency_key", Text),
    Column("run_id", BigInteger, ForeignKey("runs.id")),
    Column("epoch", BigInteger),
    Column("accepted_at", Time, nullable=False, server_default=func.clock_timestamp()),
    Column("applied_at", Time),
    Column("publish_at", Time, server_default=func.clock_timestamp()),
    Column("publishes", Integer, nullable=False, server_default=text("0")),
    one_of("kind", "sync", "repair", "operator"),
    one_of("action", "create", "update", "delete", "merge", "link", "unlink", "restore"),
    one_of("state", *OPERATION_STATES),
    CheckConstraint("(state = 'queued') = (applied_at IS NULL)", name="settled_has_time"),
    CheckConstraint("kind = 'sync' OR reason IS NOT NULL", name="repair_has_reason"),
    CheckConstraint("kind <> 'repair' OR (run_id IS NOT NULL AND epoch IS NOT NULL)", name="repair_has_run"),
    UniqueConstraint("vps_id", "seq"),
    Index("ix_operations_due", "publish_at", "id", postgresql_where=text("state = 'queued'")),
    Index("ix_operations_queued", "vps_id", "seq", postgresql_where=text("state = 'queued'")),
    Index("ix_operations_run_id", "run_id"),
    Index("ix_operations_deletes", "applied_at", postgresql_where=text("action = 'delete'")),
    # For queries about recent or rare operations, which must not scan the whole journal.
    Index("ix_operations_repairs", "applied_at", postgresql_where=text("kind = 'repair'")),
    Index("ix_operations_calls", "applied_at", postgresql_where=text("kind = 'sync' AND state = 'applied'")),
    Index("ix_operations_unusual", "state", "id", postgresql_where=text("state IN ('superseded', 'rejected', 'dead')")),
    Index("ix_operations_waiting", "id", postgresql_where=text("state = 'queued'")),
)

order_claims = Table(
    "order_claims",
    metadata,
    # An order_id belongs to one id at a time; the unique row decides races between two creates.
    Column("order_id", Text, primary_key=True),
    Column("vps_id", BigInteger, ForeignKey("vps_queues.vps_id"), nullable=False),
    Column("operation_id", BigInteger, nullable=False),  # the operation that claimed it; it may be pruned by now
    now_column("claimed_at"),
    Index("ix_order_claims_vps_id", "vps_id"),
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    # The scope is the caller, not the API key that it used: a retry across a key rotation is still a retry.
    Column("scope", Text),
    Column("key", Text),
    Column("body_hash", Text, nullable=False),
    Column("operation_id", BigInteger),  # no foreign key: an operation is kept far longer than its key
    Column("status_code", Integer),
    Column("answer", JSONB),
    now_column("created_at"),
    PrimaryKeyConstraint("scope", "key"),
    Index("ix_idempotency_keys_created_at", "created_at"),
)

refused_calls = Table(
    "refused_calls",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    now_column("at"),
    Column("status_code", Integer, nullable=False),
    Column("code", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("action", Text),
    Column("user_id", BigInteger),
    Column("order_id", Text),
    Column("vps_id", BigInteger),
    Column("request_id", Text),
    Column("api_key_label", Text),
    Column("address", Text),
    Index("ix_refused_calls_at", "at"),
)

task_requests = Table(
    "task_requests",
    metadata,
    # Tasks that a transaction asks for. It must not wait for Redis, so the relay publishes them.
    Column("task", Text),
    Column("subject", Text),
    now_column("asked_at"),
    PrimaryKeyConstraint("task", "subject"),
)

runs = Table(
    "runs",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("kind", Text, nullable=False),
    Column("trigger", Text, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    now_column("started_at"),
    Column("finished_at", Time),
    Column("counts", JSONB, nullable=False, server_default=text("'{}'::jsonb")),
    Column("problems", ARRAY(Text), nullable=False, server_default=text("'{}'::text[]")),
    Column("plan_hash", Text),
    Column("error", Text),
    one_of("kind", "full", "fast", "plan"),
    one_of("state", "running", "done", "failed", "abandoned"),
    Index("ix_runs_started_at", "started_at"),
    Index("ix_runs_kind_id", "kind", "id"),
    Index("ix_runs_running", "epoch", postgresql_where=text("state = 'running'")),
)

leases = Table(
    "leases",
    metadata,
    Column("name", Text, primary_key=True),
    Column("epoch", BigInteger, nullable=False),
    Column("holder", Text),  # host:pid, for people: the lock and the epoch decide
    Column("taken_at", Time),
)

snapshots = Table(
    "snapshots",
    metadata,
    # One read of one scope of one source. Absences are proven by these; the journal has a copy of those that a repair
    # rests on.
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("run_id", BigInteger, ForeignKey("runs.id"), nullable=False),
    Column("source", Text, nullable=False),  # "proxmox:<cluster>" or the feed's name
    Column("scope", Text, nullable=False),  # a node, "all", or "user:<id>"
    Column("complete", Boolean, nullable=False),
    Column("count", Integer, nullable=False),
    Column("problem", Text),
    now_column("began_at"),
    Column("effective_at", Time),
    now_column("finished_at"),
    Index("ix_snapshots_scope", "source", "scope", "id"),
    Index("ix_snapshots_run_id", "run_id"),
)

scopes = Table(
    "scopes",
    metadata,
    # The last complete read of each scope: gives clients their "as of" without touching every record.
    Column("source", Text),
    Column("scope", Text),
    Column("snapshot_id", BigInteger, ForeignKey("snapshots.id"), nullable=False),
    Column("began_at", Time, nullable=False),
    Column("count", Integer, nullable=False),
    PrimaryKeyConstraint("source", "scope"),
    Index("ix_scopes_snapshot_id", "snapshot_id"),
)

guests = Table(
    "guests",
    metadata,
    # Each guest as last seen. A row is written only if something changed. A guest without an absence is in the latest
    # complete snapshot.
    Column("cluster", Text),
    Column("vmid", Integer),
    Column("guest_type", Text, nullable=False),
    Column("node", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("power", Text, nullable=False),
    Column("power_since", Time, nullable=False),
    Column("name", Text),
    Column("lock", Text),
    Column("lock_since", Time),
    Column("template", Boolean, nullable=False),
    Column("cores", Double),
    Column("memory_mb", Integer),
    Column("disk_gb", Integer),
    Column("tags", ARRAY(Text), nullable=False, server_default=text("'{}'::text[]")),
    Column("ip_address", Text),
    Column("signature", Text, nullable=False),
    Column("fingerprint", Text),
    Column("fingerprint_state", Text, nullable=False),
    Column("fingerprint_read_at", Time),
    Column("fingerprint_tried_at", Time),  # the last attempt to read it that gave nothing to keep
    Column("fingerprint_seen", Integer, nullable=False, server_default=text("0")),
    Column("fingerprint_since", Time),  # when it was read first
    Column("previous_fingerprint", Text),
    # Why its identity is in doubt (domain.identity_doubts), until its configuration is read again.
    Column("doubt", Text),
    Column("doubted_at", Time),  # a configuration that was asked for before this does not end the doubt
    Column("moving_since", Time),
    Column("first_seen_at", Time, nullable=False),  # this machine; another one at the address begins anew
    Column("changed_at", Time, nullable=False),
    Column("read_at", Time, nullable=False),  # when the read that last changed this row began
    Column("unlisted_since", Time),  # the first trusted read that did not list it
    PrimaryKeyConstraint("cluster", "vmid"),
    one_of("guest_type", "qemu", "lxc"),
    one_of("power", "running", "stopped", "error", "unknown"),
    one_of("fingerprint_state", "unread", "read", "stale", "forbidden"),
    Index("ix_guests_fingerprint", "fingerprint"),
    Index("ix_guests_node", "cluster", "node"),
    Index("ix_guests_name", "name", postgresql_where=text("unlisted_since IS NULL AND NOT template")),
    Index("ix_guests_listed", "cluster", "vmid", postgresql_where=text("unlisted_since IS NULL")),
)

GOING = text("state IN ('active', 'pending', 'suspended')")

orders_seen = Table(
    "orders_seen",
    metadata,
    # Every order as last seen, allow-listed fields only.
    Column("order_id", Text, primary_key=True),
    Column("state", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("state_since", Time, nullable=False),
    Column("owner", Text),
    Column("owner_since", Time, nullable=False),
    Column("panel_vps_id", BigInteger),
    Column("panel_vps_id_given", Boolean, nullable=False),
    *(Column(column.name, sql_type(column)) for column in given_by(ValueSource.ORDER)),
    Column("guest_since", Time),  # the first read in which it named that guest
    Column("created_at", Time),
    Column("updated_at", Time),
    Column("first_seen_at", Time, nullable=False),
    Column("changed_at", Time, nullable=False),
    Column("effective_at", Time),
    Column("unlisted_since", Time),  # the first complete sweep that did not list it
    one_of("state", "pending", "active", "suspended", "ended", "unknown"),
    one_of("guest_type", "qemu", "lxc"),
    # Few orders have not ended, and few are still listed, compared with all that the panel ever saw.
    Index(
        "ix_orders_seen_known",
        "effective_at",
        postgresql_where=GOING,
    ),
    # Orders that may be the one of a guest which nobody ordered (panel.adoptions).
    Index("ix_orders_seen_name", "name", postgresql_where=GOING),
    Index("ix_orders_seen_ip_address", "ip_address", postgresql_where=GOING),
    Index("ix_orders_seen_vmid", "vmid", postgresql_where=GOING),
    Index("ix_orders_seen_size", "ram_mb", "cpu", "disk_gb", "created_at", postgresql_where=GOING),
    Index(
        "ix_orders_seen_guestless",
        "order_id",
        postgresql_where=text("state IN ('active', 'suspended') AND (cluster IS NULL OR vmid IS NULL)"),
    ),
    Index("ix_orders_seen_going", "cluster", "vmid", postgresql_where=text("state <> 'ended'")),
    Index("ix_orders_seen_listed", "order_id", postgresql_where=text("unlisted_since IS NULL")),
    Index("ix_orders_seen_panel_vps_id", "panel_vps_id"),
    Index("ix_orders_seen_guest", "cluster", "vmid"),
    Index("ix_orders_seen_owner", "owner"),
)

absences = Table(
    "absences",
    metadata,
    # A known object that complete snapshots of its scope did not show. The row is deleted when it is seen again.
    Column("kind", Text),
    Column("subject", Text),  # order id, or "cluster/vmid"
    Column("absent_since", Time, nullable=False),
    Column("consecutive", Integer, nullable=False),
    Column("last_absent_at", Time, nullable=False),
    Column("last_run_id", BigInteger, ForeignKey("runs.id"), nullable=False),
    Column("evidence", ARRAY(BigInteger), nullable=False),
    PrimaryKeyConstraint("kind", "subject"),
    one_of("kind", "order", "guest"),
    CheckConstraint("consecutive > 0", name="counted"),
    Index("ix_absences_last_run_id", "last_run_id"),
    Index("ix_absences_evidence", "evidence", postgresql_using="gin", postgresql_with={"fastupdate": "off"}),
)

findings = Table(
    "findings",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("class", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("severity", Text, nullable=False),
    Column("vps_id", BigInteger),
    Column("order_id", Text),
    Column("cluster", Text),
    Column("vmid", Integer),
    Column("reason", Text, nullable=False),
    Column("detail", JSONB, nullable=False, server_default=text("'{}'::jsonb")),
    now_column("first_seen_at"),
    now_column("last_seen_at"),
    Column("last_run_id", BigInteger, ForeignKey("runs.id"), index=True),
    Column("resolved_at", Time),
    Column("acknowledged_by", Text),
    Column("acknowledged_at", Time),
    Column("snoozed_until", Time),
    Column("notified_at", Time),  # when FINDING_WEBHOOK_URL took it
    one_of("severity", "info", "warning", "alarm"),
    Index("uq_findings_open", "class", "subject", unique=True, postgresql_where=text("resolved_at IS NULL")),
    Index("ix_findings_vps_id", "vps_id"),
    Index("ix_findings_open_order", "order_id", postgresql_where=text("resolved_at IS NULL")),
    Index("ix_findings_open_guest", "cluster", "vmid", postgresql_where=text("resolved_at IS NULL")),
    Index("ix_findings_resolved_at", "resolved_at", postgresql_where=text("resolved_at IS NOT NULL")),
    Index("ix_findings_untold", "id", postgresql_where=text("resolved_at IS NULL AND notified_at IS NULL")),
)

holds = Table(
    "holds",
    metadata,
    # A set of changes that the gate held. A decision covers its items one by one, each by its own hash. It does not
    # cover an item that changed since; the other items stay decided.
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("plan_hash", Text, nullable=False),
    Column("scope", Text, nullable=False),  # as reconcile.decision.gate names it: deletes, flips:<cluster>:<way>, ...
    Column("reason", Text, nullable=False),
    Column("items", JSONB, nullable=False),
    Column("run_id", BigInteger, ForeignKey("runs.id"), nullable=False, index=True),
    now_column("created_at"),
    Column("decision", Text),
    Column("decided_by", Text),
    Column("decided_at", Time),
    # Above SECOND_APPROVAL_ABOVE two operators decide. The first of them is noted here, and the set stays open.
    Column("needs_second", Boolean, nullable=False, server_default=text("false")),
    Column("first_by", Text),
    Column("first_at", Time),
    Column("rejected_at", Time),  # the last rejection; it stays when an approval follows
    one_of("decision", "approved", "rejected", "expired"),
    Index("uq_holds_open", "scope", unique=True, postgresql_where=text("decision IS NULL")),
    Index("ix_holds_plan_hash", "plan_hash"),
    Index("ix_holds_answers", "decided_at", postgresql_where=text("decision IN ('approved', 'rejected')")),
    Index("ix_holds_decided_at", "decided_at", postgresql_where=text("decision IS NOT NULL")),
    Index("ix_holds_first_at", "first_at", postgresql_where=text("first_at IS NOT NULL")),
)
