"""What customers see of their VPS, what they never see, and that it needs no JavaScript."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import Engine, text

from api.dependencies import Edge
from api.pages import static_files, vps_routes
from panel.records.client_activity import activity_query
from panel.records.reads import reading_as_client
from runtime.servers.embedded_postgres import EmbeddedPostgres
from tests.integration.api.conftest import Secrets, Worker
from tests.integration.api.pages.conftest import SITE, browser, sign_in
from tests.integration.api.test_api_sync import create

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
ELSEWHERE = {"operators.css", "uplot.min.css", "uplot.iife.min.js", "statistics.js"}
HOSTILE = "<script>alert('x')</script>\" onload=x"


@pytest.fixture
async def annas(app: FastAPI, secrets: Secrets) -> AsyncIterator[httpx.AsyncClient]:
    async with browser(app) as made:
        await sign_in(made, secrets, 5)
        yield made


class Fleet:
    """VPS of both customers, made by calls."""

    def __init__(self, site: httpx.AsyncClient, worker: Worker) -> None:
        self.site, self.worker = site, worker

    async def create(self, **vps: Any) -> int:
        return await self.call(create(**vps))

    async def call(self, body: dict[str, Any]) -> int:
        answer = (await self.site.post("/api/vps/sync", json=body)).json()
        self.worker.apply(answer["operation"]["id"])
        return int(answer["vps"]["id"])


@pytest.fixture
def fleet(site: httpx.AsyncClient, worker: Worker) -> Fleet:
    return Fleet(site, worker)


def changed(vps_id: int, **fields: object) -> dict[str, Any]:
    """An update call."""
    return {"action": "update", "vps": {"id": vps_id} | fields}


def names(page: httpx.Response) -> list[str]:
    """The names in a list, in its order."""
    assert page.status_code == 200
    return re.findall(r'<a class="name" href="[^"]*">([^<]*)</a>', page.text)


def badge(page: httpx.Response) -> str:
    found = re.search(r'<span class="badge (\w+)">\s*([^<]*?)\s*</span>', page.text)
    assert found is not None
    return f"{found[1]}: {found[2]}"


async def test_two_customers_see_their_own(
    app: FastAPI, annas: httpx.AsyncClient, secrets: Secrets, fleet: Fleet
) -> None:
    mine = await fleet.create(user_id=5, name="annas-vps", ip_address="192.0.2.5")
    his = await fleet.create(user_id=6, name="boriss-vps", ip_address="192.0.2.6")
    assert names(await annas.get("/")) == ["annas-vps"]
    assert (await annas.get(f"/vps/{mine}")).status_code == 200
    for query in ("boris", "192.0.2.6"):
        assert names(await annas.get("/", params={"q": query})) == []
    others, never = await annas.get(f"/vps/{his}"), await annas.get("/vps/987654")
    assert (others.status_code, never.status_code) == (404, 404)
    assert others.text.replace(f"/vps/{his}", "/vps/987654") == never.text
    async with browser(app) as boriss:
        await sign_in(boriss, secrets, 6)
        assert names(await boriss.get("/")) == ["boriss-vps"]
        assert (await boriss.get(f"/vps/{mine}")).status_code == 404
    await sign_in(annas, secrets, 6)
    assert names(await annas.get("/")) == ["boriss-vps"], "the same browser, another customer"


async def test_a_page_of_another_customer_loads_anew(
    app: FastAPI, annas: httpx.AsyncClient, secrets: Secrets, fleet: Fleet
) -> None:
    """Its tab was open before, and asks for its part again with the cookie of the one who signed in since."""
    mine = await fleet.create(user_id=5, name="annas-vps")
    parts = ("/", f"/vps/{mine}")
    asked = {"HX-Request": "true", "X-Page-Of": "5"}
    for path in parts:
        part = await annas.get(path, headers=asked)
        assert (part.status_code, "HX-Refresh" in part.headers) == (200, False)
        assert """hx-headers='{"X-Page-Of": "5"}'""" in part.text
    await sign_in(annas, secrets, 6)
    for path in parts:
        part = await annas.get(path, headers=asked)
        assert (part.status_code, part.headers["HX-Refresh"]) == (409, "true"), path
        assert "annas-vps" not in part.text
    gone = await annas.get(f"/vps/{mine}", headers={"HX-Request": "true", "X-Page-Of": "6"})
    assert (gone.status_code, gone.headers["HX-Refresh"]) == (404, "true"), "it does not stay as it was"


async def test_search_filter_and_pages(annas: httpx.AsyncClient, fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in range(5):
        await fleet.create(name=f"web_{n}", status="running" if n % 2 else "stopped", ip_address=f"192.0.2.{n + 1}")
    await fleet.create(name="db%1", status="running", ip6_address="2001:db8::7")
    everything = ["db%1", "web_4", "web_3", "web_2", "web_1", "web_0"]
    monkeypatch.setattr(vps_routes, "PER_PAGE", 2)
    seen: list[list[str]] = []
    at = "/"
    while True:
        page = await annas.get(at)
        seen.append(names(page))
        following = re.search(r'href="([^"]*)" rel="next"', page.text)
        if following is None:
            break
        at = following[1].replace("&amp;", "&")
    assert [name for shown in seen for name in shown] == everything
    assert len(seen) == 3
    assert "Back to the newest" in page.text
    monkeypatch.undo()
    for query, found in (
        ({"q": "WEB_3"}, ["web_3"]),
        ({"q": "%"}, ["db%1"]),  # a character, not "anything"
        ({"q": "_"}, everything[1:]),
        ({"q": "192.0.2.1"}, ["web_0"]),
        ({"q": "2001:db8"}, ["db%1"]),
        ({"q": "e", "status": "stopped"}, ["web_4", "web_2", "web_0"]),
        ({"status": ""}, everything),
        ({"q": "nothing\0of that"}, []),
    ):
        assert names(await annas.get("/", params=query)) == found, query
    for query in ({"status": "deleted"}, {"cursor": "x"}, {"q": "x" * 256}):
        answer = await annas.get("/", params=query)
        assert answer.status_code in {400, 422}
        assert "did not understand" in answer.text


async def test_what_a_page_says_of_each_state(annas: httpx.AsyncClient, fleet: Fleet, engine: Engine) -> None:
    vps = await fleet.create(name="web", status="running", cluster="pve", node="secret-node", vmid=987654321)
    said = {}
    for status in ("running", "stopped", "suspended", "error", "creating"):
        await fleet.call(changed(vps, status=status))
        page = await annas.get(f"/vps/{vps}")
        said[badge(page)] = re.findall(r'<div class="banner (\w+)">', page.text)
        if status == "suspended":
            assert f'<a href="{SITE}"' in page.text, "what the customer can do"
    assert said == {
        "running: Running": [],
        "stopped: Stopped": [],
        "suspended: Suspended": ["warn"],
        "error: Error": ["bad"],
        "creating: Being created": ["info"],
    }
    assert "every 300s" in (await annas.get("/")).text, "its stream tells what changes"
    await fleet.call(changed(vps, status="running"))
    with engine.begin() as connection:
        connection.execute(text("UPDATE vps SET power_as_of = power_as_of - interval '3 days'"))
    for path in ("/", f"/vps/{vps}"):
        page = await annas.get(path)
        assert badge(page) == "unknown: Unknown, last seen 3 days ago"
        assert "every 60s" in page.text, "the age moves on"
    russian = await annas.get(f"/vps/{vps}", headers={"Accept-Language": "ru"})
    assert badge(russian) == "unknown: Неизвестно, последний раз видели 3 дня назад"
    assert "4 ядра, ОЗУ 8 ГБ, диск 100 ГБ" in (await annas.get("/", headers={"Accept-Language": "ru"})).text
    for secret in ("secret-node", "987654321", "pve"):
        assert secret not in page.text


async def test_the_html_is_enough(annas: httpx.AsyncClient, fleet: Fleet) -> None:
    """No inline script or style, none holds up the text, every form has where to go, and names are text."""
    vps = await fleet.create(name=HOSTILE, os="</title><b>", ip_address="192.0.2.1", ip6_address="2001:db8::1")
    for path in ("/", f"/vps/{vps}", "/?q=%22%3E%3Cscript%3E", "/vps/999", "/sign-in?user_id=%3Cscript%3E"):
        page = await annas.get(path)
        assert page.headers["Content-Security-Policy"] == POLICY
        assert page.headers["Cache-Control"] == "no-store"
        assert page.headers["Content-Type"] == "text/html; charset=utf-8"
        scripts = re.findall(r"<script[^>]*>", page.text)
        assert all(re.fullmatch(r'<script src="/static/\w+/[\w.-]+"( defer)?>', one) for one in scripts)
        shown_first, _, _ = page.text.partition("</main>")
        assert not re.search(r"<script[^>]*(?<!defer)>", shown_first), "the text waits for no script"
        assert not re.search(r"<style|<[^>]*\s(style|on\w+)=", page.text.replace("onload=x", ""))
        assert "<b>" not in page.text
        assert "alert('" not in page.text
        for form in re.findall(r"<form[^>]*>", page.text):
            assert re.search(r'method="(get|post)" action="/', form)
    detail = (await annas.get(f"/vps/{vps}")).text
    assert "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&#34; onload=x" in detail
    for shown in ("192.0.2.1", "2001:db8::1", "4 cores", "8 GB", "100 GB", "told by the site"):
        assert shown in detail


async def test_styles_and_scripts_are_kept_by_their_content(annas: httpx.AsyncClient) -> None:
    page = await annas.get("/")
    addresses = re.findall(r'(?:src|href)="(/static/[^"]+)"', page.text)
    assert {address.rpartition("/")[2] for address in addresses} == set(static_files.FILES) - ELSEWHERE
    for address in addresses:
        file = await annas.get(address)
        assert (file.status_code, file.headers["Cache-Control"]) == (200, "public, max-age=31536000, immutable")
        assert file.headers["Content-Type"].partition(";")[0] in static_files.TYPES.values()
    for wrong in ("/static/0/panel.css", addresses[0].replace("mark.svg", "..%2fpages%2flist.html"), "/static/x/y"):
        assert (await annas.get(wrong)).status_code == 404


class TestActivity:
    async def test_the_customers_own_words(self, annas: httpx.AsyncClient, fleet: Fleet) -> None:
        vps = await fleet.create(name="web", cluster="pve", node="secret-node", vmid=987654321)
        await fleet.call(changed(vps, status="running", ip_address="192.0.2.9"))
        await fleet.call(changed(vps, status="running", node="other-secret-node"))
        page = await annas.get(f"/vps/{vps}")
        told = re.findall(r"<li>(.*?)</li>", page.text.partition('<ol class="activity">')[2], re.DOTALL)
        changes = [re.sub(r"\s+", " ", re.sub(r"<[^>]*>", "", one)).strip() for one in told]
        assert len(changes) == 2, "what customers do not see is no change to them"
        assert changes[0].startswith("State: Being created → Running Address: none → 192.0.2.9")
        assert changes[0].endswith("told by the site")
        assert changes[1].startswith("The VPS came into the panel. State: Being created")
        assert "secret-node" not in page.text

    async def test_nothing_of_the_former_owner(
        self, app: FastAPI, annas: httpx.AsyncClient, fleet: Fleet, owner: Engine
    ) -> None:
        """Nor of operators, evidence or the machine. In the database already, whatever the query."""
        vps = await fleet.create(
            user_id=6, name="boriss-name", os="boriss-os", cluster="pve", node="n1", vmid=987654321
        )
        await fleet.call(changed(vps, status="running", ip_address="192.0.2.66"))
        with owner.begin() as connection:
            for statement in SOLD_ON:
                connection.execute(text(statement), {"id": vps})
            for user_id, action in ((6, "reboot"), (5, "stop")):
                connection.execute(text(ASKED), {"id": vps, "user": user_id, "action": action})
        page = await annas.get(f"/vps/{vps}")
        assert "The VPS became yours." in page.text
        assert "State: <strong>Stopped</strong>" in page.text
        assert "by our staff" in page.text
        assert ("Shut down, as you asked:" in page.text, "Reboot, as you asked:" in page.text) == (True, False)
        edge: Edge = app.state.edge
        async with reading_as_client(edge.reader, 5) as connection:
            rows = [dict(row._mapping) for row in await connection.execute(text("SELECT * FROM client_activity"))]
        assert len(rows) == 2
        for secret in ("boris", "192.0.2.66", "987654321", "pve", "user_id", "zoe", "because", "evidence", "vmid"):
            assert secret not in str(rows)
        for secret in ("boris", "192.0.2.66", "987654321", "because", "zoe"):
            assert secret not in page.text
        assert await edge.clients.rows_as_client(6, activity_query(vps, limit=30)) == [[]]
        async with edge.reader.connect() as connection:
            await connection.execute(text("SET LOCAL ROLE panel_client"))
            assert (await connection.execute(text("SELECT * FROM client_activity"))).all() == [], "no user was set"


ASKED = """
INSERT INTO power_actions (vps_id, user_id, action, force, cluster, vmid, guest_type, fingerprint, state, valid_until,
  code, reason, ended_at)
SELECT :id, :user, :action, false, 'c', 1, 'qemu', 'f', 'done', t, 'done', 'so', t FROM clock_timestamp() t
"""
SOLD_ON = (
    "UPDATE vps SET user_id = 5, name = 'annas-name', os = 'debian', ip_address = NULL, status = 'stopped',"
    " power_state = 'stopped', applied_seq = 4, version = version + 2 WHERE id = :id",
    "UPDATE vps_queues SET last_seq = 4, applied_seq = 4 WHERE vps_id = :id",
    "INSERT INTO operations (kind, action, vps_id, seq, source, payload, state, reason, evidence, before, after,"
    " applied_at) VALUES ('operator', 'update', :id, 3, 'operator', '{}', 'applied', 'because zoe said so',"
    ' \'{"by": "zoe"}\', \'{"user_id": 6, "name": "boriss-name", "vmid": 987654321, "status": "running"}\','
    ' \'{"user_id": 5, "name": "annas-name", "vmid": null, "status": "stopped"}\', clock_timestamp()),'
    " ('operator', 'update', :id, 4, 'operator', '{}', 'applied', 'because', 'null',"
    ' \'{"cpu": 2, "vmid": 987654321}\', \'{"cpu": 4}\', clock_timestamp())',
)


async def test_a_database_that_is_away_is_a_page_too(
    annas: httpx.AsyncClient, postgres_server: EmbeddedPostgres
) -> None:
    postgres_server.stop()
    answer = await annas.get("/")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    assert "cannot read its data" in answer.text
