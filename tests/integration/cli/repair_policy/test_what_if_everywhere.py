"""Page, API and command tell the same of another repair policy and of past deletes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Self

import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy import Engine

from panel.operators.holds import Decision
from panel.operators.repair_policy.policies import CLASSES, MODES
from tests.integration.api.pages.conftest import OWN
from tests.integration.cli.conftest import PanelSync, Said
from tests.integration.cli.test_operations_document import environment
from tests.stories.steps import Sold, converge, decide, held_sets, sell
from tests.support.bench import Bench, bench
from tests.support.databases import Database
from tests.support.keys import random_key
from worker import tasks

POLICY = {"orphan": "hold"}


@pytest.fixture
def orphaned(database: Database, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """Three orphans, held by the policy: two of customer 5, one of customer 6. A worker of this process."""
    key = SecretStr(random_key())
    with bench(database, engine, ops_api_key=key, repair_policy=POLICY) as world:
        sold = [sell(world, f"web-{n}", user_id=user_id) for n, user_id in enumerate((1, 1, 2, 1, 2))]
        converge(world, *sold)
        for one in sold[:3]:
            vanish(world, one)
        world.run(4)
        assert [one.scope for one in held_sets(world)] == ["class:orphan"]
        monkeypatch.setattr(tasks, "engine", lambda: engine)
        monkeypatch.setattr(tasks, "get_settings", lambda: world.settings)
        monkeypatch.setattr(tasks, "reconciler", lambda *_, **__: world.reconciler())
        yield world


@pytest.fixture
def panel_sync(bare: PanelSync, capsys: pytest.CaptureFixture[str]) -> PanelSync:
    """A command, without what the API logged before it."""

    def run(*arguments: str, **settings: str) -> Said:
        capsys.readouterr()
        return bare(*arguments, **settings)

    return run


def vanish(world: Bench, sold: Sold) -> None:
    world.site.remove_order(sold.order_id)
    world.pve.remove_guest(sold.vmid)


class Operator:
    """An operator's program and browser."""

    def __init__(self, world: Bench) -> None:
        key = world.settings.ops_api_key.get_secret_value()
        self.program = httpx.Client(base_url=world.panel_url, headers={"X-API-Key": key}, trust_env=False)
        self._browser = httpx.Client(base_url=world.panel_url, headers=OWN, trust_env=False)
        assert self._browser.post("/ops/sign-in", data={"key": key}).status_code == 303

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.program.close()
        self._browser.close()

    def asks(self, policy: dict[str, str]) -> httpx.Response:
        return self.program.post("/api/ops/what-if", json={"policy": policy})

    def gets(self, path: str, **query: Any) -> Any:
        answer = self.program.get(f"/api/ops/{path}", params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    def sees(self, path: str, **query: Any) -> httpx.Response:
        page = self._browser.get(f"/ops/{path}", params=query)
        assert page.status_code == 200, page.text
        return page

    def sends(self, path: str, **fields: str) -> httpx.Response:
        token = re.search(r'name="form_token" value="(\w+)"', self.sees("vps").text)
        assert token is not None
        return self._browser.post(f"/ops/{path}", data={"form_token": token[1], **fields})


@pytest.fixture
def olga(orphaned: Bench) -> Iterator[Operator]:
    with Operator(orphaned) as made:
        yield made


def numbers(page: httpx.Response) -> list[int]:
    """The numbers at the head of a page."""
    return [int(number) for number in re.findall(r"<li[^>]*><strong>(\d+)</strong>", page.text)]


def test_a_policy_that_is_tried(panel_sync: PanelSync, orphaned: Bench, olga: Operator) -> None:
    settings = environment(orphaned.settings) | {"ORPHAN_GRACE_S": "0"}
    settings |= {"REPAIR_POLICY": json.dumps(POLICY)}
    by_command = panel_sync("reconcile", "--policy", "orphan=repair", "--json", **settings)
    assert by_command.code == 0, by_command.err
    outcome = json.loads(by_command.out)
    assert outcome["total"]["now"] == {"applied": 0, "held": 3, "ignored": 0, "rejected": 0}
    assert outcome["total"]["then"] == {"applied": 1, "held": 2, "ignored": 0, "rejected": 0}
    assert [held["scope"] for held in outcome["held"]] == ["deletes:user:5"]

    asked = olga.asks({"orphan": "repair"})
    assert (asked.status_code, asked.json()["data"]["state"]) == (202, "waiting")
    number = asked.json()["data"]["id"]
    waiting = olga.sees(f"what-if/{number}")
    assert ("A worker is making it" in waiting.text, waiting.headers["Refresh"]) == (True, "30")
    tasks.what_if.apply(args=(str(number),)).get()
    by_api = olga.gets(f"what-ifs/{number}")
    assert by_api["outcome"] == outcome
    assert olga.gets("what-ifs")[0] == by_api
    page = olga.sees(f"what-if/{number}")
    assert numbers(page) == [1, 2, 0, 0]
    assert "Refresh" not in page.headers
    assert all(f'/ops/vps/{one["subject"].partition(":")[2]}"' in page.text for one in outcome["matter"])

    sent = olga.sends("what-if", **{"class": "orphan", "mode": "ignore"})
    assert sent.headers["Location"] == f"/ops/what-if/{number + 1}"
    shown = panel_sync("reconcile", "--policy", "orphan=repair", **settings)
    assert "1 orphan: held now, applied then" in shown.out
    assert len(orphaned.vps()) == 5, "nothing was deleted"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        pytest.param(("--policy", "orphan=repair", "--apply"), ("applies nothing", "--json"), id="with --apply"),
        pytest.param(("--policy", "orphan=repair", "--vps", "1"), ("applies nothing",), id="of one VPS"),
        pytest.param(("--policy", "orphans=repair"), CLASSES, id="no such class"),
        pytest.param(("--policy", "orphan=remove"), MODES, id="no such mode"),
    ],
)
def test_a_command_that_cannot_be_is_refused(
    bare: PanelSync, settings: dict[str, str], arguments: tuple[str, ...], named: tuple[str, ...]
) -> None:
    said = bare("reconcile", *arguments, **settings)
    assert (said.code, said.out) == (2, "")
    assert [word for word in named if word not in said.err] == []


def test_deletes_that_are_judged(panel_sync: PanelSync, orphaned: Bench, olga: Operator) -> None:
    (held,) = held_sets(orphaned)
    decide(orphaned, held.hash, Decision.APPROVED)
    orphaned.run()
    assert len(orphaned.vps()) == 2
    settings = environment(orphaned.settings) | {"REPAIR_POLICY": json.dumps(POLICY)}

    by_settings = json.loads(panel_sync("deletes", "--json", **settings).out)
    assert by_settings["total"] == {"applied": 0, "held": 3, "ignored": 0, "unknown": 0}
    arguments = ("--policy", "orphan=repair", "--run", "9", "--days", "7")
    other = {"orphan": "repair", "deletes_run": "9", "days": "7"}
    by_command = json.loads(panel_sync("deletes", *arguments, "--json", **settings).out)
    by_api, page = olga.gets("deletes", **other), olga.sees("what-if/deletes", **other)
    assert by_command["total"] == {"applied": 1, "held": 0, "ignored": 0, "unknown": 2}
    assert (by_command["limits"]["deletes_run"], by_command["days"]) == (9, 7)
    moving = {"since"}  # the moment from which it looks
    plain = {name: value for name, value in by_api.items() if name not in moving}
    assert json.dumps(plain, sort_keys=True).replace("Z", "+00:00") == json.dumps(
        {name: value for name, value in by_command.items() if name not in moving}, sort_keys=True
    ).replace("Z", "+00:00")
    assert numbers(page) == [1, 0, 0, 2, 0]
    assert "Held by: the policy (3)" in olga.sees("what-if/deletes", orphan="hold").text
    assert olga.gets("deletes", **other, limit=1)["deletes"] == by_api["deletes"][:1]
    assert "1 applied, 0 held, 0 ignored, 2 unknown" in panel_sync("deletes", *arguments, **settings).out
    refused = olga.program.get("/api/ops/deletes", params={"orphan": "remove"})
    assert (refused.status_code, [mode for mode in MODES if mode not in refused.text]) == (422, [])
    assert olga.asks({"orphans": "hold"}).json()["message"].endswith(", ".join(CLASSES))
