"""The Python client without a panel: what it retries, how long, and how it cuts a batch into requests."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import pytest

from clients.python import panel_sync_client
from clients.python.panel_sync_client import (
    MAX_BYTES,
    MAX_ITEMS,
    BadAnswerError,
    InvalidCallError,
    InvalidKeyError,
    Item,
    NewVps,
    NotAppliedError,
    NotFoundError,
    PanelClient,
    PanelError,
    UnavailableError,
    _reply,
)
from tests.support.keys import random_key

VPS: NewVps = {"user_id": 5, "name": "web-01", "cpu": 4, "ram": 8192, "disk": 100, "os": "Debian 13"}
ANSWER = {"status": "success", "message": "m", "vps": {"id": 1}, "operation": {"id": 1}}
Reply = tuple[int, dict[str, str], Any]


@dataclass
class Attempts:
    """Stands in for the network and the clock: gives ``replies``, then the last of them again."""

    replies: list[Reply]
    asked: list[tuple[dict[str, str], Any]] = field(default_factory=list)
    slept: list[float] = field(default_factory=list)
    now: float = 0.0

    def attempt(self, _method: str, _path: str, body: bytes | None, headers: dict[str, str], _wait: float) -> object:
        given = None if body is None else json.loads(body)
        self.asked.append((headers, given))
        status, answered, content = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        if status == 0:
            return panel_sync_client._Reply(0, {"code": "network", "message": "no answer"}, unknown=True)
        if callable(content):
            content = content(given)
        return _reply(status, answered.get("Retry-After", ""), json.dumps(content).encode())

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def attempts(monkeypatch: pytest.MonkeyPatch) -> Attempts:
    made = Attempts([(202, {}, ANSWER)])
    monkeypatch.setattr(PanelClient, "_attempt", made.attempt)
    monkeypatch.setattr(panel_sync_client, "time", made)
    return made


@pytest.fixture
def panel() -> PanelClient:
    return PanelClient("https://panel.example/under", random_key())


def problem(code: str, **more: Any) -> dict[str, Any]:
    return {"code": code, "message": f"it is {code}", "request_id": "r-1", **more}


IN_FLIGHT = problem("idempotency_key_in_flight")
LATER: list[tuple[str, Reply]] = [
    ("no answer", (0, {}, None)),
    ("too many bad keys", (429, {}, problem("too_many_bad_keys"))),
    ("a proxy's page", (502, {}, "<h1>")),
    ("database away", (503, {}, problem("database_away"))),
    ("a proxy's timeout", (504, {}, "<h1>")),
    ("the first attempt is still being committed", (409, {}, IN_FLIGHT)),
]


@pytest.mark.parametrize("reply", [row[1] for row in LATER], ids=[row[0] for row in LATER])
def test_what_may_be_well_later_is_tried_again_with_the_same_key(
    attempts: Attempts, panel: PanelClient, reply: Reply
) -> None:
    attempts.replies[:0] = [reply, reply]
    assert panel.create(VPS) == ANSWER
    keys = {headers["Idempotency-Key"] for headers, _ in attempts.asked}
    assert (len(attempts.asked), len(keys)) == (3, 1)
    panel.create(VPS)
    assert attempts.asked[-1][0]["Idempotency-Key"] not in keys, "another intent"


AT_ONCE: list[tuple[int, dict[str, Any], type[PanelError]]] = [
    (400, problem("missing_fields", missing=["vps.os"]), InvalidCallError),
    (401, problem("invalid_api_key"), InvalidKeyError),
    (404, problem("vps_unknown"), NotFoundError),
    (409, problem("operation_dead", operation={"why": "x"}), NotAppliedError),
    (422, problem("invalid_field", field="vps.ram"), InvalidCallError),
    (500, problem("internal_error"), UnavailableError),
    (301, {}, BadAnswerError),
    (200, {}, BadAnswerError),
    (404, {"error": "another service"}, BadAnswerError),
]


@pytest.mark.parametrize(("status", "body", "kind"), AT_ONCE)
def test_what_stays_wrong_is_told_at_once(
    attempts: Attempts, panel: PanelClient, status: int, body: dict[str, Any], kind: type[PanelError]
) -> None:
    attempts.replies = [(status, {}, body)]
    with pytest.raises(PanelError) as raised:
        panel.create(VPS)
    error = raised.value
    assert type(error) is kind
    assert len(attempts.asked) == 1
    assert (error.status, error.field, error.missing) == (status, body.get("field"), body.get("missing", []))
    assert error.operation == body.get("operation")
    if "code" in body:
        assert (error.code, error.message, error.request_id) == (body["code"], body["message"], "r-1")
    assert error.idempotency_key == attempts.asked[0][0]["Idempotency-Key"]


UNKNOWN: list[tuple[str, list[Reply], bool]] = [
    ("refused each time", [(503, {}, problem("database_away"))], False),
    ("the outcome was unknown once", [(503, {}, problem("outcome_unknown")), (503, {}, problem("overloaded"))], True),
    ("an answer was lost once", [(0, {}, None), (503, {}, problem("database_away"))], True),
    ("an answer was lost, then the call is refused", [(0, {}, None), (422, {}, problem("user_unknown"))], False),
]


@pytest.mark.parametrize(("replies", "unknown"), [row[1:] for row in UNKNOWN], ids=[row[0] for row in UNKNOWN])
def test_an_error_says_whether_the_call_may_have_been_accepted(
    attempts: Attempts, panel: PanelClient, replies: list[Reply], *, unknown: bool
) -> None:
    attempts.replies = replies
    with pytest.raises(PanelError) as raised:
        panel.create(VPS)
    assert raised.value.outcome_unknown is unknown


def test_pauses_grow_heed_the_panel_and_end_in_time(attempts: Attempts, panel: PanelClient) -> None:
    attempts.replies = [(503, {"Retry-After": "5"}, problem("database_away"))] * 2 + [(0, {}, None)]
    with pytest.raises(UnavailableError):
        panel.create(VPS)
    assert all(5 <= pause <= 6.25 for pause in attempts.slept[:2])
    own = attempts.slept[2:]
    longest = [min(0.5 * 2**n, 20) for n, _ in enumerate(own, start=2)]
    assert all(most / 2 <= pause <= most for most, pause in zip(longest, own, strict=True))
    assert attempts.now < 60


def test_a_pause_beyond_the_time_for_retries_is_not_begun(attempts: Attempts, panel: PanelClient) -> None:
    attempts.replies = [(503, {"Retry-After": "3600"}, problem("database_away"))]
    with pytest.raises(UnavailableError):
        panel.create(VPS)
    assert attempts.slept == []


def item(name: str = "web-01") -> Item:
    return {"action": "create", "vps": VPS | {"name": name}}


def results(given: dict[str, Any]) -> dict[str, Any]:
    """A panel that takes everything."""
    return {"items": [{"http_status": 202, "message": one["vps"]["name"]} for one in given["items"]]}


def test_a_batch_is_cut_at_the_panels_limits_and_keeps_its_order(attempts: Attempts, panel: PanelClient) -> None:
    attempts.replies = [(200, {}, results)]
    names = [f"web-{n}" for n in range(2 * MAX_ITEMS + 1)]
    assert [result["message"] for result in panel.batch(map(item, names))] == names
    assert [len(body["items"]) for _, body in attempts.asked] == [MAX_ITEMS, MAX_ITEMS, 1]
    keys = {one["idempotency_key"] for _, body in attempts.asked for one in body["items"]}
    assert len(keys) == len(names)

    attempts.asked.clear()
    panel.batch(item("x" * (MAX_BYTES // 3)) for _ in range(5))
    sizes = [len(json.dumps(body, separators=(",", ":"))) for _, body in attempts.asked]
    assert [len(body["items"]) for _, body in attempts.asked] == [2, 2, 1]
    assert max(sizes) <= MAX_BYTES
    assert panel.batch([]) == []


def test_what_a_batch_could_not_take_is_sent_again_and_nothing_else(attempts: Attempts, panel: PanelClient) -> None:
    away = {"http_status": 503, "code": "database_away", "message": "m", "retry_after": 5}
    first = [{"http_status": 202, "message": "a"}, {"http_status": 422, "code": "invalid_field", "message": "b"}]
    attempts.replies = [(200, {}, {"items": [*first, away, away]}), (200, {}, results)]
    told = panel.batch([item("a"), item("b"), item("c"), item("d")])
    assert [result["message"] for result in told] == ["a", "b", "c", "d"]
    again = attempts.asked[1][1]["items"]
    assert [one["vps"]["name"] for one in again] == ["c", "d"]
    assert [one["idempotency_key"] for one in again] == [result["idempotency_key"] for result in told[2:]]
    assert 5 <= attempts.slept[0] <= 6.25


def test_after_items_that_are_never_taken_nothing_is_sent(attempts: Attempts, panel: PanelClient) -> None:
    def all_but_one(given: dict[str, Any]) -> dict[str, Any]:
        return {"items": [{"http_status": 503, "message": "m"} if one["vps"]["name"] == "web-3" else accepted
                          for one in given["items"]]}  # fmt: skip

    accepted = {"http_status": 202, "message": "m"}
    attempts.replies = [(200, {}, all_but_one)]
    told = panel.batch(item(f"web-{n}") for n in range(MAX_ITEMS + 2))
    assert {result["http_status"] for result in told[:3] + told[4:MAX_ITEMS]} == {202}
    assert [result["http_status"] for result in (told[3], *told[MAX_ITEMS:])] == [503] * 3
    assert [result.get("code") for result in told[MAX_ITEMS:]] == ["not_sent"] * 2
    assert {len(body["items"]) for _, body in attempts.asked} == {MAX_ITEMS, 1}, "the second request was never made"


LOST: list[tuple[str, Reply, bool]] = [
    ("the key is wrong", (401, {}, problem("invalid_api_key")), True),
    ("nothing is accepted", (503, {}, problem("database_away")), True),
    ("all answers are lost", (0, {}, None), False),
]


@pytest.mark.parametrize(("reply", "raises"), [row[1:] for row in LOST], ids=[row[0] for row in LOST])
def test_a_batch_raises_only_if_nothing_can_have_been_accepted(
    attempts: Attempts, panel: PanelClient, reply: Reply, *, raises: bool
) -> None:
    attempts.replies = [reply]
    if raises:
        with pytest.raises(PanelError):
            panel.batch([item()])
    else:
        (told,) = panel.batch([item()])
        assert (told["http_status"], told["code"]) == (503, "outcome_unknown")
        assert told["idempotency_key"] == attempts.asked[0][1]["items"][0]["idempotency_key"]


UNTAKEN = {"http_status": 503, "code": "not_tried", "message": "m"}
AGAIN: list[tuple[str, list[Reply], str]] = [
    ("its answer is lost", [(0, {}, None)], "outcome_unknown"),
    ("its answer is lost, then the database is away", [(0, {}, None), (503, {}, problem("database_away"))],
     "outcome_unknown"),
    ("it is not accepted", [(503, {}, problem("database_away"))], "not_tried"),
]  # fmt: skip


@pytest.mark.parametrize(("second", "code"), [row[1:] for row in AGAIN], ids=[row[0] for row in AGAIN])
def test_items_whose_second_request_may_be_accepted_are_unknown(
    attempts: Attempts, panel: PanelClient, second: list[Reply], code: str
) -> None:
    attempts.replies = [(200, {}, {"items": [{"http_status": 202, "message": "a"}, UNTAKEN]}), *second]
    told = panel.batch([item(), item()])
    assert [result.get("code") for result in told] == [None, code]


def test_an_error_in_a_later_request_loses_no_result(attempts: Attempts, panel: PanelClient) -> None:
    attempts.replies = [(200, {}, results), (401, {}, problem("invalid_api_key"))]
    told = panel.batch(item() for _ in range(MAX_ITEMS + 1))
    assert [result["http_status"] for result in told] == [202] * MAX_ITEMS + [401]


@pytest.mark.parametrize(
    "url", ["panel.example", "ftp://panel.example", "https://", "https://k:v@panel", "http://p/?k"]
)
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="url must be"):
        PanelClient(url, random_key())


@pytest.mark.parametrize("end", ["\n", " ", "ключ"])
def test_a_key_that_no_header_can_hold_is_refused_without_telling_it(end: str) -> None:
    key = random_key() + end
    with pytest.raises(ValueError, match="api_key must be") as raised:
        PanelClient("https://panel.example", key)
    assert key.strip() not in str(raised.value)


def test_what_json_cannot_say_is_refused_before_anything_is_sent(attempts: Attempts, panel: PanelClient) -> None:
    broken = item()
    broken["vps"] = VPS | {"ram": float("nan")}  # type: ignore[typeddict-item]
    with pytest.raises(ValueError, match="not JSON compliant"):
        panel.batch([*(item() for _ in range(MAX_ITEMS)), broken])
    assert attempts.asked == []
