"""Every fault of the sync path against real processes under load: nothing accepted is lost, doubled or reordered.

One panel serves all of them, and the load never ends: a fault meets what the one before it has left behind. Each test
ends with an audit of the journal, call by call; the last one waits until nothing is queued and holds every record
against the model.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from lab.chaos import message_faults
from lab.chaos.tcp_proxy import TcpProxy, tcp_proxy
from panel.journal.writer import MAX_ATTEMPTS
from tests.faults.audit import application_faults, counted, journal_faults, queued_calls
from tests.faults.load import PLAN, Load
from tests.faults.rig import STATES, Rig
from tests.support.databases import LOGIN, Databases
from tests.support.fleets.world import add_user, journal, vps_row
from tests.support.keys import random_key
from tests.support.live_panel import live_panel
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.faults, pytest.mark.acceptance]

SEED = 7
WITHIN_S = 20.0
"""``ANSWER_WITHIN_S``: what an answer takes with its database frozen, and far more than a busy machine takes."""

MANY = 20
"""Calls that are answered while a fault lasts: enough that each caller has made some."""

AWAY = frozenset({200, 202, 503})
KILLED = frozenset({200, 202, None})
CUT = frozenset({200, 202, 503, None})
POISON = "poison"
DEADLY = "deadly"
APPLIED_WITHIN_S = 300.0


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    databases = Databases(tmp_path_factory.mktemp("faults-postgres"))
    try:
        databases.start()
        database = databases.clone()
        proxies: list[TcpProxy] = []
        with contextlib.ExitStack() as stack:

            def through(url: str) -> str:
                port = urlsplit(url).port
                assert port is not None
                proxies.append(stack.enter_context(tcp_proxy(port)))
                return url.replace(f":{port}/", f":{proxies[0].port}/")

            panel = stack.enter_context(
                live_panel(
                    database,
                    tmp_path_factory.mktemp("faults"),
                    parts=frozenset({"api", "worker-sync", "beat"}),
                    environment={"OPS_API_KEY": random_key(), "ANSWER_WITHIN_S": str(WITHIN_S)},
                    redis_through=through,
                )
            )
            add_user(panel.engine, 5)
            load = Load(panel.url, panel.sync_key, lambda: queued_calls(panel.engine))
            load.start()
            stack.callback(load.stop)
            yield Rig(panel, databases, database, proxies[0], load, random.Random(SEED))
    finally:
        databases.destroy()


def _call(rig: Rig, action: str, **vps: Any) -> dict[str, Any]:
    """A call beside the load's, made until it is accepted."""

    def taken() -> dict[str, Any] | None:
        answer = rig.panel.sync(action, vps)
        body: dict[str, Any] = answer.json()
        return body if answer.status_code == 202 else None

    answer = wait_until(taken, f"{action} to be accepted")
    assert answer is not None
    return answer


class TestWhileItWorks:
    """In this order: what is queued and lost by one fault is still outstanding when the next one strikes."""

    def test_worker_killed(self, rig: Rig) -> None:
        with rig.under("worker killed"):
            rig.kill("worker-sync")

    def test_beat_killed(self, rig: Rig) -> None:
        with rig.under("beat killed"):
            rig.kill("beat")

    def test_api_killed(self, rig: Rig) -> None:
        with rig.under("API killed", answers=KILLED):
            rig.kill("api")

    def test_redis_killed(self, rig: Rig) -> None:
        with rig.under("Redis killed"):
            rig.panel.redis.kill()
            rig.wait_accepted(MANY)
            rig.panel.redis.start()

    def test_redis_flushed(self, rig: Rig) -> None:
        with rig.under("Redis flushed"):
            rig.flush()

    def test_redis_restarted_empty(self, rig: Rig) -> None:
        with rig.under("Redis restarted empty"):
            rig.empty_redis()

    def test_redis_frozen(self, rig: Rig) -> None:
        with rig.under("Redis frozen"):
            rig.panel.redis.pause()
            wait_until(lambda: rig.stuck(rig.wait_accepted(MANY)), "calls that nobody applies: it is frozen")
            rig.panel.redis.resume()

    def test_redis_partitioned(self, rig: Rig) -> None:
        with rig.under("Redis partitioned"):
            rig.proxy.partition()
            wait_until(lambda: rig.stuck(rig.wait_accepted(MANY)), "calls that nobody applies: it is cut off")
            rig.proxy.heal()

    def test_postgres_killed(self, rig: Rig) -> None:
        began = time.monotonic()
        with rig.under("PostgreSQL killed", answers=AWAY):
            rig.databases.server.kill()
            wait_until(lambda: rig.refused(began), "a call to be refused")
            rig.databases.server.start()

    def test_postgres_frozen(self, rig: Rig) -> None:
        began = time.monotonic()
        with rig.under("PostgreSQL frozen", answers=AWAY):
            rig.databases.server.pause()
            wait_until(lambda: rig.refused(began), "a call to be refused")
            rig.databases.server.resume()

    def test_connections_cut(self, rig: Rig) -> None:
        with rig.under("connections cut", answers=AWAY):
            for _ in range(3):
                rig.cut_connections()
                rig.wait_accepted(1)

    def test_no_connection_left(self, rig: Rig) -> None:
        began = time.monotonic()
        with rig.under("no connection left", answers=AWAY):
            rig.as_admin(f"ALTER ROLE {LOGIN} CONNECTION LIMIT 0")
            rig.cut_connections()
            wait_until(lambda: rig.refused(began), "a call to be refused: there is no room")
            rig.as_admin(f"ALTER ROLE {LOGIN} CONNECTION LIMIT -1")


def test_messages_doubled_reordered_and_an_hour_late(rig: Rig) -> None:
    """The calls' own messages are lost; the only ones come an hour later, twice, and the last call's first."""
    vps_id = _call(rig, "create", **PLAN | {"name": "rung"})["vps"]["id"]
    wait_until(lambda: vps_row(rig.panel.engine, vps_id), "it to be created")
    with rig.held_worker() as queue:
        marks = [_call(rig, "update", id=vps_id, status="running", os=f"mark-{n}") for n in range(3)]
        ids = [answer["operation"]["id"] for answer in marks]

        def published() -> bool:
            queue.delete(message_faults.QUEUE)  # a queue that is full gets no more
            return all(row["publishes"] for row in journal(rig.panel.engine, vps_id))

        wait_until(published, "their messages")
        queue.delete(message_faults.QUEUE)
        rig.age(vps_id)
        rig.ring(*reversed(ids), *reversed(ids))
    wait_until(lambda: {row["state"] for row in journal(rig.panel.engine, vps_id)} == {"applied"}, "all of them")
    before = vps_row(rig.panel.engine, vps_id)
    rig.ring(*reversed(ids), *ids)
    rig.wait_well()
    rows = journal(rig.panel.engine, vps_id)
    assert [row["payload"]["os"] for row in rows] == [PLAN["os"], "mark-0", "mark-1", "mark-2"]
    assert [row["after"]["os"] for row in rows] == [PLAN["os"], "mark-0", "mark-1", "mark-2"]
    assert vps_row(rig.panel.engine, vps_id) == before
    assert before is not None
    assert (before["os"], before["version"], before["applied_seq"]) == ("mark-2", 4, 4)


def _is_applied(mark: str) -> str:
    """The condition of a trigger: this call is applied. A set writes a record once, with what the last call says."""
    return f"(NEW.state = 'applied' AND NEW.payload ->> 'os' = '{mark}')"


@pytest.mark.torture
def test_a_call_that_kills_each_process_that_tries_it(rig: Rig) -> None:
    """It waits in mid transaction, where its process is killed, until it is dead; everybody else's are applied."""
    vps_id = _call(rig, "create", **PLAN | {"name": "deadly"})["vps"]["id"]
    other = _call(rig, "create", **PLAN | {"name": "beside"})["vps"]["id"]
    rig.as_admin(
        "CREATE FUNCTION hang() RETURNS trigger LANGUAGE plpgsql SET lock_timeout = 0 AS"
        " $$ BEGIN PERFORM pg_advisory_xact_lock(1); RETURN NEW; END $$"
    )
    rig.as_admin(
        f"CREATE TRIGGER hang BEFORE UPDATE ON operations FOR EACH ROW WHEN {_is_applied(DEADLY)}"
        " EXECUTE FUNCTION hang()"
    )
    with rig.databases.server_connection(rig.database.name) as holder:
        holder.execute("SELECT pg_advisory_lock(1)")
        deadly = _call(rig, "update", id=vps_id, status="running", os=DEADLY)["operation"]["id"]
        # An attempt is noted from a call's second message on: the first is the relay's to lose.
        rig.as_admin(f"UPDATE operations SET publishes = publishes + 1 WHERE id = {deadly}")
        wait_until(rig.kill_waiting, "somebody to try it")
        beside = _call(rig, "update", id=other, status="running", os="alive")["operation"]["id"]
        wait_until(lambda: rig.panel.rows(STATES, ids=[beside])[0]["state"] == "applied", "others to go on")
        assert rig.panel.rows(STATES, ids=[deadly])[0]["state"] == "queued"
        rig.ring_first(deadly)  # what would take a minute by itself

        def step() -> str | None:
            if rig.panel.rows(STATES, ids=[deadly])[0]["state"] != "queued":
                return "over"
            return "killed" if rig.kill_waiting() else None

        kills = 1
        while wait_until(step, "it to be tried again") == "killed":
            kills += 1
            assert kills <= 2 * MAX_ATTEMPTS
            rig.ring_first(deadly)
    rig.as_admin("DROP TRIGGER hang ON operations")
    rig.wait_well()
    assert journal_faults(rig.panel.engine, rig.load) == []
    row = journal(rig.panel.engine, vps_id)[-1]
    assert row["state"] == "dead"
    assert "came to an end" in row["error"]
    # One may be counted that gave up waiting for its queue, and was killed before it could take its note back.
    assert kills >= MAX_ATTEMPTS - 1
    assert rig.panel.process("worker-sync").running
    assert (vps_row(rig.panel.engine, vps_id) or {})["os"] == PLAN["os"]


def _poison(rig: Rig, name: str) -> tuple[int, int]:
    """A VPS whose update the database refuses whenever it is tried; its id, and the operation's."""
    vps_id = int(_call(rig, "create", **PLAN | {"name": name})["vps"]["id"])
    return vps_id, int(_call(rig, "update", id=vps_id, status="running", os=POISON)["operation"]["id"])


def test_a_poison_call_is_dead_and_stops_nobody(rig: Rig) -> None:
    """It is found, and tried once more or left, by an operator's word; others' calls are applied all the while."""
    rig.as_admin(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'refused' USING ERRCODE = '22023'; END $$"
    )
    rig.as_admin(
        f"CREATE TRIGGER refuse BEFORE UPDATE ON operations FOR EACH ROW WHEN {_is_applied(POISON)}"
        " EXECUTE FUNCTION refuse()"
    )
    alone, first = _poison(rig, "poisoned")
    followed, second = _poison(rig, "poisoned-and-followed")
    later = _call(rig, "update", id=followed, status="stopped", os="later")["operation"]["id"]
    rig.wait_well()
    rig.ring(*[first, second] * MAX_ATTEMPTS, later)  # what would take half a minute by itself

    def states() -> list[str]:
        return [row["state"] for row in rig.panel.rows(STATES, ids=[first, second, later])]

    wait_until(lambda: states() == ["dead", "dead", "applied"], "the poison calls to be dead")
    row = journal(rig.panel.engine, alone)[-1]
    assert (row["attempts"], row["error"]) == (MAX_ATTEMPTS, "InvalidParameterValue 22023")
    rig.as_admin("DROP TRIGGER refuse ON operations")
    key = rig.panel.settings.ops_api_key.get_secret_value()
    with httpx.Client(base_url=f"{rig.panel.url}/api/ops", headers={"X-API-Key": key}, trust_env=False) as ops:
        assert {first, second} <= {one["id"] for one in ops.get("/dead").json()["data"]}
        assert ops.post(f"/dead/{first}/requeue").status_code == 202
        assert ops.post(f"/dead/{second}/requeue").json()["code"] == "operator_conflict"
        assert ops.post(f"/dead/{second}/discard", json={"reason": "it came too late"}).status_code == 200
        assert not {first, second} & {one["id"] for one in ops.get("/dead").json()["data"]}
    wait_until(lambda: (vps_row(rig.panel.engine, alone) or {})["os"] == POISON, "it is applied")
    assert (vps_row(rig.panel.engine, followed) or {})["os"] == "later"


def test_afterwards_every_call_is_applied_once_and_in_order(rig: Rig) -> None:
    rig.load.stop()

    def nothing_waits() -> bool:
        rig.revive()
        return queued_calls(rig.panel.engine) == 0

    wait_until(nothing_waits, "everything to be applied", APPLIED_WITHIN_S)
    assert journal_faults(rig.panel.engine, rig.load) == []
    assert application_faults(rig.panel.engine, rig.load) == []
    assert counted(rig.load)["accepted"] > 0
    print(dict(counted(rig.load)))  # noqa: T201 - shown with -s
