"""What is let go, and what stays however old it is."""

from __future__ import annotations

from sqlalchemy import Engine, text

from panel.prune import prune

OLD = "clock_timestamp() - interval '100 days'"


def test_old_bookkeeping_goes_and_evidence_stays(engine: Engine, owner: Engine) -> None:
    statements = (
        f"INSERT INTO runs (kind, trigger, epoch, state, started_at) SELECT 'fast', 't', 1, 'done', {OLD} FROM"
        " generate_series(1, 3)",
        "INSERT INTO runs (kind, trigger, epoch, state) VALUES ('fast', 't', 1, 'done')",
        "INSERT INTO snapshots (run_id, source, scope, complete, count, finished_at, kept)"
        f" VALUES (1, 'orders', 'all', true, 1, {OLD}, false), (2, 'orders', 'all', true, 1, {OLD}, true),"
        f" (3, 'orders', 'all', true, 1, {OLD}, false), (4, 'orders', 'all', true, 1, clock_timestamp(), false)",
        "INSERT INTO absences (kind, subject, absent_since, consecutive, last_absent_at, last_run_id, evidence)"
        f" VALUES ('order', '7', {OLD}, 1, {OLD}, 3, ARRAY[3])",
        "INSERT INTO holds (plan_hash, scope, reason, items, run_id, decision, decided_at)"
        f" VALUES ('a', 'deletes', 'r', '[]', 2, 'expired', {OLD}), ('b', 'deletes', 'r', '[]', 2, 'approved', {OLD}),"
        " ('c', 'deletes', 'r', '[]', 2, 'expired', clock_timestamp()), ('d', 'deletes', 'r', '[]', 2, NULL, NULL)",
        f"INSERT INTO refused_calls (at, status_code, code, message) VALUES ({OLD}, 422, 'c', 'm')",
        "INSERT INTO refused_calls (status_code, code, message) VALUES (422, 'c', 'm')",
        "INSERT INTO access_counts"
        f" SELECT h, 'no-key', '192.0.2.1', 'GET /api/vps', 401, 'c', 1, h, h, 'r' FROM (VALUES ({OLD}),"
        " (clock_timestamp())) AS t(h)",
        f"INSERT INTO operator_actions (at, \"by\", action, subject) VALUES ({OLD}, 'api:ann', 'pause', 'all'),"
        " (clock_timestamp() - interval '401 days', 'api:ann', 'pause', 'feed')",
        f"INSERT INTO idempotency_keys (scope, key, body_hash, created_at) VALUES ('main-site', 'a', 'h', {OLD})",
        "INSERT INTO idempotency_keys (scope, key, body_hash, created_at)"
        " VALUES ('main-site', 'b', 'h', clock_timestamp() - interval '25 hours')",
    )
    with owner.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))
    once = ("idempotency_keys", "refused_calls", "access_counts", "operator_actions", "holds", "snapshots", "runs")
    assert prune(engine) == dict.fromkeys(once, 1)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT id FROM snapshots ORDER BY id")).scalars().all() == [2, 3, 4]
        assert connection.execute(text("SELECT id FROM runs ORDER BY id")).scalars().all() == [2, 3, 4]
        assert connection.execute(text("SELECT plan_hash FROM holds ORDER BY id")).scalars().all() == ["b", "c", "d"]
        assert connection.execute(text("SELECT key FROM idempotency_keys")).scalars().all() == ["b"]
    assert sum(prune(engine).values()) == 0


def test_nobody_prunes_the_audit_by_an_age_of_their_own(engine: Engine, owner: Engine) -> None:
    with owner.begin() as connection:
        connection.execute(
            text(
                'INSERT INTO operator_actions (at, "by", action, subject)'
                " VALUES (clock_timestamp() - interval '399 days', 'api:ann', 'pause', 'all')"
            )
        )
    assert prune(engine)["operator_actions"] == 0
    # Whoever may call the function cannot have it look at tables of their own instead.
    with engine.connect() as connection:
        connection.execute(text("CREATE TEMP TABLE operator_actions (at timestamptz)"))
        connection.execute(text("INSERT INTO operator_actions VALUES ('2001-01-01')"))
        connection.execute(text("SET search_path = pg_temp, public"))
        assert connection.scalar(text("SELECT public.prune_audit('operator_actions', 10)")) == 0
