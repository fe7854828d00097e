"""Statistics by HTTP: only one's own, at once if they are fresh, and with a reason whenever there is nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from types import ModuleType
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import Engine, text

from api.client import statistics_models, statistics_requests, statistics_routes
from api.main import create_app
from api.operators import transactions
from domain.statistics.port import AnotherMachine, NotRead
from panel.journal.calls import DatabaseAwayError
from panel.power.facts import PowerRules
from panel.settings import ProxmoxCluster, Settings
from reconcile.vps_statistics import StatisticsReader
from tests.integration.api.conftest import Secrets
from tests.integration.api.pages.conftest import browser, sign_in
from tests.support.fleets.looked_at import known_for
from tests.support.fleets.switchable import make_switchable, spoil
from tests.support.stand_ins.measured_cluster import MIB, MeasuredCluster
from tests.support.waiting import wait_until

CLUSTER = {"name": "main", "urls": ["https://pve.test:8006"], "token_id": "a@pve!b", "token_secret": "c" * 36}
PATH = "/api/vps/1/stats"


@pytest.fixture(autouse=True)
def vps(engine: Engine, users: None) -> None:
    make_switchable(engine)
    known_for(engine, 10_000)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No worker runs beside these tests, so an answer waits for nothing."""
    monkeypatch.setattr(statistics_routes, "WAIT_S", 0.0)


@pytest.fixture
def watched(settings: Settings) -> Settings:
    return settings.model_copy(update={"proxmox_clusters": [ProxmoxCluster.model_validate(CLUSTER)]})


@pytest.fixture
async def app(watched: Settings) -> AsyncIterator[FastAPI]:
    made = create_app(watched)
    async with made.router.lifespan_context(made):
        yield made


class Workers:
    """The workers of the queue, when they are told to work."""

    def __init__(self, engine: Engine, rules: PowerRules) -> None:
        self.engine, self.rules, self.cluster = engine, rules, MeasuredCluster()

    def waiting(self) -> list[int]:
        with self.engine.connect() as connection:
            rows = connection.execute(text("SELECT subject FROM task_requests WHERE task = 'statistics.read'"))
            return [int(row.subject) for row in rows]

    def work(self) -> int:
        """Do what was asked for. Returns how many reads that was."""
        ids = self.waiting()
        spoil(self.engine, "DELETE FROM task_requests WHERE task = 'statistics.read'")
        for row_id in ids:
            StatisticsReader(self.engine, lambda _: self.cluster, self.rules).read(row_id)
        return len(ids)


@pytest.fixture
def workers(engine: Engine, watched: Settings) -> Workers:
    return Workers(engine, PowerRules.of(watched))


def seen(answer: httpx.Response) -> statistics_models.VpsStatistics:
    assert answer.status_code == 200, answer.text
    assert answer.headers["Cache-Control"] == "no-store"
    return statistics_models.StatisticsAnswer.model_validate_json(answer.content, strict=True).data


def problem(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["Content-Type"] == "application/problem+json"
    return answer.status_code, answer.json()["code"]


def older(engine: Engine, seconds: int = 61) -> None:
    for name in ("asked_at", "waits_since", "read_at", "failed_at"):
        spoil(engine, f"UPDATE vps_statistics SET {name} = {name} - make_interval(secs => :s)", s=seconds)


async def test_a_customer_sees_their_own(
    app: FastAPI, secrets: Secrets, anna: httpx.AsyncClient, boris: httpx.AsyncClient, workers: Workers
) -> None:
    first = seen(await anna.get(PATH))
    assert (first.vps_id, first.timeframe, first.cores, first.as_of, first.stale, first.points, first.code) == (
        1, "hour", 2, None, False, [], "being_read",
    )  # fmt: skip
    assert first.reason
    assert seen(await anna.get(PATH)).code == "being_read"
    assert workers.work() == 1, "of two who look"
    second = seen(await anna.get(PATH))
    assert (second.stale, second.code, second.reason, len(second.points)) == (False, None, None, 60)
    assert second.as_of is not None
    point = second.points[-1]
    assert (point.cpu, point.memory_used_bytes, point.memory_total_bytes) == (0.25, 512 * MIB, 2048 * MIB)
    assert (point.network_in_bytes_per_second, point.network_out_bytes_per_second) == (1536, 3 * MIB)
    assert (point.disk_read_bytes_per_second, point.disk_write_bytes_per_second) == (0, int(10.5 * MIB))
    assert workers.waiting() == [], "what is fresh is answered at once"
    for path in (PATH, "/api/vps/4711/stats"):
        assert problem(await boris.get(path)) == (404, "vps_unknown")
    async with browser(app) as page:
        assert problem(await page.get(PATH))[0] == 401
        await sign_in(page, secrets, 5)
        assert seen(await page.get(PATH)) == second, "by a session of the pages"
        await sign_in(page, secrets, 6)
        assert problem(await page.get(PATH)) == (404, "vps_unknown")
    assert problem(await anna.get(PATH, params={"timeframe": "fortnight"})) == (422, "invalid_parameter")
    assert seen(await anna.get(PATH, params={"timeframe": "week"})).points == [], "another timeframe is another read"


async def test_an_answer_waits_for_the_read(
    anna: httpx.AsyncClient, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statistics_routes, "WAIT_S", 600.0)
    asked = [asyncio.create_task(anna.get(PATH)) for _ in range(2)]
    await asyncio.to_thread(wait_until, workers.waiting, "the read is asked for")
    assert await asyncio.to_thread(workers.work) == 1
    for answer in await asyncio.gather(*asked):
        assert len(seen(answer).points) == 60


async def test_old_ones_are_shown_with_their_age(anna: httpx.AsyncClient, workers: Workers, engine: Engine) -> None:
    await anna.get(PATH)
    workers.work()
    first = seen(await anna.get(PATH))
    older(engine)
    assert (second := seen(await anna.get(PATH))).stale
    assert (second.code, second.points) == ("being_read", first.points)
    workers.cluster.answer = NotRead("it hangs", silent=True)
    workers.work()
    third = seen(await anna.get(PATH))
    assert (third.stale, third.code, third.points) == (True, "proxmox_away", first.points)


NOTHING: list[tuple[str, str, str]] = [
    ("off", "UPDATE vps SET power_state = 'stopped'", "stopped"),
    ("too young", "UPDATE vps SET created_at = clock_timestamp()", "no_measurements"),
    ("never linked", "UPDATE vps SET link_state = 'unlinked', cluster = NULL, vmid = NULL", "not_linked"),
    ("another hypervisor", "UPDATE vps SET hypervisor = 'kvm', link_state = 'unlinked', cluster = NULL, vmid = NULL",
     "no_proxmox"),
    ("the identity is in doubt", "UPDATE guests SET fingerprint_state = 'stale', doubt = 'changed',"
     " doubted_at = clock_timestamp()", "identity_in_doubt"),
    ("suspended", "UPDATE vps SET order_state = 'suspended'", "vps_suspended"),
    ("the cluster is away", "INSERT INTO source_states (source, unwell_cause, unwell_since, unwell_reason)"
     " VALUES ('proxmox:main', 'unread', clock_timestamp(), 'r')", "cluster_away"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "code"), [case[1:] for case in NOTHING], ids=[case[0] for case in NOTHING])
async def test_why_there_is_nothing(
    anna: httpx.AsyncClient, workers: Workers, engine: Engine, change: str, code: str
) -> None:
    spoil(engine, change)
    workers.cluster.running = code != "stopped"
    await anna.get(PATH)
    workers.work()
    found = seen(await anna.get(PATH))
    assert found.code == code
    assert found.reason
    assert not any(point.cpu is not None for point in found.points)


DOUBTS = [
    ("a doubt that passes", "UPDATE guests SET fingerprint_state = 'stale', doubt = 'power',"
     " doubted_at = clock_timestamp()", True),
    ("not verified any more", "UPDATE vps SET link_state = 'unverified'", False),
    ("another machine is listed there", "UPDATE guests SET fingerprint = 'smbios:b'", False),
    ("two machines are alike", "UPDATE guests SET moving_since = clock_timestamp()", False),
    ("linked anew", "UPDATE vps SET link_changed_at = clock_timestamp()", False),
]  # fmt: skip


@pytest.mark.parametrize(("change", "stays"), [case[1:] for case in DOUBTS], ids=[case[0] for case in DOUBTS])
async def test_what_was_kept_is_shown_only_while_nothing_lasting_stands_against_it(
    anna: httpx.AsyncClient, workers: Workers, engine: Engine, change: str, *, stays: bool
) -> None:
    await anna.get(PATH)
    workers.work()
    spoil(engine, change)
    assert bool(seen(await anna.get(PATH)).points) is stays


async def test_another_machine_at_the_address(anna: httpx.AsyncClient, workers: Workers) -> None:
    await anna.get(PATH)
    workers.cluster.answer = AnotherMachine()
    workers.work()
    found = seen(await anna.get(PATH))
    assert (found.code, found.points) == ("another_machine", [])


async def test_the_next_owner_starts_with_nothing(
    anna: httpx.AsyncClient, boris: httpx.AsyncClient, workers: Workers, engine: Engine
) -> None:
    await anna.get(PATH)
    workers.work()
    assert seen(await anna.get(PATH)).points
    spoil(engine, "UPDATE vps SET user_id = 6, owner_changed_at = clock_timestamp()")
    assert problem(await anna.get(PATH)) == (404, "vps_unknown")
    assert seen(await boris.get(PATH)).points == []
    assert workers.work() == 1
    found = seen(await boris.get(PATH))
    assert (found.code, found.points) == ("no_measurements", []), "what was measured was the owner's before"


async def test_too_many_reads_in_a_minute(anna: httpx.AsyncClient, engine: Engine) -> None:
    spoil(
        engine,
        "INSERT INTO vps_statistics (vps_id, user_id, timeframe, cluster, node)"
        " SELECT n, 5, 'hour', 'main', 'pve1' FROM generate_series(101, 130) n",
    )
    answer = await anna.get(PATH)
    assert problem(answer) == (429, "too_many_statistics")
    assert 0 < int(answer.headers["Retry-After"]) <= 61
    older(engine)
    assert seen(await anna.get(PATH)).code == "being_read"
    spoil(engine, "UPDATE vps_statistics SET asked_at = clock_timestamp()")
    assert seen(await anna.get(PATH)).code == "being_read", "to look again at what is being read causes no read"


async def test_too_many_reads_leave_what_is_kept(anna: httpx.AsyncClient, workers: Workers, engine: Engine) -> None:
    await anna.get(PATH)
    workers.work()
    older(engine)
    spoil(
        engine,
        "INSERT INTO vps_statistics (vps_id, user_id, timeframe, cluster, node)"
        " SELECT n, 5, 'hour', 'main', 'pve1' FROM generate_series(101, 130) n",
    )
    found = seen(await anna.get(PATH))
    assert (found.code, found.stale, len(found.points)) == ("too_many_statistics", True, 60)
    assert found.reason
    assert workers.waiting() == [], "nothing more is read"
    assert problem(await anna.get(PATH, params={"timeframe": "week"})) == (429, "too_many_statistics")


async def away(*_: Any) -> None:
    raise DatabaseAwayError("away")


async def too_late(_: float, work: Coroutine[Any, Any, Any]) -> None:
    work.close()
    raise TimeoutError


@pytest.mark.parametrize(
    ("where", "name", "instead"),
    [
        pytest.param(statistics_requests, "in_transaction", away, id="the database takes no writes"),
        pytest.param(transactions, "within", too_late, id="it takes one, but not in time"),
    ],
)
async def test_while_nothing_can_be_asked_for_what_is_kept_is_shown(
    anna: httpx.AsyncClient,
    workers: Workers,
    engine: Engine,
    monkeypatch: pytest.MonkeyPatch,
    where: ModuleType,
    name: str,
    instead: Callable[..., Any],
) -> None:
    await anna.get(PATH)
    workers.work()
    older(engine)
    monkeypatch.setattr(where, name, instead)
    found = seen(await anna.get(PATH))
    assert (found.code, found.stale, len(found.points)) == ("not_read", True, 60)


async def test_what_the_worker_refused_is_told_in_its_own_words(
    anna: httpx.AsyncClient, workers: Workers, engine: Engine
) -> None:
    """It refused what was over when the customer looked again."""
    await anna.get(PATH)
    spoil(engine, "UPDATE vps SET order_state = 'suspended'")
    workers.work()
    spoil(engine, "UPDATE vps SET order_state = 'active'")
    found = seen(await anna.get(PATH))
    assert (found.code, found.reason) == ("vps_suspended", statistics_requests.REASONS["vps_suspended"])
    spoil(engine, "UPDATE vps_statistics SET problem = 'vps_changing'")
    found = seen(await anna.get(PATH))
    assert (found.code, found.reason) == ("vps_changing", "This VPS is being changed; ask again in a moment")
