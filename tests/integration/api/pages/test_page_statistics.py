"""The graphs of a VPS's page, which are words without JavaScript; what it says while there are none; and its period."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import Engine, text

from api.main import create_app
from api.pages import vps_routes
from panel.journal.calls import DatabaseAwayError
from panel.power.facts import PowerRules
from panel.settings import ProxmoxCluster, Settings
from reconcile.vps_statistics import StatisticsReader
from tests.integration.api.conftest import Secrets
from tests.integration.api.pages.conftest import browser, sign_in
from tests.support.fleets.looked_at import known_for
from tests.support.fleets.switchable import make_switchable, spoil
from tests.support.stand_ins.measured_cluster import MeasuredCluster

CLUSTER = {"name": "main", "urls": ["https://pve.test:8006"], "token_id": "a@pve!b", "token_secret": "c" * 36}


@pytest.fixture(autouse=True)
def vps(engine: Engine, users: None) -> None:
    make_switchable(engine)
    known_for(engine, 10_000)


@pytest.fixture
def watched(settings: Settings) -> Settings:
    return settings.model_copy(update={"proxmox_clusters": [ProxmoxCluster.model_validate(CLUSTER)]})


@pytest.fixture
async def watching(watched: Settings) -> AsyncIterator[FastAPI]:
    made = create_app(watched)
    async with made.router.lifespan_context(made):
        yield made


def load(page: httpx.Response) -> str:
    """What the page says of the statistics, without markup."""
    assert page.status_code == 200
    part = page.text.partition('<article id="statistics"')[2].partition("</article>")[0].partition(">")[2]
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", "", part)).strip()


def work(engine: Engine, settings: Settings, cluster: MeasuredCluster) -> None:
    with engine.begin() as connection:
        rows = connection.execute(text("DELETE FROM task_requests WHERE task = 'statistics.read' RETURNING subject"))
        ids = [int(row.subject) for row in rows]
    for row_id in ids:
        StatisticsReader(engine, lambda _: cluster, PowerRules.of(settings)).read(row_id)


async def test_the_words_of_the_graphs_in_both_languages(
    watching: FastAPI, watched: Settings, secrets: Secrets, engine: Engine
) -> None:
    async with browser(watching) as anna, browser(watching, "ru") as anya:
        await sign_in(anna, secrets, 5)
        await sign_in(anya, secrets, 5)
        assert load(await anna.get("/vps/1")) == (
            "Load Hour Day Week Month Year The statistics are being read. They appear here in a moment."
        )
        work(engine, watched, MeasuredCluster())
        page, same = await anna.get("/vps/1"), await anya.get("/vps/1")
        spoil(engine, "UPDATE vps SET status = 'stopped', power_state = 'stopped'")
        stopped = load(await anna.get("/vps/1"))
    assert load(page) == (
        "Load Hour Day Week Month Year "
        "Processor Busy: now 25 %, on average 25 %, at most 25 % "
        "Memory In use: now 512 MB, on average 512 MB, at most 512 MB "
        "Network In: now 1.5 kB/s, on average 1.5 kB/s, at most 1.5 kB/s "
        "Out: now 3 MB/s, on average 3 MB/s, at most 3 MB/s "
        "Disk Read: now 0 B/s, on average 0 B/s, at most 0 B/s "
        "Written: now 10.5 MB/s, on average 10.5 MB/s, at most 10.5 MB/s "
        f"As Proxmox showed it {re.findall(r'1 second ago|[0-9]+ seconds ago', page.text)[-1]}"
    )
    assert "Процессор Занято: сейчас 25 %, в среднем 25 %, не более 25 %" in load(same)
    assert "Входящий: сейчас 1,5 КБ/с, в среднем 1,5 КБ/с, не более 1,5 КБ/с" in load(same)
    assert "Busy: last 25 %, on average 25 %, at most 25 % " in stopped
    assert "now" not in stopped, "a machine that is off has no value now"
    assert 'data-units="B|kB|MB|GB|TB" data-rates="B/s|kB/s|MB/s|GB/s|TB/s"' in page.text, (
        "the graphs spell them so, too"
    )
    for graph in ("cpu", "memory", "network", "disk"):
        assert f'aria-labelledby="graph-{graph} graph-{graph}-words" data-graph="{graph}"' in page.text
        assert f'<p id="graph-{graph}-words">' in page.text
    assert 'data-lines="In|Out"' in page.text
    assert 'data-lines="Входящий|Исходящий"' in same.text
    assert " style=" not in page.text, "the policy of the pages takes no style of an element"
    assert page.text.index("uplot.iife.min.js") < page.text.index("statistics.js")


async def test_a_period_is_a_link_and_the_page_renews_itself_with_it(
    watching: FastAPI, secrets: Secrets, engine: Engine
) -> None:
    async with browser(watching) as anna:
        await sign_in(anna, secrets, 5)
        page = await anna.get("/vps/1?timeframe=week")
        assert '<section id="live" hx-get="/vps/1?timeframe=week"' in page.text
        assert 'data-stats="/api/vps/1/stats?timeframe=week"' in page.text
        assert '<span aria-current="true">Week</span>' in page.text
        assert '<a href="/vps/1?timeframe=hour#statistics">Hour</a>' in page.text
        assert (await anna.get("/vps/1?timeframe=fortnight")).status_code == 422
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT timeframe FROM vps_statistics")) == "week"


async def test_what_it_says_while_there_is_nothing(
    watching: FastAPI, watched: Settings, secrets: Secrets, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with browser(watching) as anna, browser(watching) as boris:
        await sign_in(anna, secrets, 5)
        await sign_in(boris, secrets, 6)
        assert (await boris.get("/vps/1")).status_code == 404
        with monkeypatch.context() as patch:

            async def away(*_: Any) -> None:
                raise DatabaseAwayError("away")

            patch.setattr(vps_routes, "statistics_of", away)
            assert load(await anna.get("/vps/1")).endswith("gives no statistics at the moment. They are tried again.")
        spoil(engine, "UPDATE vps SET power_state = 'stopped'")
        await anna.get("/vps/1")
        work(engine, watched, MeasuredCluster(running=False))
        page = await anna.get("/vps/1")
        assert load(page).startswith("Load Hour Day Week Month Year The machine was off all the time")
        assert "data-graph" not in page.text
        spoil(engine, "UPDATE vps SET link_state = 'unverified'")
        assert "It is being checked which machine belongs to this VPS." in load(await anna.get("/vps/1"))
        spoil(
            engine,
            "INSERT INTO vps_statistics (vps_id, user_id, timeframe, cluster, node)"
            " SELECT n, 5, 'hour', 'main', 'pve1' FROM generate_series(101, 130) n;"
            " UPDATE vps SET link_state = 'verified'",
        )
        assert "too many statistics" in load(await anna.get("/vps/1?timeframe=year"))


async def test_a_panel_without_proxmox_has_no_graphs(app: FastAPI, secrets: Secrets) -> None:
    async with browser(app) as anna:
        await sign_in(anna, secrets, 5)
        page = await anna.get("/vps/1")
    assert 'id="statistics"' not in page.text
    assert "uplot" not in page.text
