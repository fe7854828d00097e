"""Every page of operators, what each role sees of it, and that its forms do what the API does."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from sqlalchemy import Engine, insert, text

from api.main import create_app
from api.operator_pages.all_routes import ROUTERS
from api.pages import rendering
from domain.changes import Delete, Finding
from domain.failures import Failure, Stage
from panel.operators.holds import keep_holds
from panel.operators.quarantine import note_failures
from panel.operators.repair_policy import what_ifs
from panel.operators.repair_policy.outcome import ClassFates, Fates, HeldThen, Most, Moved, Outcome, ShownChange
from panel.runs.run_log import report_findings
from panel.runs.source_states import remember_source
from panel.schema import tables
from panel.settings import Settings
from reconcile.decision.gate import Held
from runtime.processes.free_ports import free_port
from tests.integration.api.operator_pages.conftest import Keys, sent, told
from tests.integration.api.pages.conftest import OWN, browser
from tests.integration.panel.conftest import begin_run
from tests.support.fleets.hoster import Hoster
from tests.support.stand_ins.webhook_receiver import note_event, want_events
from tests.unit.reconcile.worlds import record

HOSTILE = "<script>alert(1)</script>\"'\u202e{{ 7*7 }}"

WRITES = [
    "/ops/reconcile", "/ops/findings/1/ack", "/ops/findings/1/snooze", "/ops/findings/1/ignore",
    "/ops/findings/1/unignore", "/ops/vps/1/restore", "/ops/sources/acknowledge", "/ops/dead/1/requeue",
    "/ops/dead/1/discard", "/ops/pauses/pause", "/ops/pauses/resume", "/ops/quarantine/release",
    "/ops/webhooks/enable", "/ops/webhooks/replay",
    "/ops/inbox/adopt", "/ops/inbox/adoptions/1/withdraw", "/ops/inbox/findings/1/ignore",
    f"/ops/held/{'0' * 64}/approve", f"/ops/held/{'0' * 64}/reject", "/ops/what-if",
]  # fmt: skip
FREE = {"/ops/sign-in", "/ops/sign-out", "/ops/vps"}
"""POST routes that change nothing an operator decides about: sessions, and the search."""


@pytest.fixture
def users() -> None:
    """The hoster brings its own."""


def hold(engine: Engine, *ids: int) -> str:
    """Hold the deletes of these records. Returns the hash of the set."""
    changes = tuple(Delete(source="orders", reason=f"its order ended {HOSTILE}", record=record(id=i)) for i in ids)
    held = Held("deletes", "too many at once", changes)
    with engine.begin() as connection:
        keep_holds(connection, begin_run(engine), [held])
    return held.hash


@dataclass
class Fleet:
    """Six VPS. ``ids``: by order. ``ended``: the record that was deleted. ``alarm``, ``unsold``: ids of findings."""

    ids: dict[str, int]
    ended: int
    alarm: int
    unsold: int


@pytest.fixture
def fleet(engine: Engine) -> Fleet:
    """By real runs: one ended, and the rest agree. Then each kind of trouble once, with hostile names."""
    hoster = Hoster(engine)
    hoster.open()
    sold = hoster.sell(6)
    hoster.full(3)
    hoster.end(sold[0])
    hoster.full(4)
    with engine.begin() as connection:
        ids = {row.order_id: row.id for row in connection.execute(text("SELECT id, order_id FROM vps"))}
        connection.execute(text("UPDATE users SET username = :name"), {"name": HOSTILE})
        connection.execute(text("UPDATE vps SET name = :name, os = :name"), {"name": HOSTILE})
        run_id = connection.scalar(text("SELECT max(id) FROM runs"))
        assert run_id is not None
        reason, vmid = f"the guest is gone {HOSTILE}", hoster.vmids[sold[4]]
        found = [
            Finding("paid-but-missing", "order:o2", reason, "alarm", vps_id=ids["o2"], order_id="o2"),
            Finding("unmanaged-guest", f"guest:main/{vmid}", "no order names it", "info", cluster="main", vmid=vmid),
            *(Finding("spec", f"vps:{number}", "another size") for number in range(1000, 1070)),
        ]
        report_findings(connection, run_id, found)
        note_failures(connection, run_id, [Failure(f"vps:{ids['o3']}", Stage.WRITE, "DataError (SQLSTATE 22003)")])
        lost = {"degraded_since": datetime.now(UTC), "degraded_reason": f"3 of 5 guests vanished {HOSTILE}"}
        remember_source(connection, "proxmox:main", **lost)
        by_class = {
            row[0]: row[1] for row in connection.execute(text("SELECT class, max(id) FROM findings GROUP BY 1"))
        }
    return Fleet(ids, ids["o1"], by_class["paid-but-missing"], by_class["unmanaged-guest"])


def dead_call(engine: Engine, vps_id: int) -> int:
    """An update of this VPS that was given up."""
    with engine.begin() as connection:
        row = connection.execute(
            text("UPDATE vps_queues SET last_seq = last_seq + 1, applied_seq = last_seq + 1 WHERE vps_id = :id"
                 " RETURNING last_seq"), {"id": vps_id},
        ).one()  # fmt: skip
        values = {
            "kind": "sync", "action": "update", "vps_id": vps_id, "seq": row.last_seq, "source": "sync",
            "state": "dead", "payload": {"id": vps_id, "status": "stopped"}, "attempts": 5,
            "error": "DataError (SQLSTATE 22003)",
            "applied_at": text("clock_timestamp()"), "publish_at": None,
        }  # fmt: skip
        made = connection.execute(insert(tables.operations).values(values).returning(tables.operations.c.id)).one()
    return int(made.id)


def what_if(engine: Engine) -> int:
    """A what-if that is made, about changes with hostile names and reasons."""
    change = ShownChange(
        "orphan", "delete", "vps:1", "held", "applied", None, f"gone {HOSTILE}", HOSTILE, 5, HOSTILE, [HOSTILE]
    )
    fates = ClassFates("orphan", Fates(applied=1), Fates(held=1))
    outcome = Outcome(
        policy={"orphan": "repair"}, policy_now={"orphan": "hold"}, plan="0" * 64, problems=[f"away {HOSTILE}"],
        guests_to_read=1, total=fates, classes=[fates], moved=[Moved("orphan", "held", "applied", 1)],
        held=[HeldThen("deletes", f"too many {HOSTILE}", 1, 0)], held_more=1, matter=[change],
        clusters=[Most(HOSTILE, 1)], customers=[Most(HOSTILE, 1)],
    )  # fmt: skip
    with engine.begin() as connection:
        asked = what_ifs.ask_what_if(connection, {"orphan": "repair"}, "api:olga")
        what_ifs.keep_outcome(connection, asked.id, 1, outcome)
    return asked.id


def forms(page: str) -> set[str]:
    """Where the forms of a page lead that decide something."""
    return set(re.findall(r'<form method="post" action="([^"]+)"', page)) - FREE


def audited(engine: Engine) -> list[tuple[str, str, str]]:
    with engine.connect() as connection:
        rows = connection.execute(text('SELECT "by", action, subject FROM operator_actions ORDER BY id'))
        return [(row[0], row[1], row[2]) for row in rows]


def one(engine: Engine, statement: str, **values: Any) -> Any:
    with engine.connect() as connection:
        return connection.execute(text(statement), values).one()


async def test_every_page_for_each_role_in_both_languages(
    olga: httpx.AsyncClient, rita: httpx.AsyncClient, fleet: Fleet, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_in, made = list[int](), rendering.page

    def noted(*args: Any, **values: Any) -> Any:
        made_in.append(threading.get_ident())
        return made(*args, **values)

    monkeypatch.setattr(rendering, "page", noted)
    held, dead = hold(engine, *(fleet.ids[order] for order in ("o2", "o3", "o5"))), dead_call(engine, fleet.ids["o6"])
    await told(olga, "/ops/pauses/pause", target="user:2", reason=HOSTILE, for_s="3600")
    want_events(engine)
    note_event(engine, fleet.ids["o2"])
    with engine.begin() as connection:
        connection.execute(text("UPDATE webhook_endpoint SET disabled_at = now()"))
        connection.execute(text("UPDATE webhook_events SET last_error = :hostile"), {"hostile": HOSTILE})
    about, alarm = f"/ops/vps/{fleet.ids['o3']}", f"/ops/findings/{fleet.alarm}"
    nothing = set[str]()
    pages = {
        "/ops": {"/ops/reconcile"},
        "/ops/held": nothing,
        f"/ops/held/{held}": nothing,
        f"/ops/held/{held}/approve": {f"/ops/held/{held}/approve"},
        f"/ops/held/{held}/reject": {f"/ops/held/{held}/reject"},
        "/ops/findings": {f"{alarm}/ack", f"{alarm}/snooze"},
        "/ops/findings?class=unmanaged-guest&all=true": {f"/ops/findings/{fleet.unsold}/ignore"},
        "/ops/findings?class=&cluster=&user=&page=2": nothing,
        "/ops/inbox": {f"/ops/inbox/findings/{fleet.unsold}/ignore"},
        "/ops/inbox?cluster=nowhere&all=true&page=2": nothing,
        "/ops/inbox/orders": nothing,
        "/ops/inbox/adoptions": nothing,
        "/ops/inbox/adoptions?ended=true": nothing,
        "/ops/vps": nothing,
        f"/ops/vps/{fleet.ended}": {f"/ops/vps/{fleet.ended}/restore"},
        about: {"/ops/reconcile", "/ops/pauses/pause"},
        f"{about}?page=2": {"/ops/reconcile", "/ops/pauses/pause"},
        "/ops/runs": {"/ops/reconcile"},
        "/ops/runs?kind=full": {"/ops/reconcile"},
        "/ops/sources": {"/ops/sources/acknowledge"},
        "/ops/dead": {f"/ops/dead/{dead}/requeue", f"/ops/dead/{dead}/discard"},
        "/ops/pauses": {"/ops/pauses/pause", "/ops/pauses/resume"},
        "/ops/quarantine": {"/ops/quarantine/release"},
        "/ops/coverage": nothing,
        "/ops/coverage?class=feed-not-read&cluster=main&user=1&page=2": nothing,
        "/ops/drift": nothing,
        "/ops/drift?class=plan&cluster=&user=&page=2": nothing,
        "/ops/money/running-unpaid": nothing,
        "/ops/money/paid-missing?reason=guest-gone&cluster=&user=&days=7": nothing,
        "/ops/deleted": {f"/ops/vps/{fleet.ended}/restore"},
        "/ops/deleted?user=&day=2020-01-01": nothing,
        "/ops/operations": nothing,
        "/ops/operations?state=dead&vps=": nothing,
        "/ops/what-if": {"/ops/what-if"},
        f"/ops/what-if/{what_if(engine)}": nothing,
        "/ops/what-if/deletes": nothing,
        "/ops/what-if/deletes?days=90&orphan=hold&missed-delete=&deletes_run=0&deletes_hour=&page=2": nothing,
        "/ops/webhooks": {"/ops/webhooks/enable", "/ops/webhooks/replay"},
        "/ops/webhooks?state=delivered": {"/ops/webhooks/enable", "/ops/webhooks/replay"},
        "/ops/audit": nothing,
        "/ops/audit?refused=true": nothing,
    }
    for path, expected in pages.items():
        for language, says in (("en", "Overview"), ("ru", "Обзор")):
            page = await olga.get(path, headers={"Accept-Language": language})
            assert page.status_code == 200, (path, page.text)
            assert says in page.text
            assert expected <= forms(page.text), path
            assert "<script" not in page.text, path
            assert "\u202e" not in page.text, path
        looked = await rita.get(path)
        assert (looked.status_code, forms(looked.text)) == (200, nothing), path
    assert len(made_in) >= 3 * len(pages)
    assert threading.get_ident() not in made_in, "the event loop has sync calls to answer"
    assert "&lt;script&gt;" in (await olga.get(about)).text, "the hostile name is shown, as text"
    first = (await olga.get("/ops")).text.partition("What to look at first")[2].partition("Findings by class")[0]
    in_order = ["Restore the guest, or end the order", "1 call was accepted and then given up", "67 more of this class"]
    assert sorted(in_order, key=first.index) == in_order, "alarms, dead calls, warnings; of many of a class only three"


async def test_a_reading_role_decides_nothing(rita: httpx.AsyncClient, engine: Engine) -> None:
    pages = [route for router in ROUTERS for route in router.routes if isinstance(route, APIRoute)]
    routes = {route.path for route in pages if "POST" in (route.methods or ())}
    templates = {re.sub(r"0{64}/(approve|reject)", "{hash_}/{decision}", path) for path in WRITES}
    templates = {re.sub(r"findings/1", "findings/{finding_id:id}", path) for path in templates}
    templates = {re.sub(r"adoptions/1", "adoptions/{adoption_id:id}", path) for path in templates}
    templates = {re.sub(r"vps/1", "vps/{vps_id:id}", path) for path in templates}
    assert {re.sub(r"dead/1", "dead/{operation_id:id}", path) for path in templates} == routes - FREE
    for path in WRITES:
        answer = await sent(rita, path, reason="x", for_s="60", target="all", subject="all", source="plan")
        assert answer.status_code == 403, path
        assert "Your key may only look" in answer.text
    assert audited(engine) == []


async def test_forms_of_other_sites_decide_nothing(olga: httpx.AsyncClient, engine: Engine) -> None:
    for path in [*WRITES, "/ops/vps"]:
        for data in ({"q": "1"}, {"form_token": "x"}):
            answer = await olga.post(path, data=data, headers=OWN)
            assert (answer.status_code, "Open the page again" in answer.text) == (403, True), path
        foreign = await olga.post(path, data={"q": "1"}, headers={"Sec-Fetch-Site": "cross-site"})
        assert foreign.status_code == 403
    assert audited(engine) == []


@pytest.mark.parametrize(("decision", "stored"), [("approve", "approved"), ("reject", "rejected")])
async def test_a_set_is_decided_as_by_the_api(
    app: FastAPI, olga: httpx.AsyncClient, keys: Keys, engine: Engine, decision: str, stored: str
) -> None:
    def state() -> tuple[Any, ...]:
        row = one(engine, "SELECT decision, decided_by, items FROM holds ORDER BY id DESC LIMIT 1")
        asked = one(engine, "SELECT count(*) FROM task_requests WHERE task = 'reconcile.run'")
        return row.decision, row.decided_by, row.items, asked[0]

    outcomes = []
    for by_page in (True, False):
        with engine.begin() as connection:
            connection.execute(text("DELETE FROM task_requests"))
        held = hold(engine, 7, 8)
        if by_page:
            asking = await olga.get(f"/ops/held/{held}/{decision}")
            assert all(f"VPS {number}" in asking.text for number in (7, 8)), "it names what is deleted"
            page = await told(olga, f"/ops/held/{held}/{decision}")
            assert f"2 {stored}" in page.text
            again = await sent(olga, f"/ops/held/{held}/{decision}")
            assert (again.status_code, f"is {stored} already" in again.text) == (409, True)
        else:
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="https://panel.test") as program:
                headers = {"X-API-Key": keys.olga}
                answer = await program.post(f"/api/ops/held/{held}/{decision}", headers=headers)
                assert answer.status_code == 200, answer.text
        outcomes.append(state())
        with engine.begin() as connection:
            connection.execute(text("UPDATE holds SET decision = 'expired'"))
    assert outcomes[0] == outcomes[1]
    assert outcomes[0][:2] == (stored, "api:olga")
    first, second = audited(engine)
    assert first == second
    assert first[:2] == ("api:olga", decision)


async def test_what_the_other_forms_do(olga: httpx.AsyncClient, fleet: Fleet, engine: Engine) -> None:
    alarm, unsold, live = f"/ops/findings/{fleet.alarm}", f"/ops/findings/{fleet.unsold}", fleet.ids["o2"]
    assert "is acknowledged" in (await told(olga, f"{alarm}/ack")).text
    assert "is snoozed until" in (await told(olga, f"{alarm}/snooze", for_s="3600")).text
    page = await told(olga, f"{unsold}/ignore", reason="our monitoring", **{"class": "unmanaged-guest"})
    assert str(page.url).endswith("?class=unmanaged-guest")
    assert "is no longer ignored" in (await told(olga, f"{unsold}/unignore")).text
    back = await told(olga, f"/ops/vps/{fleet.ended}/restore", reason="paid after all")
    assert f"VPS {fleet.ended} is" in back.text
    paused = await told(olga, "/ops/pauses/pause", target=f"vps:{live}", reason="moving", for_s="60", vps=str(live))
    assert str(paused.url).endswith(f"/ops/vps/{live}")
    assert "moving" in paused.text
    asked = await told(olga, "/ops/reconcile", vps=str(live))
    assert f"But vps:{live} is paused until" in asked.text
    assert f"vps:{live} is resumed" in (await told(olga, "/ops/pauses/resume", target=f"vps:{live}")).text
    failing = f"vps:{fleet.ids['o3']}"
    assert f"released: {failing}" in (await told(olga, "/ops/quarantine/release", subject=failing)).text
    assert "is believed again" in (await told(olga, "/ops/sources/acknowledge", source="proxmox:main")).text
    assert f"asked for a run for vps:{live}" in (await told(olga, "/ops/reconcile", vps=str(live))).text
    given_up, sent_again = dead_call(engine, fleet.ids["o5"]), dead_call(engine, fleet.ids["o6"])
    assert "is discarded" in (await told(olga, f"/ops/dead/{given_up}/discard", reason="done by hand")).text
    assert "is queued again" in (await told(olga, f"/ops/dead/{sent_again}/requeue")).text
    assert [action for _, action, _ in audited(engine)] == [
        "findings ack", "findings snooze", "findings ignore", "findings unignore", "vps restore", "pause", "reconcile",
        "resume", "release", "acknowledge", "reconcile", "discard", "requeue",
    ]  # fmt: skip
    for path, fields, status in (
        (f"/ops/vps/{live}/restore", {"reason": "x"}, 409),
        ("/ops/vps/999/restore", {"reason": "x"}, 404),
        ("/ops/pauses/pause", {"target": "nowhere", "reason": "x", "for_s": "60"}, 404),
        ("/ops/pauses/pause", {"target": "all", "reason": "x", "for_s": "1e3"}, 422),
        ("/ops/pauses/pause", {"target": "all", "reason": " \t", "for_s": "60"}, 422),
        (f"{unsold}/ignore", {"reason": "x" * 501}, 422),
    ):
        answer = await sent(olga, path, **fields)
        assert (answer.status_code, answer.headers["Content-Type"]) == (status, "text/html; charset=utf-8"), path
    assert len(audited(engine)) == 13, "what was refused left nothing"


async def test_a_vps_is_found_and_compared(olga: httpx.AsyncClient, fleet: Fleet, engine: Engine) -> None:
    vps_id = fleet.ids["o2"]
    with engine.begin() as connection:
        values = {
            "id": vps_id,
            "customer": connection.scalar(text("SELECT user_id FROM vps WHERE id = :id"), {"id": vps_id}),
        }
        connection.execute(text("UPDATE vps SET name = 'web-01', ip_address = '192.0.2.7' WHERE id = :id"), values)
        customer = "(SELECT user_id FROM vps WHERE id = :id)"
        connection.execute(text(f"UPDATE users SET username = 'anna' WHERE id = {customer}"), values)
        guest = connection.execute(text("SELECT cluster, vmid FROM vps WHERE id = :id"), values).one()
    for wanted in (str(vps_id), "web-01", "WEB-0", "o2", "anna", "192.0.2.7", f"{guest.cluster}/{guest.vmid}"):
        answer = await sent(olga, "/ops/vps", q=wanted)
        assert answer.headers.get("Location") == f"/ops/vps/{vps_id}" or f'/ops/vps/{vps_id}"' in answer.text, wanted
    assert f"/ops/vps/{fleet.ids['o3']}" in (await sent(olga, "/ops/vps", q="script")).text
    assert "not even a deleted one" in (await sent(olga, "/ops/vps", q="' OR true --")).text
    assert (await sent(olga, "/ops/vps", q="x" * 300)).status_code == 422

    with engine.begin() as connection:
        connection.execute(text("UPDATE guests SET power = 'stopped' WHERE vmid = :vmid"), {"vmid": guest.vmid})
        connection.execute(text("UPDATE orders_seen SET cpu = 8 WHERE order_id = 'o2'"))
    differs = (await olga.get(f"/ops/vps/{vps_id}")).text
    assert 'class="differs">8<' in differs
    assert 'class="differs">stopped<' in differs
    assert "The fast lane writes what Proxmox shows: stopped" in differs
    assert "Last change:" in differs
    assert f'/ops/vps/{vps_id}"' in (await olga.get("/ops/vps")).text, "one of those that changed last"
    for path, word in ((f"/ops/vps/{vps_id}", ' running">Работает</span>'), ("/ops/vps", '">Работает</td>')):
        assert word in (await olga.get(path, headers={"Accept-Language": "ru"})).text
    drifting = (await olga.get("/ops/drift")).text
    assert "a run repairs it" in drifting
    await told(olga, "/ops/pauses/pause", target=f"vps:{vps_id}", reason="moving", for_s="60")
    assert "paused until <time" in (await olga.get("/ops/drift")).text
    assert "Why it does not do it yet" in (await olga.get(f"/ops/vps/{vps_id}")).text
    deleted = (await olga.get(f"/ops/vps/{fleet.ended}")).text
    assert "its guest is gone" in deleted, "the history says why"
    assert re.search(r"Guest main/\d+ was missing in \d+ complete reads", deleted), "and on what it rests"
    assert "asked again just before" in deleted
    assert "Why it does not do it yet" not in deleted, "it does nothing about a deleted record"
    with engine.begin() as connection:
        merged = {"id": fleet.ended, "into": vps_id}
        connection.execute(text("UPDATE vps SET merged_into = :into WHERE id = :id"), merged)
    found = (await sent(olga, "/ops/vps", q="script")).text
    assert re.search(rf'merged into <a href="/ops/vps/{vps_id}"', found)
    assert "It was merged into another record" in (await olga.get(f"/ops/vps/{fleet.ended}")).text
    assert 'class="differs"' not in deleted
    assert (await olga.get("/ops/vps/999999")).status_code == 404


async def test_the_database_away_is_a_page(settings: Settings) -> None:
    away = f"postgresql://nobody@127.0.0.1:{free_port()}/none"
    app = create_app(settings.model_copy(update={"database_url": away}))
    async with app.router.lifespan_context(app), browser(app) as client:
        for path in ("/ops", "/ops/vps/1", "/ops/held"):
            answer = await client.get(path, headers={"Cookie": f"__Secure-panel_operator={'x' * 43}"})
            assert (answer.status_code, answer.headers["Content-Type"]) == (503, "text/html; charset=utf-8")
            assert "PostgreSQL does not answer" in answer.text
        assert (await client.get("/ops/sign-in")).status_code == 200
