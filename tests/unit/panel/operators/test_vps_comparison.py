"""What counts as a difference between an order, a record and a guest."""

from __future__ import annotations

from typing import Any

import pytest

from domain.record_columns import COLUMNS
from panel.operators.pages.comparison import compare

RECORD: dict[str, Any] = {column.name: None for column in COLUMNS} | {
    "id": 7, "user_id": 5, "name": "web", "order_id": "o7", "order_state": "active", "cpu": 2, "ram_mb": 2048,
    "disk_gb": 10, "os": "debian-12", "ip_address": "192.0.2.7", "power_state": "running", "cluster": "main",
    "vmid": 104, "node": "pve1", "guest_type": "qemu", "fingerprint": "smbios:a", "link_state": "verified",
}  # fmt: skip
ORDER: dict[str, Any] = {
    "order_id": "o7", "state": "active", "owner": "m5", "name": "web", "cpu": 2, "ram_mb": 2048, "disk_gb": 10,
    "os": "debian-12", "ip_address": None, "cluster": "main", "vmid": 104, "node": "pve1",
}  # fmt: skip
GUEST: dict[str, Any] = {
    "cluster": "main", "vmid": 104, "node": "pve1", "guest_type": "qemu", "fingerprint": "smbios:a",
    "power": "running", "name": "another",
}  # fmt: skip
CONFIG: dict[str, Any] = {"cores": 2.0, "memory_mb": 2048, "disk_gb": 10}


def differing(
    record: dict[str, Any], order: dict[str, Any], guest: dict[str, Any], config: dict[str, Any], **kept: Any
) -> list[tuple[str, bool, bool]]:
    lines = compare(record, order, guest, config, kept.get("owner", 5), names=kept.get("names", True))
    return [(line.name, line.order_differs, line.guest_differs) for line in lines if line.differs]


@pytest.mark.parametrize(
    ("order", "guest", "config", "expected"),
    [
        pytest.param({}, {}, {}, [], id="all agree, and what a side does not say is no difference"),
        pytest.param({"state": "suspended"}, {}, {}, [("state", True, False)], id="suspended"),
        pytest.param({"state": "unknown"}, {}, {}, [], id="a status that is no word of the contract"),
        pytest.param({"name": "web-2", "ip_address": "192.0.2.8"}, {}, {},
                     [("name", True, False), ("ip_address", True, False)], id="plan"),
        pytest.param({}, {}, {"cores": 4.0, "disk_gb": None}, [("cpu", False, True)], id="resized behind the order"),
        pytest.param({"cpu": 4}, {}, {"cores": 4.0}, [("cpu", True, True)], id="the record is behind both"),
        pytest.param({}, {"power": "stopped"}, {}, [("power_state", False, True)], id="turned off"),
        pytest.param({}, {"power": "unknown"}, {}, [], id="a node that does not answer"),
        pytest.param({}, {"node": "pve2"}, {}, [("node", False, True)], id="migrated"),
        pytest.param({}, {"fingerprint": "smbios:b"}, {}, [("fingerprint", False, True)], id="another machine"),
        pytest.param({"vmid": 105}, {}, {}, [("place", True, False)], id="the order names another guest"),
        pytest.param({"state": "ended", "vmid": 105}, {}, {}, [("state", True, False)], id="an ended order's guest"),
    ],
)  # fmt: skip
def test_what_differs(
    order: dict[str, Any], guest: dict[str, Any], config: dict[str, Any], expected: list[tuple[str, bool, bool]]
) -> None:
    assert differing(RECORD, ORDER | order, GUEST | guest, CONFIG | config) == expected


def test_names_count_only_where_the_feed_has_authority_over_them() -> None:
    assert differing(RECORD, ORDER | {"name": "x"}, GUEST, CONFIG, names=False) == []


def test_the_owner_is_the_mapped_one() -> None:
    assert differing(RECORD, ORDER, GUEST, CONFIG, owner=6) == [("user_id", True, False)]
    assert differing(RECORD, ORDER, GUEST, CONFIG, owner=None) == [("user_id", True, False)], "not mapped"
    assert differing(RECORD, ORDER | {"owner": None}, GUEST, CONFIG, owner=None) == []


def test_there_may_be_no_order_no_guest_and_no_record_any_more() -> None:
    assert differing(RECORD, {}, {}, {}) == []
    deleted = RECORD | {"deleted_at": "now"}
    assert differing(deleted, ORDER | {"state": "ended", "cpu": 4}, GUEST | {"power": "stopped"}, CONFIG) == []
