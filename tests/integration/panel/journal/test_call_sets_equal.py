"""Calls that are applied in sets leave every table as calls that are applied one by one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from typing import Any

import psycopg
import pytest
from hypothesis import Phase, given
from hypothesis import settings as trying
from hypothesis import strategies as st
from sqlalchemy import Engine, text

from panel.journal.accept import Acceptor
from panel.journal.call_sets.apply import apply_calls
from panel.journal.calls import Accepted, Call
from panel.journal.writer import apply_operation
from panel.sessions import async_engine, sync_engine
from tests.support.calls import create_call, delete_call, update_call
from tests.support.databases import PATIENT, Database, Databases
from tests.support.fleets.world import add_user

Step = tuple[str, int, dict[str, Any]]

ORDERS = st.sampled_from(["o-1", "o-2", "o-3"])
NAMED = st.fixed_dictionaries(
    {},
    optional={
        "order_id": ORDERS,
        "guest": st.sampled_from([100, 101, 102]),
        "user_id": st.sampled_from([5, 6]),
        "name": st.sampled_from(["a", "b"]),
        # What validation keeps out breaks a constraint. No later call mends it: a set writes only what its calls come
        # to, so it would never meet what one of them breaks and the next one mends.
        "ram": st.just(1),
    },
)
VPS = st.integers(0, 5)
STATUS = st.sampled_from(["running", "stopped", "suspended", "error"])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("create"), VPS, NAMED),
        st.tuples(st.just("update"), VPS, st.builds(lambda named, s: named | {"status": s}, NAMED, STATUS)),
        st.tuples(st.just("delete"), VPS, st.fixed_dictionaries({}, optional={"order_id": ORDERS})),
    ),
    max_size=25,
)
TRIED = st.lists(
    st.tuples(st.integers(0, 24), st.sampled_from(["attempts = 1", "error = 'x'", "publishes = 2"])), max_size=2
)

OF_THE_CLOCK = {
    "operations": ("applied_at", "publish_at"),
    "guests": ("doubted_at",),
    "findings": ("id", "first_seen_at", "last_seen_at"),  # an id is lost with what was undone
    "order_claims": ("claimed_at",),
    "task_requests": ("asked_at",),
}


def call_of(step: Step, vps_ids: Sequence[int]) -> Call | None:
    action, number, given_ = step
    payload = dict(given_)
    if (vmid := payload.pop("guest", None)) is not None:
        payload |= {"cluster": "main", "vmid": vmid, "node": "pve1", "guest_type": "qemu"}
    if action == "create":
        return create_call(**payload)
    if not vps_ids:
        return None
    vps_id = vps_ids[number % len(vps_ids)]
    return update_call(vps_id, **payload) if action == "update" else delete_call(vps_id, **payload)


async def journaled(database: Database, steps: Sequence[Step], vps_ids: list[int]) -> list[int]:
    """Accept these calls. Returns the ids of the operations; refused calls have none."""
    pool = async_engine(database.app_url, "panel-sync test api", deadlines=PATIENT)
    acceptor = Acceptor(pool, deadlines=PATIENT)
    await acceptor.start()
    ids = []
    try:
        for first in range(0, len(steps), 6):
            calls = [call for step in steps[first : first + 6] if (call := call_of(step, vps_ids)) is not None]
            for call, outcome in zip(calls, await acceptor.accept_in_order(calls), strict=True):
                if isinstance(outcome, Accepted) and outcome.created:
                    ids.append(outcome.operation_id)
                    vps_ids += [outcome.vps_id] if call.action == "create" else []
    finally:
        await acceptor.stop()
        await pool.dispose()
    return ids


GUESTS = """
INSERT INTO guests (cluster, vmid, guest_type, node, status, power, power_since, template, signature,
  fingerprint_state, first_seen_at, changed_at, read_at)
SELECT 'main', n, 'qemu', 'pve1', 'running', 'running', now(), false, 's', 'read', now(), now(), now()
FROM generate_series(100, 101) n
"""


OUT_OF_ORDER = """
SELECT id FROM (SELECT id, applied_at <= lag(applied_at) OVER (PARTITION BY vps_id ORDER BY seq) AS early
  FROM operations WHERE applied_at IS NOT NULL) AS applied WHERE early
"""


@pytest.fixture(scope="module")
def two(databases: Databases) -> Iterator[tuple[Database, Database]]:
    pair = databases.clone(), databases.clone()
    yield pair
    for database in pair:
        databases.drop(database)


@pytest.fixture(scope="module")
def engines(two: tuple[Database, Database]) -> Iterator[tuple[Engine, Engine]]:
    opened = [sync_engine(database.app_url, "panel-sync test") for database in two]
    yield opened[0], opened[1]
    for engine in opened:
        engine.dispose()


def tables_of(connection: psycopg.Connection[Any]) -> list[str]:
    found = connection.execute(
        "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
    )
    return sorted(str(name) for (name,) in found)


def copy(one: Database, other: Database) -> None:
    """Make the other database's rows those of the first."""
    with psycopg.connect(one.admin_url) as source, psycopg.connect(other.admin_url) as target:
        target.execute("SET session_replication_role = replica")
        for table in tables_of(source):
            target.execute(f"DELETE FROM {table}".encode())
            with source.cursor().copy(f"COPY {table} TO STDOUT".encode()) as rows:
                held = b"".join(bytes(part) for part in rows)
            with target.cursor().copy(f"COPY {table} FROM STDIN".encode()) as rows:
                rows.write(held)
        for name, last in source.execute("SELECT sequencename, last_value FROM pg_sequences").fetchall():
            target.execute("SELECT setval(%s, %s, %s)", [name, last or 1, last is not None])


def empty(database: Database) -> None:
    with psycopg.connect(database.admin_url) as connection:
        connection.execute("SET session_replication_role = replica")
        for table in (
            "operations",
            "vps_queues",
            "vps",
            "order_claims",
            "findings",
            "task_requests",
            "guests",
            "users",
        ):
            connection.execute(f"DELETE FROM {table}".encode())


def contents(database: Database) -> dict[str, list[str]]:
    """Every row of every table; of what the clock says, only whether it is there."""
    found = {}
    with psycopg.connect(database.admin_url) as connection:
        for table in tables_of(connection):
            rows = [dict(row) for (row,) in connection.execute(f"SELECT to_jsonb(t) FROM {table} t".encode())]
            for row in rows:
                row.update({name: row[name] is not None for name in OF_THE_CLOCK.get(table, ())})
            found[table] = sorted(json.dumps(row, sort_keys=True) for row in rows)
    return found


def differences(one: dict[str, list[str]], other: dict[str, list[str]]) -> dict[str, tuple[set[str], set[str]]]:
    """By table: the rows that only one of them has."""
    return {t: (set(one[t]) - set(other[t]), set(other[t]) - set(one[t])) for t in other if one[t] != other[t]}


@given(before=STEPS, after=STEPS, tried=TRIED, left_out=st.sets(st.integers(0, 24), max_size=3))
@trying(max_examples=40, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
def test_both_ways_leave_the_same(
    two: tuple[Database, Database],
    engines: tuple[Engine, Engine],
    before: list[Step],
    after: list[Step],
    tried: list[tuple[int, str]],
    left_out: set[int],
) -> None:
    singly, in_set = two
    empty(singly)
    add_user(engines[0], 5)
    add_user(engines[0], 6)
    with engines[0].begin() as connection:
        connection.execute(text(GUESTS))
    vps_ids: list[int] = []
    for id_ in asyncio.run(journaled(singly, before, vps_ids)):
        apply_operation(engines[0], id_)
    ids = asyncio.run(journaled(singly, after, vps_ids))
    with engines[0].begin() as connection:
        for number, column in tried:
            if number < len(ids):
                connection.execute(text(f"UPDATE operations SET {column} WHERE id = :id"), {"id": ids[number]})
    copy(singly, in_set)
    named = [id_ for number, id_ in enumerate(ids) if number not in left_out]
    with engines[0].begin() as connection:
        vps_of = {row.id: row.vps_id for row in connection.execute(text("SELECT id, vps_id FROM operations"))}
    waiting: set[int] = set()  # a message tries a call that fails once, however many calls of its VPS come after it
    for id_ in named:
        if vps_of[id_] not in waiting and apply_operation(engines[0], id_).state == "queued":
            waiting.add(vps_of[id_])
    apply_calls(engines[1], named)
    with engines[1].begin() as connection:
        assert connection.execute(text(OUT_OF_ORDER)).all() == []
    assert differences(contents(in_set), contents(singly)) == {}
