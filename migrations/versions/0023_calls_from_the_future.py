"""Pruning the journal goes on behind operations that were accepted while the database's clock was ahead.

Ids follow time, so the function stops at the first operation that is too young. One that is from the future says nothing
about those behind it: it is passed, and stays.
"""

from __future__ import annotations

from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

PRUNE_JOURNAL = """
CREATE OR REPLACE FUNCTION public.prune_journal(days integer, beyond bigint, most integer, OUT gone bigint,
  OUT reached bigint, OUT more boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  young timestamptz := clock_timestamp() - make_interval(days => greatest(days, 90));
  ids bigint[];
  first_young bigint;
BEGIN
  SELECT array_agg(w.id), min(w.id) FILTER (WHERE {young}) INTO ids, first_young
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


def upgrade() -> None:
    op.execute(PRUNE_JOURNAL.format(young="w.accepted_at BETWEEN young AND clock_timestamp()"))


def downgrade() -> None:
    op.execute(PRUNE_JOURNAL.format(young="w.accepted_at >= young"))
