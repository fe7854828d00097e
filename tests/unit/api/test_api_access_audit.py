"""Counting uses in memory: what is told apart, and that a flood cannot make it grow."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from api import access_audit
from api.access_audit import HOUR_S, AccessAudit
from panel.operators.audit import Use


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def audit(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> AccessAudit:
    monkeypatch.setattr(access_audit, "USES_AN_HOUR", 10)
    nowhere: AsyncEngine = create_async_engine("postgresql+psycopg://127.0.0.1:1/none")  # never connected
    return AccessAudit(nowhere, clock)


def request(who: str | None, address: str = "192.0.2.1", method: str = "GET") -> dict[str, Any]:
    return {"caller": who, "method": method, "client": (address, 1), "request_id": "r", "problem_code": "c"}


def test_uses_are_counted_with_the_last_request(audit: AccessAudit) -> None:
    audit.note(request("api:ann"), 200)
    audit.note(request("api:ann") | {"request_id": "newer"}, 200)
    assert audit._pending == {Use("api:ann", "192.0.2.1", "GET ?", 200, "c"): (2, "newer")}


@pytest.mark.parametrize(
    ("who", "status"), [(None, 401), ("client:5", 200), ("client:5", 304)], ids=["nobody asked", "read", "unchanged"]
)
def test_what_is_not_counted(audit: AccessAudit, who: str | None, status: int) -> None:
    audit.note(request(who), status)
    assert audit._pending == {}


def test_a_made_up_method_is_no_name(audit: AccessAudit) -> None:
    audit.note(request("no-key", method="X" * 1000), 405)
    assert [use.route for use in audit._pending] == ["OTHER ?"]


def test_a_flood_of_many_is_one_of_each_kind(audit: AccessAudit, clock: Clock) -> None:
    for n in range(1000):
        address = f"10.0.{n // 256}.{n % 256}"
        audit.note(request(f"key:{n:012x}", address), 401)
        audit.note(request(f"client:{n}", address), 404)
        audit.note(request("main-site:current", address), 202)
    assert len(audit._told_apart) == 10
    assert len(audit._pending) == 10 + 3
    many = {use.who: count for use, (count, _) in audit._pending.items() if use.network == "*"}
    assert set(many) == {"key:*", "client:*", "main-site:current"}
    assert sum(count for count, _ in audit._pending.values()) == 3000, "every one is counted"
    clock.now += HOUR_S
    audit.note(request("key:new", "192.0.2.9"), 401)
    assert Use("key:new", "192.0.2.9", "GET ?", 401, "c") in audit._pending, "a new hour tells apart again"
