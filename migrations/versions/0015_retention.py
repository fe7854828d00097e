"""Retention of every table that grows, and indexes for what would scan one.

What the application may not delete (the journal, records, findings) is pruned by functions of the tables' owner. The
shortest age is written in them, so that nobody who may call them can make history shorter than that.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

# The evidence of a repair is read in its own row of the journal from now on: what its snapshots said is copied there.
COPY_EVIDENCE = """
UPDATE operations o SET evidence = o.evidence || jsonb_build_object('reads', (
  SELECT coalesce(jsonb_agg(jsonb_build_object('snapshot', s.id, 'source', s.source, 'scope', s.scope,
    'began_at', s.began_at, 'effective_at', s.effective_at, 'count', s.count) ORDER BY s.id), '[]'::jsonb)
  FROM snapshots s WHERE s.id IN (
    SELECT CAST(e AS bigint) FROM jsonb_array_elements_text(
      coalesce(o.evidence -> 'guest_snapshots', '[]') || coalesce(o.evidence -> 'order_snapshots', '[]')) AS e)))
WHERE o.kind = 'repair' AND (o.evidence ? 'guest_snapshots' OR o.evidence ? 'order_snapshots')
"""

# What made a VPS, ended it, or gave it another owner, order or machine stays for as long as its record.
PRUNE_JOURNAL = """
CREATE FUNCTION public.prune_journal(days integer, beyond bigint, most integer, OUT gone bigint, OUT reached bigint,
  OUT more boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  young timestamptz := clock_timestamp() - make_interval(days => greatest(days, 90));
  ids bigint[];
  first_young bigint;
BEGIN
  SELECT array_agg(w.id), min(w.id) FILTER (WHERE w.accepted_at >= young) INTO ids, first_young
  FROM (SELECT o.id, o.accepted_at FROM public.operations o WHERE o.id > beyond ORDER BY o.id LIMIT most) w;
  DELETE FROM public.operations o
  WHERE o.id = ANY(ids) AND (first_young IS NULL OR o.id < first_young) AND o.applied_at < young
    AND o.action = 'update' AND o.state IN ('applied', 'superseded', 'rejected')
    AND NOT coalesce(o.after ?| ARRAY['user_id', 'order_id', 'cluster', 'vmid', 'fingerprint'], false);
  GET DIAGNOSTICS gone = ROW_COUNT;
  more := first_young IS NULL AND coalesce(cardinality(ids), 0) = most;
  reached := coalesce(first_young - 1, ids[cardinality(ids)], beyond);
END $$
"""

# A record that was deleted goes with its lane, its claims and its part of the journal, once nothing can name it any
# more: no order that goes on, no guest that is its machine or stands at its address unclaimed, no record that was
# merged with it and stays.
PRUNE_TOMBSTONES = """
CREATE FUNCTION public.prune_tombstones(days integer, beyond bigint, most integer, OUT gone bigint, OUT reached bigint,
  OUT more boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  young timestamptz := clock_timestamp() - make_interval(days => greatest(days, 90));
  ids bigint[];
  dead bigint[];
BEGIN
  SELECT array_agg(w.vps_id) INTO ids
  FROM (SELECT l.vps_id FROM public.lanes l WHERE l.vps_id > beyond ORDER BY l.vps_id LIMIT most) w;
  more := coalesce(cardinality(ids), 0) = most;
  reached := coalesce(ids[cardinality(ids)], beyond);
  SELECT array_agg(l.vps_id) INTO dead
  FROM public.lanes l LEFT JOIN public.vps r ON r.id = l.vps_id AND r.id = ANY(ids)
  WHERE l.vps_id = ANY(ids) AND (r.deleted_at < young OR (r.id IS NULL AND l.head = 'deleted'));
  SELECT array_agg(l.vps_id) INTO dead
  FROM public.lanes l LEFT JOIN public.vps r ON r.id = l.vps_id AND r.id = ANY(dead)
  WHERE l.vps_id = ANY(dead)
    AND NOT EXISTS (SELECT 1 FROM public.operations o WHERE o.vps_id = l.vps_id
                    AND coalesce(o.applied_at >= young, true))
    AND NOT EXISTS (SELECT 1 FROM public.lanes m WHERE m.merged_into = l.vps_id)
    AND NOT EXISTS (SELECT 1 FROM public.vps m WHERE m.merged_into = l.vps_id)
    AND NOT EXISTS (SELECT 1 FROM public.vps s WHERE s.id = coalesce(r.merged_into, l.merged_into)
                    AND coalesce(s.deleted_at >= young, true))
    AND NOT EXISTS (SELECT 1 FROM public.orders_seen o WHERE o.order_id IN (r.order_id, l.order_id)
                    AND o.state <> 'ended')
    AND NOT EXISTS (SELECT 1 FROM public.orders_seen o WHERE o.panel_vps_id = l.vps_id AND o.state <> 'ended')
    AND NOT EXISTS (SELECT 1 FROM public.guests g WHERE g.fingerprint = r.fingerprint)
    AND NOT EXISTS (SELECT 1 FROM public.guests g WHERE g.cluster = r.cluster AND g.vmid = r.vmid
                    AND NOT EXISTS (SELECT 1 FROM public.vps x WHERE x.cluster = g.cluster AND x.vmid = g.vmid
                                    AND x.deleted_at IS NULL));
  -- Held as a call holds it, and looked at once more: one that came for such a lane at this very moment is not lost.
  SELECT array_agg(w.vps_id) INTO ids
  FROM (SELECT l.vps_id FROM public.lanes l WHERE l.vps_id = ANY(dead) ORDER BY l.vps_id FOR UPDATE SKIP LOCKED) w;
  SELECT array_agg(l.vps_id) INTO dead FROM public.lanes l
  WHERE l.vps_id = ANY(ids) AND l.last_seq = l.applied_seq
    AND NOT EXISTS (SELECT 1 FROM public.vps r WHERE r.id = l.vps_id AND r.deleted_at IS NULL);
  DELETE FROM public.claims c WHERE c.vps_id = ANY(dead);
  DELETE FROM public.vps r WHERE r.id = ANY(dead);
  DELETE FROM public.operations o WHERE o.vps_id = ANY(dead);
  DELETE FROM public.lanes l WHERE l.vps_id = ANY(dead);
  GET DIAGNOSTICS gone = ROW_COUNT;
END $$
"""

PRUNE_FINDINGS = """
CREATE FUNCTION public.prune_findings(most integer) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  young timestamptz := clock_timestamp() - interval '90 days';
  gone bigint;
BEGIN
  DELETE FROM public.findings WHERE ctid = ANY(ARRAY(
    SELECT f.ctid FROM public.findings f WHERE f.resolved_at < young
    ORDER BY f.resolved_at LIMIT most));
  GET DIAGNOSTICS gone = ROW_COUNT;
  RETURN gone;
END $$
"""

# As before, but by moments that an index can be asked for: a clock that moves on from row to row reads every row.
PRUNE_AUDIT = """
CREATE OR REPLACE FUNCTION public.prune_audit(audit text, most integer) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  young timestamptz := clock_timestamp() - interval '90 days';
  young_decision timestamptz := clock_timestamp() - interval '400 days';
  gone bigint;
BEGIN
  CASE audit
    WHEN 'refused_calls' THEN
      DELETE FROM public.refused_calls WHERE ctid = ANY(ARRAY(
        SELECT t.ctid FROM public.refused_calls t WHERE t.at < young ORDER BY t.at LIMIT most));
    WHEN 'access_counts' THEN
      DELETE FROM public.access_counts WHERE ctid = ANY(ARRAY(
        SELECT t.ctid FROM public.access_counts t WHERE t.hour < young ORDER BY t.hour LIMIT most));
    WHEN 'operator_actions' THEN
      DELETE FROM public.operator_actions WHERE ctid = ANY(ARRAY(
        SELECT t.ctid FROM public.operator_actions t WHERE t.at < young_decision ORDER BY t.at LIMIT most));
  END CASE;
  GET DIAGNOSTICS gone = ROW_COUNT;
  RETURN gone;
END $$
"""

FUNCTIONS = (
    "public.prune_journal(integer, bigint, integer)",
    "public.prune_tombstones(integer, bigint, integer)",
    "public.prune_findings(integer)",
)

# Name, table, columns and, of partial ones, the condition.
INDEXES = (
    ("ix_operations_repairs", "operations", ["applied_at"], "kind = 'repair'"),
    ("ix_operations_calls", "operations", ["applied_at"], "kind = 'sync' AND state = 'applied'"),
    ("ix_operations_unusual", "operations", ["state", "id"], "state IN ('superseded', 'rejected', 'dead')"),
    ("ix_operations_waiting", "operations", ["id"], "state = 'queued'"),
    ("ix_lanes_merged_into", "lanes", ["merged_into"], "merged_into IS NOT NULL"),
    ("ix_runs_kind_id", "runs", ["kind", "id"], None),
    ("ix_runs_running", "runs", ["epoch"], "state = 'running'"),
    ("ix_absences_last_run_id", "absences", ["last_run_id"], None),
    ("ix_scopes_snapshot_id", "scopes", ["snapshot_id"], None),
    ("ix_findings_resolved_at", "findings", ["resolved_at"], "resolved_at IS NOT NULL"),
    ("ix_guests_listed", "guests", ["cluster", "vmid"], "unlisted_since IS NULL"),
    ("ix_orders_seen_known", "orders_seen", ["effective_at"], "state IN ('active', 'pending', 'suspended')"),
    ("ix_orders_seen_going", "orders_seen", ["cluster", "vmid"], "state <> 'ended'"),
    ("ix_orders_seen_listed", "orders_seen", ["order_id"], "unlisted_since IS NULL"),
    ("ix_holds_answers", "holds", ["decided_at"], "decision IN ('approved', 'rejected')"),
)


def upgrade() -> None:
    op.add_column("orders_seen", sa.Column("unlisted_since", sa.DateTime(timezone=True)))
    op.create_table(
        "prunings",
        sa.Column("task", sa.Text(), nullable=False),
        sa.Column("reached", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.PrimaryKeyConstraint("task", name=op.f("pk_prunings")),
    )
    op.execute("GRANT SELECT, INSERT, UPDATE ON prunings TO panel_app")
    op.execute("GRANT DELETE ON guests, orders_seen, scopes TO panel_app")
    op.execute(COPY_EVIDENCE)
    op.drop_index("ix_snapshots_finished_at", table_name="snapshots")
    op.drop_column("snapshots", "kept")
    # An operation may go before the claim or the key that it left: neither needs it.
    op.drop_constraint("fk_claims_operation_id_operations", "claims", type_="foreignkey")
    op.drop_constraint("fk_idempotency_keys_operation_id_operations", "idempotency_keys", type_="foreignkey")
    for name, table, columns, condition in INDEXES:
        where = sa.text(condition) if condition is not None else None
        op.create_index(name, table, columns, postgresql_where=where)
    # Read by "which absences does this snapshot prove?"; a list of pending entries would be scanned each time.
    op.create_index(
        "ix_absences_evidence", "absences", ["evidence"], postgresql_using="gin", postgresql_with={"fastupdate": "off"}
    )
    for statement in (PRUNE_JOURNAL, PRUNE_TOMBSTONES, PRUNE_FINDINGS, PRUNE_AUDIT):
        op.execute(statement)
    for function in FUNCTIONS:
        op.execute(f"REVOKE ALL ON FUNCTION {function} FROM PUBLIC")
        op.execute(f"GRANT EXECUTE ON FUNCTION {function} TO panel_app")


def downgrade() -> None:
    for function in FUNCTIONS:
        op.execute(f"DROP FUNCTION {function}")
    op.drop_index("ix_absences_evidence", table_name="absences")
    for name, table, _, _ in reversed(INDEXES):
        op.drop_index(name, table_name=table)
    # What was pruned since has left claims that name operations which are no more.
    op.execute(
        "DELETE FROM idempotency_keys k WHERE NOT EXISTS (SELECT 1 FROM operations o WHERE o.id = k.operation_id)"
    )
    op.execute("DELETE FROM claims c WHERE NOT EXISTS (SELECT 1 FROM operations o WHERE o.id = c.operation_id)")
    op.create_foreign_key(
        "fk_idempotency_keys_operation_id_operations", "idempotency_keys", "operations", ["operation_id"], ["id"]
    )
    op.create_foreign_key("fk_claims_operation_id_operations", "claims", "operations", ["operation_id"], ["id"])
    op.add_column("snapshots", sa.Column("kept", sa.Boolean(), server_default=sa.text("false"), nullable=False))
    op.create_index("ix_snapshots_finished_at", "snapshots", ["finished_at"], postgresql_where=sa.text("NOT kept"))
    op.execute("REVOKE DELETE ON guests, orders_seen, scopes FROM panel_app")
    op.drop_table("prunings")
    op.drop_column("orders_seen", "unlisted_since")
