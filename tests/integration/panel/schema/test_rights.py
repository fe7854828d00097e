"""What the application's login may do, statement by statement and column by column: finish, never rewrite."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from panel.journal.accept import Acceptor
from panel.journal.writer import apply_operation
from tests.integration.panel.conftest import accepted
from tests.support.calls import create_call

WRITABLE = {
    "state",
    "attempts",
    "error",
    "result",
    "reason",
    "before",
    "after",
    "applied_at",
    "publish_at",
    "publishes",
}
UNCHANGEABLE = ("operator_actions", "refused_calls", "alembic_version")
COUNTED = {"count", "last_at", "last_request_id"}
NEVER_DELETED = ("vps", "operations", "vps_queues", "order_claims", "users", "findings", "operator_actions",
                 "refused_calls", "access_counts", "alembic_version")  # fmt: skip

DENIED = [
    ("what was asked", "UPDATE operations SET payload = '{}'"),
    ("of which VPS", "UPDATE operations SET vps_id = 1"),
    ("in which order", "UPDATE operations SET seq = seq + 100"),
    ("when", "UPDATE operations SET accepted_at = now()"),
    ("with which key", "UPDATE operations SET api_key_label = 'previous'"),
    ("by which request", "UPDATE operations SET request_id = 'x'"),
    ("on what evidence", "UPDATE operations SET evidence = '{}'"),
    ("by which run", "UPDATE operations SET run_id = NULL, epoch = NULL"),
    ("that it was a call", "UPDATE operations SET kind = 'operator'"),
    ("one beside one that may change", "UPDATE operations SET error = NULL, source = 'orders'"),
    ("the journal", "DELETE FROM operations"),
    ("all of it", "TRUNCATE operations CASCADE"),
    ("records", "DELETE FROM vps"),
    ("decisions", "DELETE FROM operator_actions"),
    ("who decided", "UPDATE operator_actions SET \"by\" = 'api:eve'"),
    ("when it was decided", "INSERT INTO operator_actions (at, \"by\", action, subject) VALUES (now(), 'a', 'b', 'c')"),
    ("uses", "DELETE FROM access_counts"),
    ("whose uses", "UPDATE access_counts SET who = 'api:eve'"),
    ("refusals", "DELETE FROM refused_calls"),
    ("what was refused", "UPDATE refused_calls SET message = ''"),
]


def columns(engine: Engine, table: str, right: str) -> set[str]:
    with engine.connect() as connection:
        found = connection.scalars(
            text(
                "SELECT attname FROM pg_attribute WHERE attrelid = CAST(:table AS regclass) AND attnum > 0"
                " AND NOT attisdropped AND has_column_privilege('panel_app', attrelid, attnum, :right)"
            ),
            {"table": table, "right": right},
        )
        return set(found)


def test_the_applications_rights_are_these(engine: Engine) -> None:
    assert columns(engine, "operations", "UPDATE") == WRITABLE
    assert columns(engine, "access_counts", "UPDATE") == COUNTED
    assert columns(engine, "operator_actions", "INSERT") == {"by", "action", "subject", "request_id", "network"}
    assert [table for table in UNCHANGEABLE if columns(engine, table, "UPDATE")] == []
    asked = text("SELECT has_table_privilege('panel_app', :table, 'DELETE, TRUNCATE, TRIGGER, REFERENCES')")
    with engine.connect() as connection:
        assert [table for table in NEVER_DELETED if connection.scalar(asked, {"table": table})] == []


@pytest.mark.parametrize("statement", [row[1] for row in DENIED], ids=[row[0] for row in DENIED])
async def test_what_was_written_stays(acceptor: Acceptor, engine: Engine, statement: str) -> None:
    created = await accepted(acceptor, create_call())
    assert apply_operation(engine, created.operation_id).state == "applied"
    with engine.connect() as connection:
        with pytest.raises(DBAPIError) as refused:
            connection.execute(text(statement))
        assert getattr(refused.value.orig, "sqlstate", None) == "42501"


def test_it_reads_its_sources_into_temporary_tables(engine: Engine) -> None:
    with engine.connect() as connection:
        connection.execute(text("CREATE TEMP TABLE read_now (id int)"))
