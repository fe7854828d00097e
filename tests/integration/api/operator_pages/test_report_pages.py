"""Page, API and command tell the same of each report; the files; and what each role may."""

from __future__ import annotations

import csv
import html
import io
import json
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import Connection, Engine, text

from api.dependencies import Edge
from api.operator_pages.reports import drift_routes
from panel.operators.reports.looks import Configured, Look, look
from panel.operators.reports.money import COLUMNS
from panel.runs.source_states import remember_source
from panel.settings import ProxmoxCluster, Settings
from tests.integration.api.operator_pages.conftest import Keys, sent, told
from tests.integration.cli.conftest import PanelSync, bare
from tests.support.databases import Database
from tests.support.fleets.hoster import Hoster
from tests.support.keys import random_key

__all__ = ["bare"]

CLUSTER = {"name": "main", "urls": ["https://pve.test:8006"], "token_id": "a@pve!b", "token_secret": "c" * 36}
HOSTILE = '=HYPERLINK("http://evil.test";"x")'
LAST_READ = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
UNPAID, MISSING = "/money/running-unpaid", "/money/paid-missing"


@pytest.fixture
def users() -> None:
    """The hoster brings its own."""


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"proxmox_clusters": [ProxmoxCluster.model_validate(CLUSTER)]})


@pytest.fixture(autouse=True)
def fleet(engine: Engine, owner: Engine) -> Hoster:
    """Twelve VPS, with something of each kind: unread, different, unpaid, missing, deleted."""
    hoster = Hoster(engine)
    hoster.open()
    sold = hoster.sell(12)
    hoster.full(3)
    hoster.end(sold[0])
    hoster.full(4)
    with owner.begin() as connection:
        for statement in (
            "UPDATE orders_seen SET state = 'ended' WHERE order_id IN ('o2', 'o3')",
            "UPDATE orders_seen SET state = 'suspended', cpu = 8 WHERE order_id = 'o4'",
            "UPDATE guests SET fingerprint_state = 'forbidden', name = :hostile"
            " WHERE (cluster, vmid) IN (SELECT cluster, vmid FROM vps WHERE order_id IN ('o2', 'o5'))",
            "UPDATE guests SET power = 'error' WHERE (cluster, vmid) IN"
            " (SELECT cluster, vmid FROM vps WHERE order_id = 'o6')",
            "UPDATE orders_seen SET cpu = 8 WHERE order_id IN ('o7', 'o8', 'o9', 'o10', 'o11')",
        ):
            connection.execute(text(statement), {"hostile": HOSTILE} if ":hostile" in statement else {})
    return hoster


@pytest.fixture
async def program(app: FastAPI, keys: Keys) -> AsyncIterator[httpx.AsyncClient]:
    """A program with the key of the operator who only looks."""
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(
        transport=transport, base_url="https://panel.test", headers={"X-API-Key": keys.rita}
    ) as made:
        yield made


@pytest.fixture
def command(bare: PanelSync, database: Database, capsys: pytest.CaptureFixture[str]) -> Any:
    """What a command prints, on stderr if it ends with another code than 0."""
    settings = {
        **database.urls, "VPS_SYNC_API_KEY": random_key(), "OPS_API_KEY": random_key(),
        "JWT_SECRET": random_key(), "PROXMOX_CLUSTERS": json.dumps([CLUSTER]),
    }  # fmt: skip

    def run(*arguments: str, code: int = 0) -> str:
        capsys.readouterr()  # what the API logged before
        said = bare(*arguments, **settings)
        assert said.code == code, said.err
        return said.err if code else said.out

    return run


async def data(client: httpx.AsyncClient, path: str) -> Any:
    answer = await client.get(f"/api/ops{path}")
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


def without_ages(value: Any) -> Any:
    """What stays the same from one moment to the next."""
    if isinstance(value, dict):
        moving = {"age_days", "age_s", "oldest_s", "read_age_s", "oldest_queued_s", "unpublished_s"}
        return {
            name: without_ages(one) for name, one in value.items() if name not in moving and not name.endswith("_s")
        }
    return [without_ages(one) for one in value] if isinstance(value, list) else value


async def test_api_and_command_tell_the_same(program: httpx.AsyncClient, command: Any) -> None:
    vps_id = (await data(program, "/drift?limit=1"))["rows"][0]["vps_id"]
    for path, arguments in (
        ("/coverage?limit=50", ("coverage",)),
        ("/coverage?class=config-refused&limit=1&offset=1",
         ("coverage", "--class", "config-refused", "--limit", "1", "--page", "2")),
        ("/drift?limit=50", ("drift",)),
        ("/drift?class=plan&cluster=main&limit=3&offset=3",
         ("drift", "--class", "plan", "--cluster", "main", "--limit", "3", "--page", "2")),
        (f"{UNPAID}?limit=50", ("money", "running-unpaid")),
        (f"{MISSING}?reason=guest-in-error&limit=50", ("money", "paid-missing", "--reason", "guest-in-error")),
        ("/deleted?limit=50", ("vps", "deleted")),
        (f"/vps/{vps_id}", ("vps", "show", str(vps_id))),
        ("/overview", ("overview",)),
        ("/pauses", ("pauses",)),
    ):  # fmt: skip
        answered = without_ages(await data(program, path))
        printed = without_ages(json.loads(command(*arguments, "--json")))
        assert times(printed) == times(answered), path
        command(*arguments)


def times(value: Any) -> Any:
    """Times in one form: pydantic ends them in Z, Python in +00:00."""
    return json.loads(json.dumps(value).replace('+00:00"', 'Z"'))


async def test_the_pages_show_the_same_numbers(
    rita: httpx.AsyncClient, program: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drift_routes, "PER_PAGE", 5)
    covered = await data(program, "/coverage")
    page = (await rita.get("/ops/coverage")).text
    assert f"Of {covered['records']} records, the last look covers {covered['judged']}." in page
    assert covered["judged"] == covered["records"] - 2
    assert all(f">{count['class']}</a>" in page for count in covered["counts"])
    assert set(re.findall(r"/ops/vps/(\d+)", page)) == {str(one["vps_id"]) for one in covered["spots"]}

    differs = await data(program, "/drift?limit=1000")
    page = (await rita.get("/ops/drift")).text
    assert f"{differs['differing']} of {differs['records']} records differ" in page
    first, second = re.findall(r"/ops/vps/(\d+)", page), (await rita.get("/ops/drift?page=2")).text
    assert len(first) == 5
    assert first + re.findall(r"/ops/vps/(\d+)", second) == [str(row["vps_id"]) for row in differs["rows"]]
    only = (await rita.get("/ops/drift?class=missed-delete")).text
    assert len(re.findall(r"/ops/vps/\d+", only)) == 2

    for path in (UNPAID, MISSING):
        told_of = await data(program, path)
        page = (await rita.get(f"/ops{path}", headers={"Accept-Language": "ru"})).text
        assert re.search(rf"<strong>{told_of['total']['count']}</strong> машин[аы]?<", page)
        assert len(re.findall("<tr>", page.rpartition("<tbody>")[2])) == len(told_of["rows"])
    assert (await rita.get("/ops/money")).headers["Location"] == "/ops/money/running-unpaid"
    for wrong in ("/ops/money/else", "/ops/money/else.csv", "/ops/drift?class=A", "/ops/deleted?day=2026-13-40"):
        answer = await rita.get(wrong)
        assert (answer.status_code in {400, 404, 422}, "<h1>" in answer.text) == (True, True), wrong
    assert (await program.get("/api/ops/vps/999999")).status_code == 404
    for wrong, field in (("/ops/drift?user=ann", "user"), ("/ops/findings?cluster=%5Bb%5D", "cluster")):
        answer = await rita.get(wrong)
        assert answer.status_code == 422
        assert f"The value of “{field}” is not possible here." in answer.text
        assert f'href="{wrong.partition("?")[0]}"' in answer.text, "the way back"
    for day, status in (("2026-11-30", 200), ("2026-13-40", 422), ("0", 422)):
        assert (await program.get(f"/api/ops/deleted?day={day}")).status_code == status, day


async def test_a_filter_that_nothing_can_have_is_no_empty_report(
    program: httpx.AsyncClient, rita: httpx.AsyncClient, command: Any
) -> None:
    """A script with a typing error would otherwise report for ever that nothing is wrong."""
    unpaid, others = "no-order, order-ended, order-gone, order-suspended", "guest-gone"
    for path, arguments, name, known in (
        (f"{UNPAID}?reason={others}", ("money", "running-unpaid", "--reason", others), "reason", unpaid),
        (f"{UNPAID}.csv?reason=order-end", ("money", "running-unpaid", "--reason", "order-end", "--csv", "-"),
         "reason", unpaid),
        ("/drift?class=missed-statuses", ("drift", "--class", "missed-statuses"), "class", "missed-delete, plan"),
        ("/coverage?class=else", ("coverage", "--class", "else"), "class", "config-refused"),
    ):  # fmt: skip
        answer = await program.get(f"/api/ops{path}")
        assert answer.status_code == 422, path
        assert f"{name}: must be one of " in answer.json()["message"]
        assert set(known.split(", ")) <= set(answer.json()["message"].partition("one of ")[2].split(", "))
        page = await rita.get(f"/ops{path}")
        assert page.status_code == 422
        assert answer.json()["message"] in html.unescape(page.text)
        assert f"{name}: must be one of" in command(*arguments, code=2)


async def test_a_report_is_of_one_moment(
    program: httpx.AsyncClient, command: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calls are applied meanwhile. Its lists and counts agree all the same."""
    seen = list[str]()

    def noting(connection: Connection, configured: Configured) -> Look:
        seen.append(connection.scalar(text("SHOW transaction_isolation")) or "")
        return look(connection, configured)

    for module in ("coverage", "drift", "money"):
        monkeypatch.setattr(f"panel.operators.reports.{module}.look", noting)
    for path in ("/coverage", "/drift", UNPAID, f"{UNPAID}.csv"):
        assert (await program.get(f"/api/ops{path}")).status_code == 200
    for arguments in (("coverage",), ("drift",), ("money", "running-unpaid")):
        command(*arguments)
    assert seen == ["repeatable read"] * 7
    assert (await program.get("/api/ops/overview")).status_code == 200


async def test_each_place_says_how_old_the_news_are(
    rita: httpx.AsyncClient, program: httpx.AsyncClient, command: Any, owner: Engine
) -> None:
    with owner.begin() as connection:
        connection.execute(text("UPDATE scopes SET began_at = '2026-03-01T12:00:00Z' WHERE source = 'orders'"))
        remember_source(connection, "orders", unwell_cause="old", unwell_since=LAST_READ, unwell_reason="r")
    assert datetime.fromisoformat((await data(program, "/drift"))["as_of"]) == LAST_READ
    page = (await rita.get("/ops/drift")).text
    assert "from their order or their guest, as runs saw them last" in page
    assert "The oldest of the last complete reads:" in page
    assert "1 Mar 2026, 12:00 UTC" in page
    assert "As of 2026-03-01 12:00:00 UTC" in command("drift")
    told_of = await data(program, UNPAID)
    assert (datetime.fromisoformat(told_of["orders_as_of"]), told_of["unread"]) == (LAST_READ, ["orders"])
    page = (await rita.get(f"/ops{UNPAID}")).text
    assert "orders is not up to date" in page
    assert "1 Mar 2026, 12:00 UTC" in page.partition("The orders as of:")[2].partition("</p>")[0]
    said = command("money", "running-unpaid")
    assert "orders is not up to date" in said
    assert "The orders as of 2026-03-01 12:00:00 UTC" in said
    with owner.begin() as connection:
        connection.execute(text("DELETE FROM scopes WHERE source = 'orders'"))
    assert (await data(program, "/drift"))["as_of"] is None
    assert "Not every source was read completely yet." in (await rita.get("/ops/drift")).text
    assert "Not every source was read completely yet" in command("drift")
    assert "The orders as of: not known" in re.sub(r"\s+", " ", (await rita.get(f"/ops{UNPAID}")).text)
    assert "The orders as of" not in command("money", "running-unpaid")


async def test_the_files(
    rita: httpx.AsyncClient, program: httpx.AsyncClient, command: Any, tmp_path: Path, app: FastAPI
) -> None:
    rows = (await data(program, UNPAID))["rows"]
    assert {row["order_id"] for row in rows} == {"o2", "o3", "o4"}
    texts = []
    for client, path in ((program, f"/api/ops{UNPAID}.csv"), (rita, f"/ops{UNPAID}.csv")):
        answer = await client.get(path)
        assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/csv; charset=utf-8")
        assert answer.headers["Cache-Control"] == "no-store"
        named = r'attachment; filename="running-unpaid-\d{4}-\d\d-\d\d\.csv"'
        assert re.fullmatch(named, answer.headers["Content-Disposition"])
        assert answer.headers["Content-Length"] == str(len(answer.content))
        texts.append(answer.content.decode())
    file = tmp_path / "unpaid.csv"
    command("money", "running-unpaid", "--csv", str(file))
    texts += [file.read_text("utf-8"), command("money", "running-unpaid", "--csv", "-")]
    assert file.stat().st_mode & 0o077 == 0
    for written in texts:
        read = list(csv.DictReader(io.StringIO(written, newline=""), strict=True))
        assert tuple(read[0]) == COLUMNS
        assert [(line["order_id"], line["reason"]) for line in read] == [(r["order_id"], r["reason"]) for r in rows]
        assert [line["name"] for line in read if line["order_id"] == "o2"] == [f"'{HOSTILE}"]
    edge: Edge = app.state.edge
    async with edge.reports, edge.reports, edge.reports:
        for way in (f"{UNPAID}.csv", UNPAID, "/drift", "/coverage"):
            for client, path in ((program, f"/api/ops{way}"), (rita, f"/ops{way}")):
                busy = await client.get(path)
                assert (busy.status_code, busy.headers["Retry-After"]) == (503, "5"), path
        assert "Other reports are being made" in (await rita.get("/ops/drift")).text
        assert (await rita.get("/ops")).status_code == 200, "only reports wait"
    only = await program.get(f"/api/ops{UNPAID}.csv?reason=order-suspended")
    assert [line["order_id"] for line in csv.DictReader(io.StringIO(only.text, newline=""))] == ["o4"]


async def test_the_deleted_are_restored_by_who_may(
    rita: httpx.AsyncClient, olga: httpx.AsyncClient, owner: Engine
) -> None:
    looked, decides = (await rita.get("/ops/deleted")).text, (await olga.get("/ops/deleted")).text
    assert "ended" in looked
    assert 'name="reason"' not in looked
    (path,) = set(re.findall(r'action="(/ops/vps/\d+/restore)"', decides))
    about, other = path.removesuffix("/restore"), "UPDATE vps SET order_id = :order WHERE order_id = :now"
    with owner.begin() as connection:
        connection.execute(text(other), {"order": "o1", "now": "o12"})
    for page in (await olga.get("/ops/deleted"), await olga.get(about)):
        assert path not in page.text, "no form that ends in a refusal"
        assert "Restorable until" not in page.text
        assert re.search(r"Cannot be restored: .*order o1 belongs to VPS \d+ by now.*/ops/vps/\d+", page.text)
    for fields, back in (({}, about), ({"list": "yes"}, "/ops/deleted")):
        refused = await sent(olga, path, reason="paid after all", **fields)
        assert (refused.status_code, "order o1 belongs to VPS" in refused.text) == (409, True)
        assert f'href="{back}">Back to the page' in refused.text
    with owner.begin() as connection:
        connection.execute(text(f"{other} AND deleted_at IS NULL"), {"order": "o12", "now": "o1"})
    assert "is" in (await told(olga, path, reason="paid after all")).text
    assert "No VPS was deleted then" in (await olga.get("/ops/deleted")).text


async def test_a_pause_stands_in_the_way_of_what_is_to_be_done_only(olga: httpx.AsyncClient, owner: Engine) -> None:
    with owner.connect() as connection:
        ids = {row.order_id: row.id for row in connection.execute(text("SELECT id, order_id FROM vps"))}
    for order, due in (("o12", False), ("o7", True)):
        target = f"vps:{ids[order]}"
        page = (await told(olga, "/ops/pauses/pause", target=target, reason="x", for_s="60", vps=str(ids[order]))).text
        assert ("Why it does not do it yet" in page, "Paused until" in page) == (due, not due), order
        assert ("Nothing: order, panel and Proxmox agree" in page) != due, order
    overview = (await olga.get("/ops")).text
    assert f'/ops/vps/{ids["o7"]}">VPS {ids["o7"]}</a> differs and is paused until' in overview
    assert f'/ops/vps/{ids["o12"]}">VPS {ids["o12"]}</a> differs' not in overview
