"""Large answers to operators keep nobody waiting, each has a bound, and a filter finds what is behind that bound."""

from __future__ import annotations

import threading
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine, insert

from api.operators import held_models, operator_models, transactions
from panel.schema import tables
from tests.integration.api.conftest import Worker
from tests.integration.api.test_api_operators import READS, answered, hold, raise_findings
from tests.integration.api.test_api_sync import create, update
from tests.integration.panel.conftest import begin_run


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
    await answered(operator, f"/held/{held.hash}/approve", held_models.DecisionAnswer, {})
    files = [path for path in READS if path.endswith(".csv")]  # made by 200 rows at a time instead
    assert len(made_in) == len(READS) - len(files) + 1
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


async def test_a_filter_finds_what_is_behind_the_limit(
    operator: httpx.AsyncClient, site: httpx.AsyncClient, worker: Worker, engine: Engine
) -> None:
    made = (await site.post("/api/vps/sync", json=create(user_id=6))).json()
    worker.apply(made["operation"]["id"])
    theirs = made["vps"]["id"]
    run_id = begin_run(engine)
    shape: dict[str, Any] = {"reason": "", "hash": "0" * 64, "guest": None, "values": None, "action": "delete"}
    sold: dict[str, Any] = {"user_id": 6, "cluster": "third"}
    asked: list[dict[str, Any]] = [
        {"kind": "orphan", "subject": f"vps:{theirs}"},
        {"kind": "missed-create", "subject": "order:77", "action": "create", "guest": "other/5", "values": sold},
        *({"kind": "missed-delete", "subject": f"vps:{n}", "guest": f"main/{n}"} for n in range(1000, 1101)),
    ]
    rows = [
        {
            "plan_hash": f"{n:064}",
            "scope": f"by-approval:{n}",
            "reason": "asked",
            "items": [shape | item],
            "run_id": run_id,
        }
        for n, item in enumerate(asked)
    ]
    with engine.begin() as connection:
        connection.execute(insert(tables.holds), rows)

    async def found(query: str) -> list[str]:
        answer = await operator.get(f"/api/ops/held?{query}")
        return sorted(item["subject"] for held_set in answer.json()["data"] for item in held_set["items"])

    record, order = f"vps:{theirs}", "order:77"
    for every in ("", "&all=true"):
        assert await found(f"user=6{every}") == [order, record]
        assert await found(f"class=orphan{every}") == [record]
        assert await found(f"cluster=other{every}") == await found(f"cluster=third{every}") == [order]
        assert await found(f"user=6&class=orphan{every}") == [record]
        assert await found(f"user=6&cluster=nowhere{every}") == await found(f"user=5{every}") == []
        assert await found(f"user=6&limit=1&offset=1{every}") == [record]
        assert len(await found(f"cluster=main{every}")) == 100
