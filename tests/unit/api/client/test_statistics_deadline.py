"""Whatever the statistics ask the database comes out of the time that the whole answer has."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from types import SimpleNamespace
from typing import Any, cast

import pytest

from api.client import statistics_requests
from api.dependencies import Edge
from domain.statistics.measurements import Timeframe
from panel.deadlines import Deadlines
from panel.settings import Settings
from panel.statistics.requests import Kept, Wanted

SPENT_S = 1.0
READ_S = Deadlines().read_s


class Counted:
    """An edge that notes how long each piece of work may take."""

    def __init__(self) -> None:
        self.settings, self.deadlines = Settings(_env_file=None), Deadlines()
        self.reader = self.clients = None
        self.may_take_s: list[float] = []

    async def read(self, work: Coroutine[Any, Any, Any], began: float | None = None) -> Any:
        self.note(None if began is None else self.deadlines.left_to_read_s(time.perf_counter() - began))
        return await work

    async def in_transaction(self, _: Edge, __: Any, within_s: float | None = None) -> None:
        self.note(within_s)

    def note(self, within_s: float | None) -> None:
        self.may_take_s.append(READ_S if within_s is None else within_s)


def test_a_page_asks_for_newer_ones_within_its_own_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    async def record(*_: Any) -> dict[str, Any]:
        return {"hypervisor": "proxmox", "link_state": "verified", "cpu": 2, "power_state": "running"}

    async def target(*_: Any) -> Any:
        return SimpleNamespace(cluster="main", node="pve1")

    async def nothing(*_: Any) -> Kept:
        return Kept()

    edge = Counted()
    for name, instead in (("client_record", record), ("machine_now", target), ("kept_statistics", nothing)):
        monkeypatch.setattr(statistics_requests, name, instead)
    monkeypatch.setattr(statistics_requests, "in_transaction", edge.in_transaction)
    wanted, began = Wanted(1, 5, Timeframe.HOUR), time.perf_counter() - SPENT_S
    found = asyncio.run(statistics_requests.statistics_of(cast("Edge", edge), wanted, began))
    assert found.code == "being_read"
    assert len(edge.may_take_s) == 5, "the record, the machine, what is kept, the question, what is kept then"
    assert max(edge.may_take_s) <= READ_S - SPENT_S
