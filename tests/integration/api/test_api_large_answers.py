"""Large answers to operators keep nobody waiting, each has a bound, and a filter finds what is behind that bound."""

from __future__ import annotations

import threading
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine

from api.operators import operator_models, transactions
from tests.integration.api.conftest import Worker
from tests.integration.api.test_api_operators import READS, answered, hold, raise_findings
from tests.integration.api.test_api_sync import create, update


async def test_they_are_made_beside_the_event_loop(
    operator: httpx.AsyncClient, site: httpx.AsyncClient, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = hold(engine, 1, 2)
    raise_findings(engine)
    assert (await site.post("/api/vps/sync", json=create())).json()["vps"]["id"] == 1
    loop, made_in, real = threading.get_ident(), list[int](), transactions._encoded

    def encoded(read: Any, shown: Any) -> bytes:
        made_in.append(threading.get_ident())
        return real(read, shown)

    monkeypatch.setattr(transactions, "_encoded", encoded)
    for path in READS:
        assert (await operator.get(f"/api/ops{path}")).is_success, path
    await answered(operator, f"/held/{held.hash}/approve", operator_models.DecisionAnswer, {})
    assert len(made_in) == len(READS) + 1
    assert loop not in made_in


async def test_a_long_history_comes_in_pages(
    operator: httpx.AsyncClient, site: httpx.AsyncClient, worker: Worker
) -> None:
    made = (await site.post("/api/vps/sync", json=create())).json()
    vps_id, ids = made["vps"]["id"], [made["operation"]["id"]]
    for status in ("running", "stopped", "running"):
        answer = await site.post("/api/vps/sync", json=update(vps_id, status))
        ids.append(answer.json()["operation"]["id"])
    worker.apply(*ids)
    for asked, shown, older in (("", ids, 0), ("?limit=2", ids[2:], 2), ("?limit=2&offset=2", ids[:2], 0),
                                ("?offset=4", [], 0), ("?limit=1&offset=2", ids[1:2], 1)):  # fmt: skip
        data = await answered(operator, f"/vps/{vps_id}/history{asked}", operator_models.HistoryAnswer)
        assert ([entry["id"] for entry in data["entries"]], data["older"]) == (shown, older), asked
    assert (await operator.get(f"/api/ops/vps/{vps_id}/history?limit=1001")).status_code == 422
