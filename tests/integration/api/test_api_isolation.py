"""Clients see their own and learn nothing of others: with wrong queries, with any id, on every route there is."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from sqlalchemy import Engine, event, text
from sqlalchemy.exc import DBAPIError

from api import dependencies as edges
from api.dependencies import Edge
from panel.clients.round_trips import Query, RoundTrips, Statement
from panel.power.views import CLIENT_COLUMNS as ACTION_COLUMNS
from panel.records.reads import reading_as_client
from tests.integration.api.conftest import Secrets, Worker
from tests.integration.api.test_api_sync import create, delete
from tests.support.fleets.world import add_user

ANNA, BORIS, NOBODY = 5, 6, 4711
CONDITIONS = "v.user_id = $1::bigint AND v.deleted_at IS NULL"
NONE = "$1::bigint IS NOT NULL"


@pytest.fixture
async def ids(site: httpx.AsyncClient, worker: Worker, engine: Engine) -> dict[str, int]:
    """Records of both clients by what became of them."""
    made: dict[str, int] = {}
    for name, owner in (("own", ANNA), ("own deleted", ANNA), ("own merged", ANNA), ("others", BORIS), ("gone", BORIS)):
        answer = (await site.post("/api/vps/sync", json=create(user_id=owner, name=name))).json()
        worker.apply(answer["operation"]["id"])
        made[name] = answer["vps"]["id"]
    for name in ("own deleted", "gone", "own merged"):
        worker.apply((await site.post("/api/vps/sync", json=delete(made[name]))).json()["operation"]["id"])
    with engine.begin() as connection:
        connection.execute(
            text("UPDATE vps SET merged_into = :into WHERE id = :id"), {"into": made["own"], "id": made["own merged"]}
        )
    return made


def _asks_for_a_client(dependant: Dependant) -> bool:
    return any(one.call is edges._client or _asks_for_a_client(one) for one in dependant.dependencies)


def client_routes(app: FastAPI) -> list[APIRoute]:
    """Every route that a token opens."""
    found = [route for route in _routes(app.router.routes) if _asks_for_a_client(route.dependant)]
    assert len(found) >= 2
    return found


def _routes(listed: Any) -> Iterator[APIRoute]:
    for route in listed:
        if isinstance(route, APIRoute):
            yield route
        elif (nested := getattr(route, "original_router", None)) is not None:
            yield from _routes(nested.routes)


def path_of(route: APIRoute, vps_id: object) -> str:
    return re.sub(r"\{\w+\}", str(vps_id), route.path_format)


async def asked(client: httpx.AsyncClient, route: APIRoute, vps_id: object) -> list[httpx.Response]:
    """An answer of each method of the route."""
    path = path_of(route, vps_id)
    return [await client.request(method, path, headers={"X-Request-Id": "r"}) for method in sorted(route.methods or ())]


def without_id(answer: httpx.Response, vps_id: int) -> str:
    return re.sub(rf"(VPS |/){vps_id}\b", r"\1ID", answer.text)


def sqlstate(error: DBAPIError) -> str:
    return str(getattr(error.orig, "sqlstate", None))


@contextmanager
def without_conditions(app: FastAPI) -> Iterator[list[str]]:
    """Clients' queries lose their conditions on user and deletion on the way to the database; those that did."""
    edge: Edge = app.state.edge
    changed: list[str] = []

    def forget(query: Query) -> Query:
        without = query.statement.sql.decode().replace(CONDITIONS, NONE)
        if without.encode() == query.statement.sql:
            return query
        assert not re.search("v.(user_id|deleted_at) (=|IS)", without)
        changed.append(without)
        return Query(Statement(without), query.values)

    with sent_to(edge.clients, lambda queries: tuple(map(forget, queries))):
        yield changed


@contextmanager
def sent_to(clients: RoundTrips, instead: Callable[[Sequence[Query]], Sequence[Query]]) -> Iterator[None]:
    """What the reads of customers send meanwhile is what ``instead`` makes of it."""
    send = clients._rows
    clients._rows = lambda queries: send(instead(queries))  # type: ignore[method-assign]
    try:
        yield
    finally:
        del clients._rows


class TestWithoutTheWhere:
    """Row-level security alone."""

    async def test_every_client_route_still_shows_only_own_live_records(
        self, app: FastAPI, anna: httpx.AsyncClient, boris: httpx.AsyncClient, ids: dict[str, int]
    ) -> None:
        for route in client_routes(app):
            for vps_id in ids.values():
                with without_conditions(app) as changed:
                    answers = await asked(anna, route, vps_id)
                assert changed, f"{route.path} was meant to ask the database for records of a client"
                for answer in answers:
                    shown = answer.json().get("data") or []
                    for record in shown if isinstance(shown, list) else [shown]:
                        assert (record["id"], record["user_id"]) == (ids["own"], ANNA)
        with without_conditions(app):
            assert [r["id"] for r in (await boris.get("/api/vps")).json()["data"]] == [ids["others"]]
            assert (await boris.get(f"/api/vps/{ids['own']}")).status_code == 404

    async def test_the_role_sees_own_rows_with_a_user_and_none_without(self, app: FastAPI, ids: dict[str, int]) -> None:
        edge: Edge = app.state.edge
        every = text("SELECT id FROM vps")
        async with reading_as_client(edge.reader, ANNA) as connection:
            assert list(await connection.scalars(every)) == [ids["own"]]
            assert await connection.scalar(text("SELECT count(*) FROM vps WHERE true OR user_id = 6")) == 1
            for nobody in ("", "0", "-5"):
                values = {"user": nobody}
                await connection.execute(text("SELECT set_config('panel.user_id', :user, true)"), values)
                assert list(await connection.scalars(every)) == []
        async with edge.reader.connect() as connection:
            await connection.execute(text("SET LOCAL ROLE panel_client"))
            assert list(await connection.scalars(every)) == [], "no user was ever set"

    async def test_a_user_that_is_no_number_is_an_error_and_no_row(
        self, app: FastAPI, ids: dict[str, int], subtests: pytest.Subtests
    ) -> None:
        assert ids
        edge: Edge = app.state.edge
        for user in ("5 OR true", "6'--", "5,6", "{5,6}", "NULL", "99999999999999999999", "5.0"):
            with subtests.test(user):
                async with reading_as_client(edge.reader, ANNA) as connection:
                    await connection.execute(text("SELECT set_config('panel.user_id', :user, true)"), {"user": user})
                    with pytest.raises(DBAPIError) as refused:
                        await connection.execute(text("SELECT id FROM vps"))
                    assert sqlstate(refused.value)[:2] == "22", "data exception"


class TestTheRoleItself:
    """What panel_client may: listed columns of vps and power_actions, when nodes were read, and nothing else."""

    def test_its_rights_are_these(self, engine: Engine) -> None:
        with engine.connect() as connection:
            tables = connection.execute(text(RIGHTS_ON_TABLES)).all()
            columns = connection.scalars(text(READABLE_COLUMNS.format(table="vps"))).all()
            of_actions = connection.scalars(text(READABLE_COLUMNS.format(table="power_actions"))).all()
            other = connection.scalars(text(OTHER_RIGHTS)).all()
        assert [tuple(row) for row in tables] == [
            (name, "SELECT") for name in ("client_activity", "client_statistics", "scopes")
        ]
        assert set(columns) == set(COLUMNS.split())
        assert set(of_actions) == {*ACTION_COLUMNS, "user_id"}
        assert list(other) == []

    def test_it_is_nobody(self, engine: Engine) -> None:
        with engine.connect() as connection:
            row = connection.execute(
                text(
                    "SELECT rolsuper, rolcreaterole, rolcreatedb, rolcanlogin, rolbypassrls, rolreplication,"
                    " (SELECT count(*) FROM pg_auth_members m WHERE m.member = r.oid) AS member_of,"
                    " (SELECT count(*) FROM pg_class c WHERE c.relowner = r.oid) AS owns"
                    " FROM pg_roles r WHERE rolname = 'panel_client'"
                )
            ).one()
        assert not any(row)

    async def test_anything_else_is_denied_within_the_statement(self, app: FastAPI, subtests: pytest.Subtests) -> None:
        edge: Edge = app.state.edge
        for statement in DENIED:
            with subtests.test(statement):
                async with reading_as_client(edge.reader, ANNA) as connection:
                    with pytest.raises(DBAPIError) as refused:
                        await connection.execute(text(statement))
                    assert sqlstate(refused.value) == "42501", "insufficient privilege"

    async def test_taking_the_role_back_within_the_query_widens_nothing(
        self, app: FastAPI, ids: dict[str, int]
    ) -> None:
        """The policy was chosen when the statement began."""
        edge: Edge = app.state.edge
        async with reading_as_client(edge.reader, ANNA) as connection:
            rows = await connection.execute(
                text(
                    "WITH back AS MATERIALIZED (SELECT set_config('role', 'none', true) AS r)"
                    " SELECT v.id FROM back, vps v WHERE back.r IS NOT NULL"
                )
            )
            assert [row.id for row in rows] == [ids["own"]]


DENIED = (
    "SELECT * FROM vps",
    "SELECT vps FROM vps",
    "SELECT to_jsonb(v) FROM vps v",
    "SELECT merged_into FROM vps",
    "SELECT vmid FROM vps",
    "SELECT 1 FROM vps WHERE fingerprint IS NOT NULL",
    "SELECT id FROM vps ORDER BY deleted_reason",
    "SELECT id FROM vps FOR UPDATE",
    "SELECT * FROM power_actions",
    "SELECT fingerprint FROM power_actions",
    "UPDATE power_actions SET state = 'done'",
    "SELECT prune_power_actions(1, 1)",
    "SELECT points FROM vps_statistics",
    "SELECT id FROM users",
    "SELECT id FROM operations",
    "SELECT * FROM operator_actions",
    "SELECT * FROM access_counts",
    "SELECT * FROM refused_calls",
    "SELECT * FROM guests",
    "SELECT v.id FROM vps v JOIN users u ON u.id = v.user_id",
    "SELECT nextval('vps_id_seq')",
    "INSERT INTO task_requests (task, subject) VALUES ('reconcile.run', '')",
    "UPDATE scopes SET count = 0",
    "TRUNCATE vps",
    "ALTER TABLE vps DISABLE ROW LEVEL SECURITY",
    "DROP POLICY vps_client ON vps",
    "CREATE TABLE mine (id int)",
    "CREATE TEMP TABLE mine (id int)",
    "SELECT prune_audit('operator_actions', 1)",
    "WITH back AS (SELECT set_config('role', 'none', true)) SELECT u.id FROM back, users u",
    "SELECT set_config('role', 'panel_app', true), count(*) FROM users",
)

RIGHTS_ON_TABLES = """
SELECT c.relname, r.privilege FROM pg_class c
CROSS JOIN unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) AS r(privilege)
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
  AND has_table_privilege('panel_client', c.oid, r.privilege) ORDER BY 1, 2
"""
READABLE_COLUMNS = """
SELECT a.attname FROM pg_attribute a WHERE a.attrelid = '{table}'::regclass AND a.attnum > 0 AND NOT a.attisdropped
  AND has_column_privilege('panel_client', a.attrelid, a.attnum, 'SELECT')
"""
OTHER_RIGHTS = """
SELECT format('%s %s.%s', r.privilege, c.relname, a.attname) FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
CROSS JOIN unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'REFERENCES']) AS r(privilege)
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped
  AND has_column_privilege('panel_client', c.oid, a.attnum, r.privilege)
  AND NOT (r.privilege = 'SELECT' AND c.relname IN ('vps', 'scopes', 'power_actions'))
UNION ALL
SELECT c.relname FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'S'
  AND CASE c.relkind WHEN 'S' THEN has_sequence_privilege('panel_client', c.oid, 'USAGE, SELECT, UPDATE') END
UNION ALL
SELECT p.proname FROM pg_proc p WHERE p.pronamespace = 'public'::regnamespace
  AND has_function_privilege('panel_client', p.oid, 'EXECUTE')
UNION ALL
SELECT 'TEMPORARY on the database' WHERE has_database_privilege('panel_client', current_database(), 'TEMPORARY')
UNION ALL
SELECT 'CREATE on the database' WHERE has_database_privilege('panel_client', current_database(), 'CREATE')
UNION ALL
SELECT 'CREATE on schema' WHERE has_schema_privilege('panel_client', 'public', 'CREATE')
"""
COLUMNS = """
id user_id name cpu ram_mb disk_gb os hypervisor ip_address ip6_address status order_id order_state order_source
order_as_of power_state power_detail power_source power_as_of power_unconfirmed_since cluster node link_state version
created_at updated_at deleted_at
"""

IMPOSSIBLE = (
    "0", "-1", "-0", "00", "1e3", "1.0", "0x1", "%31%00", "%D9%A1", "+1", "null", "None", "9223372036854775807",
    "9223372036854775808", "99999999999999999999", "9" * 400, "1;--", "%27", "%20",
)  # fmt: skip


class TestEveryIdOfEveryRoute:
    """404, the same for all; a route that is added is asked too."""

    async def test_ids_that_are_not_ones_own(
        self, app: FastAPI, anna: httpx.AsyncClient, ids: dict[str, int], subtests: pytest.Subtests
    ) -> None:
        taking = [route for route in client_routes(app) if route.param_convertors]
        assert taking
        never = 987_654
        for route in taking:
            expected = await asked(anna, route, never)
            for name in ("others", "gone", "own deleted", "own merged"):
                with subtests.test(f"{route.path}: {name}"):
                    for answer, absent in zip(await asked(anna, route, ids[name]), expected, strict=True):
                        assert answer.status_code == absent.status_code == 404
                        assert without_id(answer, ids[name]) == without_id(absent, never)
                        assert set(answer.headers) == set(absent.headers)
            for vps_id in IMPOSSIBLE:
                with subtests.test(f"{route.path}: {vps_id}"):
                    codes = {answer.status_code for answer in await asked(anna, route, vps_id)}
                    assert codes == {404}

    async def test_without_a_token_every_id_is_the_same_401(
        self, app: FastAPI, anna: httpx.AsyncClient, ids: dict[str, int]
    ) -> None:
        del anna.headers["Authorization"]
        for route in client_routes(app):
            said = {
                re.sub(r"/\d+", "/ID", answer.text)
                for vps_id in (*ids.values(), 987_654)
                for answer in await asked(anna, route, vps_id)
            }
            assert len(said) == 1
            assert '"code":"token_missing"' in said.pop()


class TestWhoIsACustomer:
    """Is not to be learned from answers, nor from how much work they are."""

    async def test_an_unknown_user_is_one_without_vps(
        self, app: FastAPI, anna: httpx.AsyncClient, secrets: Secrets, ids: dict[str, int], engine: Engine
    ) -> None:
        add_user(engine, 7)
        for route in client_routes(app):
            seen = []
            for user_id in (7, NOBODY):
                anna.headers["Authorization"] = f"Bearer {secrets.token(user_id)}"
                with statements(app) as executed:
                    answers = await asked(anna, route, ids["own"])
                seen.append(([(a.status_code, a.content, sorted(a.headers)) for a in answers], executed))
            known, unknown = seen
            assert known == unknown
            assert known[1], "the database was asked in both cases, the same"

    async def test_a_wrong_token_is_the_same_401_whoever_it_names(self, app: FastAPI, anna: httpx.AsyncClient) -> None:
        strangers = Secrets()
        for route in client_routes(app):
            said = set()
            for user_id in (ANNA, BORIS, NOBODY):
                anna.headers["Authorization"] = f"Bearer {strangers.token(user_id)}"
                with statements(app) as executed:
                    answers = await asked(anna, route, 1)
                assert executed == [], "nobody asks the database who that would be"
                said |= {(answer.status_code, answer.text, str(sorted(answer.headers))) for answer in answers}
            ((status, body, _),) = said
            assert (status, '"message":"The token is not valid"' in body) == (401, True)


@contextmanager
def statements(app: FastAPI) -> Iterator[list[str]]:
    """What the API's reads ask of the database meanwhile; its housekeeping left out."""
    edge: Edge = app.state.edge
    engine = edge.reader.sync_engine
    executed: list[str] = []

    def note(_c: Any, _cursor: Any, statement: str, _parameters: Any, _context: Any, _many: bool) -> None:
        if "access_counts" not in statement and "operations" not in statement:
            executed.append(statement)

    def note_all(queries: Sequence[Query]) -> Sequence[Query]:
        executed.extend(query.statement.sql.decode() for query in queries)
        return queries

    event.listen(engine, "before_cursor_execute", note)
    try:
        with sent_to(edge.clients, note_all):
            yield executed
    finally:
        event.remove(engine, "before_cursor_execute", note)
