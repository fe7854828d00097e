"""How fresh a client's record is, and the cursor."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.client.record_view import client_view, cursor_after, id_before
from api.http.problems import ProblemError

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def ago(minutes: float) -> datetime:
    return NOW - timedelta(minutes=minutes)


def row(**changes: object) -> dict[str, Any]:
    return {
        "id": 7, "user_id": 5, "name": "web", "status": "running", "cpu": 1, "ram_mb": 1024, "disk_gb": 10,
        "os": "Debian", "hypervisor": "proxmox", "ip_address": None, "ip6_address": None,
        "order_id": None, "order_state": "active",
        "power_state": "running",
        "power_detail": None, "power_source": "sync", "power_as_of": ago(60), "power_unconfirmed_since": None,
        "link_state": "verified", "scope_began_at": ago(1), "read_at": NOW, "created_at": ago(90),
        "updated_at": ago(60),
    } | changes  # fmt: skip


CASES: list[tuple[str, dict[str, Any], datetime, str, bool]] = [
    ("its node was read a minute ago: confirmed then, by Proxmox", {}, ago(1), "proxmox", False),
    ("a pushed link is confirmed the same way", {"link_state": "pushed"}, ago(1), "proxmox", False),
    ("its node was read before the last push", {"scope_began_at": ago(70)}, ago(60), "sync", True),
    ("its node was read too long ago", {"scope_began_at": ago(11)}, ago(11), "proxmox", True),
    ("exactly ten minutes is not too long", {"scope_began_at": ago(10)}, ago(10), "proxmox", False),
    ("its node was never read", {"scope_began_at": None}, ago(60), "sync", True),
    ("the guest does not bear it out", {"power_unconfirmed_since": ago(2)}, ago(60), "sync", True),
    ("lately pushed, not borne out", {"power_unconfirmed_since": ago(2), "power_as_of": ago(3)}, ago(3), "sync", False),
    ("never linked: nobody is late", {"link_state": "unlinked", "scope_began_at": None}, ago(60), "sync", False),
    ("its link is disputed: no guest speaks for it", {"link_state": "conflict"}, ago(60), "sync", False),
]


@pytest.mark.parametrize(("changes", "as_of", "source", "stale"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_freshness(changes: dict[str, Any], as_of: datetime, source: str, *, stale: bool) -> None:
    seen = client_view(row(**changes))
    assert (seen["as_of"], seen["source"], seen["stale"]) == (as_of.isoformat(), source, stale)


def test_the_fields_of_a_clients_record() -> None:
    assert list(client_view(row())) == [
        "id", "user_id", "name", "status", "cpu", "ram", "disk", "os", "hypervisor", "ip_address", "ip6_address",
        "order_id", "order_state", "power_state", "created_at", "updated_at", "power_detail", "as_of", "source",
        "stale",
    ]  # fmt: skip


@given(st.integers(1, 2**63 - 1))
def test_a_cursor_leads_back(vps_id: int) -> None:
    assert id_before(cursor_after(vps_id)) == vps_id


@pytest.mark.parametrize(
    "cursor",
    ["", "7", "v1-", "v1-0", "v1-07", "v1-7\n", "v1-٣", "v2-7", "ключ", "v1-12345678901234567890"],
)
def test_a_made_up_cursor_is_refused(cursor: str) -> None:
    with pytest.raises(ProblemError) as refused:
        id_before(cursor)
    assert (refused.value.status_code, refused.value.extra) == (422, {"field": "cursor"})


@given(st.text(max_size=40))
def test_any_text_is_a_cursor_or_refused(text: str) -> None:
    try:
        found = id_before(text)
    except ProblemError:
        return
    assert 1 <= found < 2**63
