"""The inbox by page, request and command: the same list, and the same decisions."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html import unescape
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import Engine, text

from tests.integration.api.operator_pages.conftest import Keys, sent, told
from tests.integration.cli import conftest as cli
from tests.integration.cli.conftest import PanelSync, Said
from tests.support.databases import Database
from tests.support.fleets.hoster import Hoster
from tests.support.keys import random_key

in_this_process = cli.bare
"""The fixture that runs a command, under another name."""


@pytest.fixture
def users() -> None:
    """The hoster brings its own."""


@pytest.fixture
def hoster(engine: Engine) -> Hoster:
    """Two guests that nobody ordered, and three orders without a guest: two of the first one's name, one unlike any."""
    made = Hoster(engine)
    made.open()
    made.sell(2)
    for vmid in (900, 901):
        made.cluster.add(vmid, "pve1")
    bare_order = replace(made.feed.listed["o1"], cluster=None, node=None, vmid=None)
    made.feed.listed |= {
        "a": replace(bare_order, order_id="a", name="g900"),
        "b": replace(bare_order, order_id="b", name="g900"),
        "c": replace(bare_order, order_id="c", name="nothing", cpu=64),
    }
    made.full(3)
    return made


@pytest.fixture
async def program(app: FastAPI, keys: Keys) -> Any:
    """A program of Olga's."""
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(
        transport=transport, base_url="https://panel.test", headers={"X-API-Key": keys.olga}
    ) as made:
        yield made


@pytest.fixture
def typed(in_this_process: PanelSync, database: Database, capsys: pytest.CaptureFixture[str]) -> PanelSync:
    """What Olga types."""

    def run(*arguments: str) -> Said:
        capsys.readouterr()  # what was logged before
        return in_this_process(*arguments, **settings)

    settings = {
        **database.urls, "VPS_SYNC_API_KEY": random_key(), "OPS_API_KEY": random_key(),
        "JWT_SECRET": random_key(), "USER": "olga",
    }  # fmt: skip
    return run


def ageless(listed: Any) -> Any:
    """A list without the ages, which go on between two reads."""
    return [{name: value for name, value in one.items() if name != "age_s"} for one in listed]


async def data(client: httpx.AsyncClient, path: str) -> Any:
    answer = await client.get(path)
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


async def test_page_request_and_command_show_the_same(
    olga: httpx.AsyncClient, program: httpx.AsyncClient, typed: PanelSync, hoster: Hoster
) -> None:
    del hoster
    listed = await data(program, "/api/ops/inbox")
    assert [(one["vmid"], [c["order_id"] for c in one["candidates"]]) for one in listed] == [
        (900, ["a", "b"]),
        (901, []),
    ]
    assert ageless(json.loads(typed("adopt", "--json").out)) == ageless(listed)
    orders = await data(program, "/api/ops/inbox/orders")
    assert [one["order_id"] for one in orders] == ["a", "b", "c"]
    assert json.loads(typed("adopt", "orders", "--json").out) == orders
    page, said = unescape((await olga.get("/ops/inbox")).text), typed("adopt").out
    for guest in listed:
        assert f"{guest['cluster']}/{guest['vmid']}" in page
        for candidate in guest["candidates"]:
            for sentence in (*candidate["evidence"], *candidate["against"]):
                assert sentence in page
                assert sentence in said
    shown = (await olga.get("/ops/inbox/orders")).text
    assert all(f"<code>{one['order_id']}</code>" in shown for one in orders)
    for second in ("limit=1&offset=1", "cluster=main&limit=1&offset=1"):
        assert [one["vmid"] for one in await data(program, f"/api/ops/inbox?{second}")] == [901]
    assert json.loads(typed("adopt", "--limit", "1", "--page", "2", "--json").out)[0]["vmid"] == 901
    assert await data(program, "/api/ops/inbox?cluster=nowhere") == []


async def test_the_pages_are_wholly_in_russian(olga: httpx.AsyncClient, hoster: Hoster) -> None:
    with hoster.engine.begin() as connection:
        connection.execute(text("UPDATE orders_seen SET ram_mb = 2560 WHERE order_id = 'c'"))
        connection.execute(text("UPDATE guests SET power = 'stopped' WHERE vmid = 901"))
    for language, guest, order in (
        ("en", r"qemu, stopped, node \w+, 2 cores, 2 GB RAM, \d+ GB disk", "64 cores, 2.5 GB RAM, 10 GB disk"),
        ("ru", r"qemu, выключен, узел \w+, 2 ядра, ОЗУ 2 ГБ, диск \d+ ГБ", "64 ядра, ОЗУ 2,5 ГБ, диск 10 ГБ"),
    ):
        page = (await olga.get("/ops/inbox", headers={"Accept-Language": language})).text
        assert re.search(guest, page)
        assert order in (await olga.get("/ops/inbox/orders", headers={"Accept-Language": language})).text


async def test_each_of_them_adopts_and_withdraws(
    olga: httpx.AsyncClient, program: httpx.AsyncClient, typed: PanelSync, hoster: Hoster, engine: Engine
) -> None:
    (first, second) = await data(program, "/api/ops/inbox")
    page = await olga.get("/ops/inbox")
    forms = page.text.split('<form method="post" action="/ops/inbox/adopt"')[1:]
    form = next(one.partition("</form>")[0] for one in forms if 'name="order_id" value="a"' in one)
    fields = dict(re.findall(r'name="(cluster|vmid|guest_type|fingerprint|order_id)" value="([^"]*)"', form))
    page = await told(olga, "/ops/inbox/adopt", **fields, reason="the old fleet")
    assert "is adopted into order a" in page.text
    (stored,) = await data(program, "/api/ops/adoptions")
    assert (stored["order_id"], stored["fingerprint"], stored["adopted_by"]) == ("a", first["fingerprint"], "api:olga")
    assert json.loads(typed("adopt", "decisions", "--json").out) == [stored]
    assert "the guest and the order have the name g900" in (await olga.get("/ops/inbox/adoptions")).text
    again = await sent(olga, "/ops/inbox/adopt", **fields | {"order_id": "b"}, reason="x")
    assert (again.status_code, "adopted already" in again.text) == (409, True)
    assert "is withdrawn" in (await told(olga, f"/ops/inbox/adoptions/{stored['id']}/withdraw", reason="no")).text

    body = {name: second[name] for name in ("cluster", "vmid", "guest_type", "fingerprint")} | {"reason": "r"}
    answer = await program.post("/api/ops/adopt", json=body | {"order_id": "c"})
    assert (answer.status_code, answer.json()["data"]["order_id"]) == (202, "c")
    answer = await program.post(f"/api/ops/adoptions/{answer.json()['data']['id']}/withdraw", json={"reason": "no"})
    assert answer.json()["data"]["outcome"] == "withdrawn"

    adopt = ("adopt", "guest", "main/901", "--order", "c", "--reason", "r", "--fingerprint")
    assert "is adopted into order c" in typed(*adopt, second["fingerprint"]).out
    (waiting,) = await data(program, "/api/ops/adoptions")
    assert "is withdrawn" in typed("adopt", "withdraw", str(waiting["id"]), "--reason", "no").out
    assert len(await data(program, "/api/ops/adoptions?ended=true")) == 3
    refused = typed(*adopt, "smbios:another")
    assert (refused.code, "another machine than the one you saw" in refused.err) == (2, True)
    with engine.connect() as connection:
        noted = connection.execute(text('SELECT "by", action FROM operator_actions WHERE subject LIKE :g ORDER BY id'),
                                   {"g": "guest:%"}).all()  # fmt: skip
    assert [tuple(row) for row in noted] == [
        (by, action) for by in ("api:olga", "api:olga", "cli:olga") for action in ("adopt guest", "adopt withdraw")
    ]
    hoster.full()
    assert hoster.count("vps", "vmid IN (900, 901)") == 0, "all three were withdrawn"


async def test_what_a_request_may_not_say(program: httpx.AsyncClient, olga: httpx.AsyncClient, hoster: Hoster) -> None:
    del hoster
    whole = {"cluster": "main", "vmid": 900, "guest_type": "qemu", "fingerprint": "smbios:900", "reason": "r"}
    for wrong in (whole, whole | {"order_id": "a", "vps": 1}, whole | {"order_id": "a", "vmid": "900"},
                  whole | {"order_id": "a", "reason": " "}, whole | {"order_id": "a", "guest_type": "vm"}):  # fmt: skip
        answer = await program.post("/api/ops/adopt", json=wrong)
        assert answer.status_code == 422, wrong
    for fields in ({}, {"order_id": "a", "vps": "1"}, {"order_id": "a", "vmid": "1e3"}, {"vps": "one"}):
        answer = await sent(olga, "/ops/inbox/adopt", **{n: str(v) for n, v in whole.items()} | fields)
        assert answer.status_code == 422, fields
    assert await data(program, "/api/ops/adoptions") == []
