"""What stands against a restore, in the words of the page and of the action."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from panel.journal.restore import restore_hindrance

DELETED = {
    "id": 11, "merged_into": None, "deleted_at": datetime(2026, 12, 1, tzinfo=UTC), "order_id": "o1",
    "cluster": "fra1", "vmid": 104, "waiting": False, "has_order": None, "has_guest": None, "too_old": False,
}  # fmt: skip


@pytest.mark.parametrize(
    ("differs", "why", "vps_id"),
    [
        pytest.param({"merged_into": 12}, "was merged into VPS 12", 12, id="merged"),
        pytest.param({"deleted_at": None}, "is not deleted", None, id="live"),
        pytest.param({"waiting": True}, "waits to be applied", None, id="a call waits"),
        pytest.param({"has_order": 13, "has_guest": 14}, "order o1 belongs to VPS 13", 13, id="its order is taken"),
        pytest.param({"has_guest": 14}, "guest fra1/104 belongs to VPS 14", 14, id="its guest is taken"),
        pytest.param({"too_old": True}, "more than 7 days ago", None, id="too old"),
    ],
)
def test_what_stands_against_it(differs: dict[str, Any], why: str, vps_id: int | None) -> None:
    hindrance = restore_hindrance(DELETED | differs)
    assert hindrance is not None
    assert why in hindrance.why
    assert hindrance.vps_id == vps_id


def test_nothing_stands_against_it() -> None:
    assert restore_hindrance(DELETED) is None
