"""What a customer switched stands in the history of the VPS, on the page and in the API: once, and in its place."""

from __future__ import annotations

import re

import httpx
import pytest
from sqlalchemy import Engine

from api.operator_pages import one_vps_routes
from tests.integration.api.operator_pages.conftest import Keys
from tests.support.fleets.switchable import make_switchable, spoil

JOURNAL = """
INSERT INTO operations (kind, action, vps_id, seq, source, payload, state, reason, evidence, before, after,
  accepted_at, applied_at)
SELECT 'operator', 'update', 1, n, 'operator', '{}', 'applied', 'change ' || n, 'null', '{}', '{}', t, t
FROM generate_series(1, 3) n, LATERAL (SELECT timestamptz '2026-11-30 12:00Z' + n * interval '1 hour') m (t)
"""
ASKED = """
INSERT INTO power_actions (vps_id, user_id, action, force, request_id, cluster, vmid, guest_type, fingerprint, state,
  valid_until, code, reason, asked_at, ended_at)
SELECT 1, 5, 'stop', force, 'asked-' || state, 'main', 100, 'qemu', 'f', state, t, 'c', 'Because <so>', t,
  t + interval '6 seconds'
FROM (VALUES (false, 'done', timestamptz '2026-11-30 12:30:05Z'), (true, 'failed', timestamptz '2026-11-30 14:30:05Z'),
  (true, 'refused', timestamptz '2026-11-30 16:30:05Z')) a (force, state, t)
"""


async def history(olga: httpx.AsyncClient, number: int = 1) -> str:
    """What a page says of it, without markup."""
    page = await olga.get(f"/ops/vps/1?page={number}")
    assert page.status_code == 200
    told = page.text.partition("History, the latest change first")[2].partition("</article>")[0]
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", "", told)).strip()


async def test_what_the_customer_switched(
    olga: httpx.AsyncClient, keys: Keys, engine: Engine, owner: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_switchable(engine)
    spoil(owner, "UPDATE users SET username = 'anna' WHERE id = 5")
    spoil(owner, JOURNAL)
    assert "power action" not in await history(olga)
    said = "Meanwhile the customer has no power buttons and no graphs of it."
    assert said in (await olga.get("/ops/vps/1")).text, "who pauses reads what it takes"
    assert said.replace("customer has", "customers of what is paused have") in (await olga.get("/ops/pauses")).text
    spoil(owner, ASKED)
    told = await history(olga)
    parts = ["request asked-refused", "change 3", "request asked-failed", "change 2", "change 1", "request asked-done"]
    assert sorted(parts, key=told.index) == parts, told
    assert re.search(
        r"user 5 \(anna\) asked: Cut the power, 14:30:05; not done 14:30:11 failed power action \d+,"
        r" request asked-failed Why: Because &lt;so&gt;",
        told,
    ), told
    assert re.search(r"asked: Shut down, 12:30:05; done 12:30:11 power action \d+, request asked-done$", told), told
    monkeypatch.setattr(one_vps_routes, "CHANGES", 1)
    pages = [re.findall(r"request asked-(\w+)|(change \d)", await history(olga, number)) for number in (1, 2, 3)]
    assert [[asked or change for asked, change in page] for page in pages] == [
        ["refused", "change 3"], ["failed", "change 2"], ["change 1", "done"],
    ], "each once"  # fmt: skip
    for offset, expected in enumerate((["refused"], ["failed"], ["done"], [])):
        path = f"/api/ops/vps/1/history?limit=1&offset={offset}"
        answer = await olga.get(path, headers={"X-API-Key": keys.olga})
        assert [one["state"] for one in answer.json()["data"]["power"]] == expected, offset
