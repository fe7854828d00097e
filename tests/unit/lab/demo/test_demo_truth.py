"""What a client should see of an order."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import pytest

from lab.demo.truth import difference
from lab.simulators.main_site.model import Order
from lab.simulators.proxmox.guests import Guest

THEN = datetime(2026, 1, 1, tzinfo=UTC)
ORDER = Order(
    id=7, user_id=1, name="web", status="running", cpu=2, ram_mb=4096, disk_gb=50, os="Debian", hypervisor="proxmox",
    created_at=THEN, updated_at=THEN, cluster="berlin", node="pve1", vmid=100,
)  # fmt: skip
GUEST = Guest(
    vmid=100, node="pve1", type="qemu", name="web", status="running", uuid="u", mac="m", cores=2, memory_mb=4096,
    disk_gb=50,
)  # fmt: skip


def shown(*statuses: str) -> list[dict[str, Any]]:
    return [{"id": number, "status": status} for number, status in enumerate(statuses, 1)]


@dataclass(frozen=True)
class Case:
    name: str
    reason: str
    said: str | None
    order_status: str = "running"
    guest_status: str | None = "running"
    records: list[dict[str, Any]] = field(default_factory=lambda: shown("running"))


CASES = [
    Case("in sync", "order, guest and record agree", None),
    Case("not shown", "an order with a guest belongs on the list", "the client does not see them", records=[]),
    Case("stopped", "Proxmox is right about power", "guest berlin/100 is stopped", guest_status="stopped"),
    Case("order lags", "the guest's power counts, not the order's word", None, "running", "stopped", shown("stopped")),
    Case("suspended", "a suspension wins over power", "order 7 is suspended", "suspended", "stopped"),
    Case("seen suspended", "and is what the client sees", None, "suspended", "stopped", shown("suspended")),
    Case("twice", "one machine is one record", "VPS 1 and VPS 2", records=shown("running", "running")),
    Case("still there", "a cancelled order leaves the list", "cancelled", "cancelled", None),
    Case("gone", "and then all is right", None, "cancelled", None, []),
    Case("never made", "an order without a guest is not this demo's", "has no guest", "running", None),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_difference_is_a_sentence_and_the_truth_is_none(case: Case) -> None:
    guest = None if case.guest_status is None else replace(GUEST, status=case.guest_status)
    said = difference(replace(ORDER, status=case.order_status), guest, case.records)
    if case.said is None:
        assert said is None, case.reason
    else:
        assert said is not None, case.reason
        assert case.said in said, case.reason
