"""Rights: the application settles what is in the journal, and cannot rewrite it; nor what the audit says."""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

# How far an operation has come. What was asked, of which VPS, by whom and when is written once.
SETTLED = "state, attempts, error, result, reason, before, after, applied_at, publish_at, publishes"
# Without the time: that is the database's to say.
NOTED = '"by", action, subject, request_id, network'

# As the tables' owner. How old is old enough is written here, so that whoever calls it cannot say so.
PRUNE_AUDIT = """
CREATE FUNCTION public.prune_audit(audit text, most integer) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  gone bigint;
BEGIN
  CASE audit
    WHEN 'refused_calls' THEN
      DELETE FROM public.refused_calls WHERE ctid = ANY(ARRAY(
        SELECT t.ctid FROM public.refused_calls t WHERE t.at < clock_timestamp() - interval '90 days' LIMIT most));
    WHEN 'access_counts' THEN
      DELETE FROM public.access_counts WHERE ctid = ANY(ARRAY(
        SELECT t.ctid FROM public.access_counts t WHERE t.hour < clock_timestamp() - interval '90 days' LIMIT most));
    WHEN 'operator_actions' THEN  -- last year's are there when the year is looked at
      DELETE FROM public.operator_actions WHERE ctid = ANY(ARRAY(
        SELECT t.ctid FROM public.operator_actions t WHERE t.at < clock_timestamp() - interval '400 days' LIMIT most));
  END CASE;
  GET DIAGNOSTICS gone = ROW_COUNT;
  RETURN gone;
END $$
"""


def upgrade() -> None:
    op.execute("REVOKE UPDATE ON operations FROM panel_app")
    op.execute(f"GRANT UPDATE ({SETTLED}) ON operations TO panel_app")
    op.execute("REVOKE UPDATE, DELETE ON refused_calls FROM panel_app")
    op.execute("REVOKE UPDATE, DELETE ON access_counts FROM panel_app")
    op.execute("GRANT UPDATE (count, last_at, last_request_id) ON access_counts TO panel_app")
    op.execute("REVOKE INSERT, DELETE ON operator_actions FROM panel_app")
    op.execute(f"GRANT INSERT ({NOTED}) ON operator_actions TO panel_app")
    op.execute(PRUNE_AUDIT)
    op.execute("REVOKE ALL ON FUNCTION public.prune_audit(text, integer) FROM PUBLIC")
    op.execute("GRANT EXECUTE ON FUNCTION public.prune_audit(text, integer) TO panel_app")


def downgrade() -> None:
    op.execute("DROP FUNCTION public.prune_audit(text, integer)")
    op.execute("GRANT INSERT, DELETE ON operator_actions TO panel_app")
    op.execute("GRANT UPDATE, DELETE ON access_counts TO panel_app")
    op.execute("GRANT UPDATE, DELETE ON refused_calls TO panel_app")
    op.execute("GRANT UPDATE ON operations TO panel_app")
