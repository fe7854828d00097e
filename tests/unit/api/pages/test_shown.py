"""What a page says of a VPS and of its changes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from api.pages.shown_activity import Changed, happened, shown_change
from api.pages.shown_vps import shown

NOW = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)
ROW: dict[str, Any] = {
    "id": 7, "user_id": 5, "name": "web", "status": "running", "cpu": 2, "ram_mb": 2048, "disk_gb": 40, "os": "Debian",
    "hypervisor": "proxmox", "ip_address": None, "ip6_address": None, "order_id": "1", "order_state": "active",
    "order_source": "orders", "order_as_of": NOW, "power_state": "running", "power_detail": None,
    "power_source": "proxmox", "power_as_of": NOW, "power_unconfirmed_since": NOW, "link_state": "verified",
    "created_at": NOW, "updated_at": NOW, "as_of": NOW, "source": "proxmox", "stale": False, "read_at": NOW,
}  # fmt: skip
OLD = {"as_of": NOW - timedelta(minutes=11), "stale": True}


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        pytest.param({}, "running", id="just confirmed"),
        pytest.param(OLD, "unknown", id="not confirmed for long"),
        pytest.param(OLD | {"status": "stopped", "power_state": "stopped"}, "unknown", id="stopped, of long ago"),
        pytest.param(OLD | {"status": "suspended", "order_state": "suspended"}, "suspended", id="the order says it"),
        pytest.param(OLD | {"status": "creating", "order_state": "pending"}, "creating", id="the order is pending"),
        pytest.param(OLD | {"status": "creating", "power_state": "unknown"}, "unknown", id="never seen"),
        pytest.param(OLD | {"status": "error"}, "error", id="the machine is proven gone"),
        pytest.param(OLD | {"status": "error", "power_state": "error"}, "unknown", id="an error of long ago"),
        pytest.param({"link_state": "unlinked"}, "running", id="nothing could ever confirm it again"),
    ],
)
def test_a_state_that_nothing_confirms_is_not_shown(changes: dict[str, Any], state: str) -> None:
    assert shown(ROW | changes).state == state


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        pytest.param({}, "paused", id="no run writes what is seen"),
        pytest.param(OLD, "paused", id="nor later"),
        pytest.param({"status": "suspended", "order_state": "suspended"}, "suspended", id="the order says it"),
        pytest.param({"link_state": "unlinked"}, "running", id="nobody ever looked at it"),
    ],
)
def test_a_state_during_maintenance(changes: dict[str, Any], state: str) -> None:
    assert shown(ROW | changes, paused=True).state == state


CHANGE: dict[str, Any] = {
    "kind": "repair", "action": "update", "source": "proxmox", "applied_at": NOW, "became_theirs": False,
    "before": {"status": "running", "cpu": 1}, "after": {"cpu": 2, "status": "stopped"},
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "what", "why"),
    [
        pytest.param({}, "changed", "server", id="seen on Proxmox"),
        pytest.param({"source": "orders"}, "changed", "order", id="by the order"),
        pytest.param({"source": "panel-api"}, "changed", "order", id="by the order of another feed"),
        pytest.param({"kind": "sync", "source": "sync"}, "changed", "site", id="by a call"),
        pytest.param({"kind": "sync", "action": "create", "source": "sync"}, "created", "site", id="created"),
        pytest.param({"kind": "operator", "action": "restore", "source": "operator"}, "restored", "staff", id="back"),
        pytest.param({"source": "orders", "became_theirs": True}, "became-theirs", "order", id="sold on"),
    ],
)
def test_what_happened_and_why(changes: dict[str, Any], what: str, why: str) -> None:
    change = shown_change(CHANGE | changes)
    assert (change.what, change.why) == (what, why)


ACTION: dict[str, Any] = {
    "action": "stop", "force": False, "state": "done", "step": 0, "code": "done", "reason": "so", "asked_at": NOW,
    "ended_at": NOW + timedelta(seconds=6),
}  # fmt: skip


def test_actions_and_changes_are_one_list() -> None:
    def later(seconds: int) -> datetime:
        return NOW + timedelta(seconds=seconds)

    changes = [CHANGE | {"applied_at": later(8)}, CHANGE | {"applied_at": later(-60)}]
    actions = [ACTION | {"asked_at": later(20), "ended_at": None, "state": "queued", "code": None}, ACTION]
    told = happened(changes, actions, 30)
    assert [(one.what, one.why) for one in told] == [("changed", "server"), ("asked", "you"), ("changed", "server")]
    assert told[1].asked is not None
    assert (told[1].asked.wish, told[1].asked.state) == ("stop", "done")
    assert happened(changes, actions, 2) == told[:2], "the newest ones"


def test_what_changed() -> None:
    assert shown_change(CHANGE).changed == (Changed("status", "running", "stopped"), Changed("cpu", 1, 2))
    theirs = shown_change(CHANGE | {"became_theirs": True, "before": None})
    assert theirs.changed == (Changed("status", None, "stopped"),), "the plan was the former owner's, too"
