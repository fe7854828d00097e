"""``GET /metrics``: whom it answers, that Prometheus can read it, that it costs little and does not grow."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr
from sqlalchemy import Connection

from api import metrics_routes
from api.main import create_app
from panel.monitoring import process_files
from panel.operators.metrics import metrics
from panel.settings import OperatorKey, Settings
from runtime.servers.embedded_postgres import EmbeddedPostgres
from tests.integration.api.conftest import Secrets
from tests.integration.api.test_api_sync import CREATE, create
from tests.support.keys import random_key
from tests.support.waiting import PATIENCE_S

PLACE = Path(__file__).resolve().parents[3] / "docs" / "monitoring"
LABELS = {
    "class", "kind", "lane", "le", "method", "outcome", "phase", "quantile", "result", "route", "severity", "source",
    "state", "status", "task",
}  # fmt: skip


def plain(app: FastAPI, **headers: str) -> httpx.AsyncClient:
    """A caller of what is not in the OpenAPI document."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://panel", headers=headers)


async def scraped(app: FastAPI, key: str) -> dict[str, Metric]:
    async with plain(app, Authorization=f"Bearer {key}") as prometheus:
        answer = await prometheus.get("/metrics")
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    families = list(text_string_to_metric_families(answer.text))
    assert len({family.name for family in families}) == len(families)
    return {family.name: family for family in families}


def value(families: dict[str, Metric], name: str, **labels: str) -> float:
    """The sample of these labels; 0 if there is none yet."""
    samples = [sample for family in families.values() for sample in family.samples]
    return sum(sample.value for sample in samples if sample.name == name and sample.labels == labels)


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that is busy is no machine that hangs: the files are waited for."""
    monkeypatch.setattr(metrics_routes, "TEXT_S", PATIENCE_S)
    monkeypatch.setattr(process_files, "LOCK_S", PATIENCE_S)


@pytest.fixture
def fresh(app: FastAPI) -> FastAPI:
    """The application, which reads the database at each scrape."""
    app.state.database_numbers = metrics_routes.DatabaseNumbers(app.state.edge, iter(range(0, 10**6, 60)).__next__)
    return app


async def test_a_call_is_counted_by_its_route_and_the_database_tells_the_rest(
    fresh: FastAPI, site: httpx.AsyncClient, secrets: Secrets
) -> None:
    before = await scraped(fresh, secrets.operator)
    call = (await site.post("/api/vps/sync", json=CREATE)).json()
    assert (await site.get(f"/api/vps/sync/operations/{call['operation']['id']}")).status_code == 200
    assert (await site.post("/api/vps/sync", json=create(user_id=4711))).status_code == 422
    items = [create(user_id=4711), create(ram=8), create(order_id="m")]
    assert (await site.post("/api/vps/sync/batch", json={"items": items})).status_code == 200
    after = await scraped(fresh, secrets.operator)

    def more(name: str, **labels: str) -> float:
        return value(after, name, **labels) - value(before, name, **labels)

    posted = {"route": "/api/vps/sync", "method": "POST"}
    assert more("panel_sync_http_requests_total", **posted, status="2xx") == 1
    assert more("panel_sync_http_requests_total", **posted, status="4xx") == 1
    assert more("panel_sync_http_request_duration_seconds_count", **posted) == 2
    followed = {"route": "/api/vps/sync/operations/{operation_id}", "method": "GET", "status": "2xx"}
    assert more("panel_sync_http_requests_total", **followed) == 1
    assert more("panel_sync_sync_calls_total", outcome="accepted") == 2
    assert more("panel_sync_sync_calls_total", outcome="refused") == 3, "the items of a batch, too"
    assert value(after, "panel_sync_database_up") == 1
    assert value(after, "panel_sync_calls_queued") == 2
    assert value(after, "panel_sync_relay_lag_seconds") > 0
    assert value(after, "panel_sync_http_requests_in_flight") == 1, "the scrape itself"


async def test_only_operators_are_answered(app: FastAPI, settings: Settings, secrets: Secrets) -> None:
    watcher = random_key()
    keys = (OperatorKey(name="prometheus", role="read", key=SecretStr(watcher)),)
    watched = create_app(settings.model_copy(update={"ops_api_keys": keys}))
    async with watched.router.lifespan_context(watched):
        for headers, status_code in (
            ({}, 401),
            ({"Authorization": "Bearer wrong"}, 401),
            ({"Authorization": f"Bearer {secrets.sync}"}, 401),
            ({"X-API-Key": secrets.sync}, 401),
            ({"Authorization": f"Bearer {secrets.token(5)}"}, 401),
            ({"Authorization": f"Basic {watcher}"}, 401),
            ({"Authorization": f"Bearer {watcher}", "X-API-Key": watcher}, 401),
            ({"X-API-Key": watcher}, 200),
            ({"Authorization": f"Bearer {watcher}"}, 200),
            ({"Authorization": f"bearer {secrets.operator}"}, 200),
        ):
            async with plain(watched, **headers) as client:
                answer = await client.get("/metrics")
            assert answer.status_code == status_code, headers.keys()
    async with plain(app, Authorization=f"Bearer {watcher}") as client:
        assert (await client.get("/api/ops/metrics")).status_code == 401, "only /metrics takes it so"


async def test_hostile_paths_and_methods_make_no_new_series(app: FastAPI, secrets: Secrets) -> None:
    def series(families: dict[str, Metric]) -> set[tuple[str, str]]:
        return {
            (sample.name, json.dumps(sample.labels, sort_keys=True))
            for family in families.values()
            for sample in family.samples
        }

    async def attack(client: httpx.AsyncClient, number: int) -> None:
        for method in ("GET", "DELETE", f"X{number}"):
            for path in (f"/{number}", f"/api/vps/{number}", f"/api/vps/x{number}", f"/metrics/{number}?a={number}"):
                await client.request(method, path)

    async with plain(app, Authorization="Bearer x") as client:
        await attack(client, 1)
        first = series(await scraped(app, secrets.operator))
        for number in range(2, 12):
            await attack(client, number)
    again = series(await scraped(app, secrets.operator))
    assert again == first
    labels: set[str] = set().union(*(json.loads(of) for _, of in again))
    assert labels <= LABELS
    assert not any(re.search(r"\bX?\d{1,2}\b", json.loads(of).get("route", "")) for _, of in again)


async def test_many_scrapers_cost_the_database_as_much_as_one(
    app: FastAPI, secrets: Secrets, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[Connection] = []

    def counted(connection: Connection) -> dict[str, Any]:
        reads.append(connection)
        return metrics(connection)

    monkeypatch.setattr(metrics_routes, "metrics", counted)
    app.state.database_numbers = metrics_routes.DatabaseNumbers(app.state.edge, lambda: 0.0)
    await asyncio.gather(*(scraped(app, secrets.operator) for _ in range(8)))
    assert len(reads) == 1


async def test_without_the_database_the_processes_are_still_shown(
    settings: Settings, secrets: Secrets, postgres_server: EmbeddedPostgres
) -> None:
    app = create_app(settings.model_copy(update={"answer_within_s": 2.0}))
    clock: Iterator[int] = iter(range(0, 10**6, 60))
    app.state.database_numbers = metrics_routes.DatabaseNumbers(app.state.edge, clock.__next__)
    async with app.router.lifespan_context(app), asyncio.timeout(PATIENCE_S):
        postgres_server.pause()
        try:
            away = await scraped(app, secrets.operator)
        finally:
            postgres_server.resume()
        assert value(away, "panel_sync_database_up") == 0
        assert value(away, "panel_sync_http_requests_in_flight") == 1
        assert "panel_sync_calls_queued" not in away, "an old number would look like a quiet panel"
        while value(await scraped(app, secrets.operator), "panel_sync_database_up") == 0:
            pass


async def test_every_metric_of_the_rules_and_the_dashboard_is_shown(app: FastAPI, secrets: Secrets) -> None:
    families = await scraped(app, secrets.operator)
    shown = {name + "_total" if family.type == "counter" else name for name, family in families.items()}
    shown |= {name + "_bucket" for name, family in families.items() if family.type == "histogram"}
    rules = (PLACE / "alerts.yml").read_text(encoding="utf-8")
    panels = json.loads((PLACE / "dashboard.json").read_text(encoding="utf-8"))["panels"]
    asked = " ".join(target["expr"] for panel in panels for target in panel.get("targets", ()))
    used = set(re.findall(r"\bpanel_sync_\w+", rules + asked))
    assert len(used) > 30
    assert used - shown == set()
    page = (PLACE.parent / "monitoring.md").read_text(encoding="utf-8")
    assert {name for name in shown if not name.endswith("_bucket") and f"`{name}`" not in page} == set()


def test_every_rule_has_a_test_a_severity_a_sentence_and_a_command() -> None:
    rules = (PLACE / "alerts.yml").read_text(encoding="utf-8").split("- alert: ")[1:]
    tested = set(re.findall(r"alertname: (\w+)", (PLACE / "alerts_test.yml").read_text(encoding="utf-8")))
    page = (PLACE.parent / "monitoring.md").read_text(encoding="utf-8")
    assert len(rules) >= 12
    for rule in rules:
        name = rule.splitlines()[0]
        assert name in tested
        assert f"`{name}`" in page
        for needed in (r"severity: (critical|warning)", r"summary: .+\.\"?$", r"command: (panel-sync|curl) \w+"):
            assert re.search(needed, rule, re.MULTILINE), (name, needed)
