"""For how long what a run mends had been wrong."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from domain.changes import (
    Change,
    ChangeOwner,
    Create,
    Delete,
    DeleteOrphan,
    Link,
    Merge,
    SetSize,
    SetStatus,
    Unlink,
)
from domain.orders import OrderState
from reconcile.decision.drift_since import drift_since
from reconcile.run_phases import Phases
from tests.unit.reconcile.worlds import ago, guest, order, record

STOPPED = guest(power_since=ago(minutes=4), changed_at=ago(minutes=3))
ENDED = order(state=OrderState.ENDED, state_since=ago(hours=2))


@pytest.mark.parametrize(
    ("made", "values", "since"),
    [
        pytest.param(Create, {"order": order(first_seen_at=ago(hours=1), state_since=ago(minutes=9))},
                     ago(minutes=9), id="a lost create: since it was seen sold"),
        pytest.param(SetStatus, {"guest": STOPPED, "source": "proxmox", "values": {"power_state": "stopped"}},
                     ago(minutes=4), id="a lost status call: since a read showed it"),
        pytest.param(SetStatus, {"guest": STOPPED, "source": "proxmox", "values": {"power_state": "stopped"},
                                   "record": record(power_changed_at=ago(minutes=1))},
                     ago(minutes=1), id="a call contradicted it later"),
        pytest.param(SetStatus, {"guest": guest(), "source": "proxmox", "values": {"power_state": "stopped"}},
                     None, id="nobody noted when"),
        pytest.param(SetStatus, {"order": order(state_since=ago(hours=3)), "values": {"order_state": "suspended"}},
                     ago(hours=3), id="suspended by the order"),
        pytest.param(SetStatus, {"values": {"missing_since": ago(hours=5)}}, ago(hours=5), id="paid but missing"),
        pytest.param(ChangeOwner, {"order": order(owner_since=ago(hours=4))}, ago(hours=4), id="another owner"),
        pytest.param(Link, {"guest": STOPPED, "source": "proxmox"}, ago(minutes=3), id="a guest moved"),
        pytest.param(Link, {"order": order(first_seen_at=ago(days=1))}, ago(days=1), id="an order became known"),
        pytest.param(Merge, {"survivor": record(id=2, created_at=ago(days=3))}, ago(days=3), id="a second record"),
        pytest.param(Delete, {"order": ENDED, "evidence": {"guest_absent_since": ago(hours=1).isoformat()}},
                     ago(hours=1), id="a lost delete: since both were true"),
        pytest.param(Delete, {"order": ENDED}, ago(hours=2), id="a lost delete without a guest to miss"),
        pytest.param(DeleteOrphan, {"evidence": {"order_absent_since": ago(days=2).isoformat(),
                                                "guest_absent_since": ago(days=3).isoformat()}},
                     ago(days=2), id="an orphan"),
        pytest.param(SetSize, {"order": order()}, None, id="nothing tells when a plan was changed"),
        pytest.param(Unlink, {}, None, id="nor when a machine was replaced"),
    ],
)  # fmt: skip
def test_since_when(made: type[Change], values: dict[str, Any], since: datetime | None) -> None:
    kept = {"source": "orders", "reason": "", "record": record()}
    change = made(**{**kept, **values})
    assert drift_since(change) == since


def test_phases_follow_each_other_and_add_up() -> None:
    moments = iter([10.0, 10.5, 12.0, 12.25])
    phases = Phases(lambda: next(moments))
    for phase in ("clusters", "apply", "clusters"):
        phases.end(phase)
    assert phases.seconds() == {"clusters": 0.75, "apply": 1.5}
