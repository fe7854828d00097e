"""Drift heals by beat alone: real API, workers, beat, Redis and PostgreSQL, with the outside simulated.

Nothing here starts a run. Each test makes something go wrong, sees it wrong where a client would, and waits.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import httpx
import psycopg
import pytest

from lab.simulators.main_site.calls import CallOutcome
from tests.support.databases import Database, Databases
from tests.support.keys import random_key
from tests.support.live_panel import PROOF_N, PROOF_T_S, QUICK, LivePanel, Outside, live_panel, outside
from tests.support.trouble.drift import (
    CLIENT,
    assert_dropped,
    drop_next,
    held_run,
    history,
    newest_repair,
    nobody_repairs,
    sold,
    stop_guest,
)
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.acceptance]

STRANGER = 6


@pytest.fixture(scope="module")
def world() -> Iterator[Outside]:
    with outside() as made:
        yield made


@pytest.fixture(scope="module")
def database(databases: Databases) -> Iterator[Database]:
    made = databases.clone()
    yield made
    databases.drop(made)


@pytest.fixture(scope="module")
def owner(database: Database) -> str:
    """The tables' owner, who may slow things down."""
    return database.owner_url


@pytest.fixture(scope="module")
def panel(database: Database, world: Outside, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LivePanel]:
    environment = QUICK | world.environment() | {"OPS_API_KEY": random_key()}
    with live_panel(database, tmp_path_factory.mktemp("reconcile"), environment=environment, flower=True) as made:
        made.wait_users()
        yield made


@pytest.fixture(autouse=True)
def _as_it_was(panel: LivePanel, world: Outside) -> Iterator[None]:
    """A test that failed half-way must not fail the next ones."""
    yield
    world.site.clear_faults()
    world.pve.clear_faults()
    world.pve.slow_down(0)
    panel.redis.start()
    for process in panel.supervisor.processes:
        if not process.running:
            panel.restart(process.name)


# --- the three repairs


def test_missed_create_appears(panel: LivePanel, world: Outside) -> None:
    with nobody_repairs(panel):
        drop_next(world, "create")
        order = world.site.place_order(user_id=1, name="missed-create")
        assert_dropped(world, order, "create")
        world.site.set_status(order.id, "running")
        # The site never heard an id, so it has nothing to send either.
        assert world.site.list_calls(order_id=order.id)[-1].outcome is CallOutcome.IMPOSSIBLE
        assert panel.named(CLIENT, "missed-create") is None

    record = panel.wait_status(CLIENT, "missed-create", "running")
    assert (record["cpu"], record["ram"], record["disk"], record["os"]) == (2, 4096, 50, "Ubuntu 22.04")
    assert record["id"] not in panel.listed(STRANGER)
    repair = newest_repair(panel, record["id"], "create")
    assert repair["source"] == "orders"
    assert repair["reason"] == f"order {order.id} is active and has no record: its create never arrived"
    assert repair["evidence"]["kind"] == "missed-create"
    assert repair["evidence"]["order"] == str(order.id)
    assert repair["evidence"]["guest"] == f"{order.cluster}/{order.vmid}"


def test_missed_status_change_is_made_up_for(panel: LivePanel, world: Outside) -> None:
    order, vps_id = sold(panel, world, "missed-status")
    with nobody_repairs(panel):
        drop_next(world, "update")
        world.site.set_status(order.id, "stopped")
        assert_dropped(world, order, "update")
        assert panel.listed(CLIENT)[vps_id]["status"] == "running"

    panel.wait_status(CLIENT, "missed-status", "stopped")
    repair = newest_repair(panel, vps_id, "update")
    assert repair["result"] == "running -> stopped"
    assert repair["evidence"]["kind"] == "missed-status"


def test_missed_suspension_is_made_up_for(panel: LivePanel, world: Outside) -> None:
    order, vps_id = sold(panel, world, "missed-suspension")
    drop_next(world, "update")
    world.site.set_status(order.id, "suspended")
    assert_dropped(world, order, "update")

    panel.wait_status(CLIENT, "missed-suspension", "suspended")
    said = [repair for repair in panel.repairs(vps_id) if "order_state" in (repair["after"] or {})]
    assert said[-1]["source"] == "orders"
    assert str(order.id) in said[-1]["reason"]


def test_missed_delete_is_made_up_for_after_the_proof(panel: LivePanel, world: Outside) -> None:
    order, vps_id = sold(panel, world, "missed-delete")
    with nobody_repairs(panel):
        drop_next(world, "delete")
        world.site.cancel_order(order.id)
        assert_dropped(world, order, "delete")
        assert vps_id in panel.listed(CLIENT)

    wait_until(lambda: vps_id not in panel.listed(CLIENT), "the deleted VPS to vanish")
    repair = newest_repair(panel, vps_id, "delete")
    evidence = repair["evidence"]
    assert repair["reason"] == f"order {order.id} ended and its guest is gone: a missed delete"
    assert evidence["guest_absent_times"] >= PROOF_N
    assert len(evidence["guest_snapshots"]) >= PROOF_N
    waited = repair["applied_at"] - datetime.fromisoformat(evidence["guest_absent_since"])
    assert waited >= timedelta(seconds=PROOF_T_S)
    assert evidence["confirmed_guest"]
    assert evidence["confirmed_order"]
    kept = panel.rows("SELECT deleted_at, name FROM vps WHERE id = :id", id=vps_id)[0]
    assert kept["deleted_at"] is not None  # a tombstone, restorable


def test_guest_stopped_behind_the_panels_back(panel: LivePanel, world: Outside) -> None:
    order, vps_id = sold(panel, world, "stopped-behind")
    calls = len(world.site.list_calls())
    with nobody_repairs(panel):
        stop_guest(world, order)
        assert panel.listed(CLIENT)[vps_id]["status"] == "running"

    panel.wait_status(CLIENT, "stopped-behind", "stopped")
    assert len(world.site.list_calls()) == calls  # nobody told the panel
    repair = newest_repair(panel, vps_id, "update")
    assert (repair["source"], repair["result"]) == ("proxmox", "running -> stopped")
    told = history(panel, vps_id)
    assert repair["reason"] in told
    assert "running -> stopped" in told


# --- while parts of the panel die


def test_reconcile_worker_killed_in_the_middle_of_a_run(panel: LivePanel, world: Outside) -> None:
    killed = held_run(panel, world)
    drop_next(world, "create")
    order = world.site.place_order(user_id=1, name="killed-worker")
    world.site.set_status(order.id, "running")
    panel.process("worker-reconcile").kill()
    statement = "SELECT state, finished_at FROM runs WHERE id = :id"
    assert panel.rows(statement, id=killed) == [{"state": "running", "finished_at": None}]
    assert panel.named(CLIENT, "killed-worker") is None
    world.pve.slow_down(0)
    panel.restart("worker-reconcile")

    record = panel.wait_status(CLIENT, "killed-worker", "running")
    assert panel.rows(statement, id=killed)[0]["state"] == "abandoned"
    healing = newest_repair(panel, record["id"], "create")["run_id"]
    assert healing > killed
    ended = "SELECT state FROM runs WHERE id = :id AND finished_at IS NOT NULL"
    wait_until(lambda: panel.rows(ended, id=healing) == [{"state": "done"}], "the run that healed it to complete")


def test_redis_killed_during_drift(panel: LivePanel, world: Outside) -> None:
    order, vps_id = sold(panel, world, "killed-redis")
    with nobody_repairs(panel):
        panel.redis.kill()
        stop_guest(world, order)
        pushed = world.site.place_order(user_id=1, name="pushed-without-redis")
        call = world.site.list_calls(order_id=pushed.id)[-1]
        assert (call.outcome, call.status) == (CallOutcome.ANSWERED, 202)
        assert panel.listed(CLIENT)[vps_id]["status"] == "running"
    panel.redis.start()

    panel.wait_status(CLIENT, "killed-redis", "stopped")
    assert newest_repair(panel, vps_id, "update")["result"] == "running -> stopped"
    panel.wait_status(CLIENT, "pushed-without-redis", "creating")


# --- calls and runs do not stand in each other's way


BACKLOG, CALL_S = 20, 1.0
"""Calls that wait at least, and for how long each keeps a process of the sync worker."""


def test_runs_go_on_during_a_flood_of_calls_and_the_flood_is_worked_off(panel: LivePanel, owner: str) -> None:
    """A worker of its own per queue: a standing backlog of calls takes nothing from reconciliation's share."""
    plan = {"user_id": STRANGER, "cpu": 1, "ram": 512, "disk": 10, "os": "Debian 12", "hypervisor": "vmware"}
    queued = "SELECT count(*) AS n FROM operations WHERE state = 'queued'"
    # Runs that began and ended while calls waited all the time, however long they took.
    meanwhile = (
        "WITH waits AS (SELECT range_agg(tstzrange(accepted_at, coalesce(applied_at, 'infinity'))) AS times"
        " FROM operations WHERE kind = 'sync')"
        " SELECT kind, count(*) AS n FROM runs, waits WHERE state = 'done' AND id > :last"
        " AND times @> tstzrange(started_at, finished_at) GROUP BY kind"
    )
    last = panel.rows("SELECT max(id) AS id FROM runs")[0]["id"]
    numbers = itertools.count()

    def flooded() -> bool:
        """Make the backlog up to its size; whether both kinds of runs went on beside it."""
        for _ in range(BACKLOG - panel.rows(queued)[0]["n"]):
            assert panel.sync("create", plan | {"name": f"flood-{next(numbers)}"}).status_code == 202
        seen = {row["kind"]: row["n"] for row in panel.rows(meanwhile, last=last)}
        return bool(seen.get("full", 0) >= 2 and seen.get("fast", 0) >= 2)

    with psycopg.connect(owner, autocommit=True) as connection:
        connection.execute(
            "CREATE OR REPLACE FUNCTION take_long() RETURNS trigger LANGUAGE plpgsql AS"
            f" $$ BEGIN PERFORM pg_sleep({CALL_S}); RETURN NEW; END $$"
        )
        connection.execute(
            "CREATE TRIGGER take_long BEFORE INSERT ON vps FOR EACH ROW WHEN (NEW.name LIKE 'flood-%')"
            " EXECUTE FUNCTION take_long()"
        )
        wait_until(flooded, "runs of both kinds to go on beside the backlog")
        connection.execute("DROP TRIGGER take_long ON vps")
    wait_until(lambda: panel.rows(queued)[0]["n"] == 0, "the backlog to be worked off")


def test_a_call_is_applied_during_a_long_run(panel: LivePanel, world: Outside) -> None:
    """It does not wait for the run, which waits for Proxmox until the call is applied."""
    order, _ = sold(panel, world, "called-during-a-run")
    run = held_run(panel, world)
    world.site.set_status(order.id, "stopped")
    panel.wait_status(CLIENT, "called-during-a-run", "stopped")
    assert panel.rows("SELECT state FROM runs WHERE id = :id", id=run) == [{"state": "running"}]
    world.pve.slow_down(0)


# --- what operators see of it


def test_a_worker_answers_what_another_policy_would_do(panel: LivePanel) -> None:
    key = panel.settings.ops_api_key.get_secret_value()
    with httpx.Client(base_url=f"{panel.url}/api/ops", headers={"X-API-Key": key}, trust_env=False) as operator:
        asked = operator.post("/what-if", json={"policy": {"all": "hold"}})
        assert asked.status_code == 202, asked.text

        def made() -> dict[str, Any]:
            found: dict[str, Any] = operator.get(f"/what-ifs/{asked.json()['data']['id']}").json()["data"]
            return found if found["state"] != "waiting" else {}

        answer = wait_until(made, "a worker to make the what-if")
    assert answer is not None
    assert (answer["state"], answer["problem"]) == ("done", None)
    assert set(answer["outcome"]["policy"].values()) == {"hold"}
    assert panel.rows("SELECT kind, trigger FROM runs WHERE id = :id", id=answer["run_id"]) == [
        {"kind": "plan", "trigger": "what-if all=hold"}
    ]


def test_flower_shows_tasks_and_nothing_personal(panel: LivePanel, world: Outside) -> None:
    order, vps_id = sold(panel, world, "shown-in-flower")
    world.site.set_status(order.id, "stopped")
    panel.wait_status(CLIENT, "shown-in-flower", "stopped")
    drop_next(world, "create")
    missed = world.site.place_order(user_id=1, name="healed-in-flower")
    world.site.set_status(missed.id, "running")
    healed = panel.wait_status(CLIENT, "healed-in-flower", "running")
    journaled = panel.rows(
        "SELECT id FROM operations WHERE vps_id = :id AND kind = 'sync' AND action = 'update' ORDER BY seq", id=vps_id
    )
    operation_id = journaled[-1]["id"]
    shown = f"op={operation_id} vps={vps_id} update"

    def applied() -> list[dict[str, Any]]:
        return [task for task in flower_tasks(panel, "sync.apply") if task["args"] == shown and task["result"]]

    task = wait_until(applied, f"Flower to show {shown}")[0]
    assert (task["state"], task["result"].strip("'")) == ("SUCCESS", "applied running -> stopped")

    def repaired() -> list[dict[str, Any]]:
        return [t for t in flower_tasks(panel, "reconcile.run") if f"vps={healed['id']} " in str(t["result"])]

    run = wait_until(repaired, "Flower to show the run that healed")[0]
    assert run["state"] == "SUCCESS"
    assert run["result"].strip("'").startswith("applied ")
    assert "beat" in f"{run['args']}{run['kwargs']}"

    everything = flower(panel, "/api/tasks?limit=10000").text
    names = {record["name"] for record in panel.listed(CLIENT).values()}
    users = panel.rows("SELECT username, email FROM users WHERE main_site_user_id IS NOT NULL")
    personal = names | {user["username"] for user in users} | {user["email"] for user in users}
    assert {"shown-in-flower", "login-of-5", "person5@example.test"} <= personal
    assert not [word for word in personal if word in everything]


def flower(panel: LivePanel, path: str) -> httpx.Response:
    settings = panel.settings
    answer = httpx.get(
        f"http://127.0.0.1:{settings.flower_port}{path}",
        auth=(settings.flower_user, settings.flower_password.get_secret_value()),
        trust_env=False,
    )
    assert answer.status_code == 200, answer.text
    return answer


def flower_tasks(panel: LivePanel, name: str) -> list[dict[str, Any]]:
    """Flower's tasks of that name, whatever became of them."""
    return list(flower(panel, f"/api/tasks?limit=10000&taskname={name}").json().values())


def test_flower_asks_for_its_password(panel: LivePanel) -> None:
    """For its numbers, too, which it would tell everybody; only that it is there needs none."""
    flower_url = f"http://127.0.0.1:{panel.settings.flower_port}"
    pages = ["/", "/workers", "/tasks", "/broker", "/metrics", "/api/workers", "/api/tasks", "/api/task/types"]
    wrong = (panel.settings.flower_user, "not-the-password")
    with httpx.Client(base_url=flower_url, trust_env=False) as client:
        assert {page: client.get(page).status_code for page in pages} == dict.fromkeys(pages, 401)
        assert {page: client.get(page, auth=wrong).status_code for page in pages} == dict.fromkeys(pages, 401)
        assert client.post("/api/task/send-task/reconcile.run", json={"args": []}).status_code == 401
        own = {"Origin": flower_url, "Referer": f"{flower_url}/workers", "Sec-Fetch-Site": "same-origin"}
        foreign = {
            "Origin": "https://evil.example",
            "Referer": "https://evil.example/x",
            "Sec-Fetch-Site": "cross-site",
        }
        right = (panel.settings.flower_user, panel.settings.flower_password.get_secret_value())

        def sent(**headers: str) -> int:
            path = "/api/task/send-task/maintenance.prune"
            return client.post(path, auth=right, json={"args": []}, headers=headers).status_code

        for name, value in own.items():
            assert sent(**{name: foreign[name]}) == 403, name
            assert sent(**{**own, name: foreign[name]}) == 403, name
            assert sent(**{name: value}) == 200, name
        assert (sent(), sent(**own)) == (200, 200)
        assert sent(**{"Content-Type": "text/plain"}) == 403, "a page elsewhere could send that"
        healthy = client.get("/healthcheck")
        shown = [client.get(page, auth=right) for page in ("/workers", "/tasks", "/broker", "/no-such-page")]
        answers = [healthy, client.get("/workers"), client.get("/static/css/flower.css"), *shown]
    for answer in answers:
        assert "Server" not in answer.headers, "nobody is told the version"
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
    for page in shown:  # they work with it: what stands within a page is a script that is allowed, or a file
        assert not re.search(r"\son[a-z]+=|javascript:", page.text)
        for script in re.findall(r"<script[^>]*>([^<]+)</script>", page.text):
            known = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
            assert f"'sha256-{known}'" in page.headers["Content-Security-Policy"]
    assert "autorefresh" in shown[0].text
    assert (healthy.status_code, healthy.text) == (200, "OK")
    assert "flower_" in flower(panel, "/metrics").text
