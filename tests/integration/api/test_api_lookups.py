"""Operations and records, as the main site looks them up."""

from __future__ import annotations

import httpx
import pytest

from api import openapi
from tests.integration.api.conftest import Worker
from tests.integration.api.test_api_sync import create, delete, update


async def _records(site: httpx.AsyncClient, **query: str | int) -> list[tuple[int, str]]:
    answer = await site.get("/api/vps/sync/records", params=query)
    assert answer.status_code == 200, answer.text
    openapi.RecordsAnswer.model_validate_json(answer.content)
    return [(record["id"], record["status"]) for record in answer.json()["data"]]


async def test_an_operation_is_followed_to_its_end(site: httpx.AsyncClient, worker: Worker) -> None:
    posted = (await site.post("/api/vps/sync", json=create())).json()
    url, operation_id = posted["operation"]["url"], posted["operation"]["id"]
    queued = await site.get(url)
    openapi.OperationAnswer.model_validate_json(queued.content)
    assert queued.json()["operation"] | {"accepted_at": ""} == {
        "id": operation_id, "state": "queued", "url": url, "action": "create", "vps_id": posted["vps"]["id"],
        "attempts": 0, "result": None, "why": None, "accepted_at": "", "applied_at": None,
    }  # fmt: skip
    assert queued.json()["vps"] is None
    worker.apply(operation_id)
    applied = await site.get(url)
    openapi.OperationAnswer.model_validate_json(applied.content)
    assert (applied.json()["operation"]["state"], applied.json()["operation"]["result"]) == (
        "applied",
        "created creating",
    )
    assert applied.json()["vps"] == posted["vps"]


async def test_an_unknown_operation_is_404(site: httpx.AsyncClient) -> None:
    answer = await site.get("/api/vps/sync/operations/1")
    assert (answer.status_code, answer.json()["code"]) == (404, "operation_unknown")


async def test_a_record_is_found_by_its_order_before_and_after_it_is_written(
    site: httpx.AsyncClient, worker: Worker
) -> None:
    posted = (await site.post("/api/vps/sync", json=create(order_id=12))).json()
    vps_id = posted["vps"]["id"]
    await site.post("/api/vps/sync", json=update(vps_id))
    assert await _records(site, order_id=12) == [(vps_id, "running")]
    worker.apply(1)
    assert await _records(site, order_id=12) == [(vps_id, "running")], "the queued update counts as well"
    worker.apply(2)
    assert await _records(site, order_id=12) == [(vps_id, "running")]
    await site.post("/api/vps/sync", json=delete(vps_id))
    assert await _records(site, order_id=12) == []
    assert await _records(site, order_id="012") == []


async def test_records_of_one_name_are_found_newest_first(site: httpx.AsyncClient, worker: Worker) -> None:
    ids = [(await site.post("/api/vps/sync", json=create(name="anna-mail"))).json()["vps"]["id"] for _ in range(2)]
    await site.post("/api/vps/sync", json=create(name="anna-mail", user_id=6))
    await site.post("/api/vps/sync", json=create(name="other"))
    worker.apply(1)
    assert await _records(site, user_id=5, name="anna-mail") == [(ids[1], "creating"), (ids[0], "creating")]


QUERIES = [
    ("", 400, "missing_parameters"),
    ("user_id=5", 400, "missing_parameters"),
    ("name=x", 400, "missing_parameters"),
    ("order_id=1&name=x", 400, "missing_parameters"),
    ("user_id=anna&name=x", 422, "invalid_parameter"),
    ("user_id=9223372036854775808&name=x", 422, "invalid_parameter"),
    ("order_id=", 422, "invalid_parameter"),
    ("order_id=%00", 422, "invalid_parameter"),
    ("user_id=5&name=a%00b", 422, "invalid_parameter"),
    ("order_id=%ff", 200, None),
]


async def test_what_can_be_asked(site: httpx.AsyncClient, subtests: pytest.Subtests) -> None:
    for query, status_code, code in QUERIES:
        with subtests.test(query):
            answer = await site.get(f"/api/vps/sync/records?{query}")
            assert (answer.status_code, answer.json().get("code")) == (status_code, code)
