"""What an approval binds to stays what it was: operators' standing approvals are kept as these hashes.

change_identities.json was written by the code that gave out the first approvals. A difference here makes operators
decide anew about everything that waits: it is never mended by writing the file anew.
"""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from cli.output.plan_view import _change_entry
from domain.changes import Change, Kind, plan_hash
from domain.guests import FingerprintState, Guest, GuestKey, PowerState
from domain.orders import OrderState
from domain.records import LinkState
from reconcile.decision.cases import World
from reconcile.decision.decide import plan
from reconcile.decision.power import power_plan
from tests.unit.reconcile.worlds import KEY, NOW, POLICY, UNLINKED, absence, ago, guest, order, record, world

KEPT: dict[str, Any] = json.loads((Path(__file__).parent / "change_identities.json").read_text())

ENDED = order(state=OrderState.ENDED, status="cancelled", state_since=ago(hours=1))
SEVERAL: dict[str, Any] = {"clusters": frozenset({"main", "second"}), "trusted": frozenset({"main", "second"})}
PUSHED: dict[str, Any] = {"link_state": LinkState.PUSHED, "fingerprint": None}
BUYER = order(order_id="2", user_id=6, owner="2", created_at=ago(days=1), guest_since=ago(hours=1))
SOLD_ON = record(order_state=OrderState.ENDED)
SECOND: dict[str, Any] = {"id": 2, "order_id": None, "order_linked_once": False}
UNREAD: dict[str, Any] = {"fingerprint": None, "fingerprint_state": FingerprintState.FORBIDDEN}

WORLDS: dict[str, World] = {
    "create": world(orders=(order(panel_vps_id=77, ip_address="10.0.0.1"),), guests=(guest(),)),
    "create, its guest unreadable": world(orders=(order(os=None),), guests=(guest(**UNREAD),)),
    "create, stopped": world(orders=(order(),), guests=(guest(power=PowerState.STOPPED, status="stopped"),)),
    "create, suspended": world(
        orders=(order(state=OrderState.SUSPENDED, status="suspended", hypervisor="vmware", cluster=None, vmid=None),)
    ),
    "create, without Proxmox": world(clusters=frozenset(), trusted=frozenset(), orders=(order(status="error"),)),
    "order suspended": world(
        orders=(order(state=OrderState.SUSPENDED, status="suspended"),), guests=(guest(),), records=(record(),)
    ),
    "power": world(orders=(order(),), guests=(guest(power=PowerState.STOPPED, status="stopped"),), records=(record(),)),
    "power by the order": world(
        clusters=frozenset(),
        trusted=frozenset(),
        orders=(order(status="stopped"),),
        records=(record(**UNLINKED | {"hypervisor": "vmware"}),),
    ),
    "paid but missing": world(orders=(order(),), records=(record(),), guest_absences={KEY: absence(minutes=40)}),
    "size": world(orders=(order(cpu=4, ram_mb=8192, ip_address="10.0.0.9"),), guests=(guest(),), records=(record(),)),
    "owner": world(orders=(order(user_id=6, owner="2"),), guests=(guest(),), records=(record(),)),
    "link to an order": world(orders=(order(panel_vps_id=1),), guests=(guest(),), records=(record(order_id=None),)),
    "link to a first guest": world(orders=(order(),), guests=(guest(),), records=(record(**PUSHED),)),
    "link to a guest after none": world(orders=(order(),), guests=(guest(),), records=(record(**UNLINKED),)),
    "link to the next node": world(orders=(order(),), guests=(guest(node="pve2"),), records=(record(),)),
    "link to another address": world(
        **SEVERAL,
        orders=(order(cluster="second", vmid=200),),
        guests=(guest(cluster="second", vmid=200),),
        records=(record(),),
        guest_absences={KEY: absence()},
    ),
    "merge": world(orders=(order(panel_vps_id=2),), guests=(guest(),), records=(record(), record(**SECOND | UNLINKED))),
    "merge of two with guests": world(
        orders=(order(panel_vps_id=2),),
        guests=(guest(vmid=200, fingerprint="smbios:b"),),
        records=(record(), record(**SECOND | {"vmid": 200, "fingerprint": "smbios:b"})),
        guest_absences={KEY: absence(), GuestKey("main", 300): absence()},
        sightings={"smbios:a": frozenset({KEY, GuestKey("main", 300)})},
    ),
    "unlink": world(
        orders=(ENDED, order(order_id="2", name="other")),
        guests=(guest(fingerprint="smbios:b"),),
        records=(record(order_state=OrderState.ENDED),),
    ),
    "sold on": world(orders=(ENDED, BUYER), guests=(guest(),), records=(SOLD_ON,)),
    "sold on to the same customer": world(
        orders=(ENDED, order(order_id="2", created_at=ago(days=1), guest_since=ago(hours=1))),
        guests=(guest(),),
        records=(SOLD_ON,),
    ),
    "delete": world(orders=(ENDED,), records=(SOLD_ON,), guest_absences={KEY: absence()}),
    "delete by approval": world(
        orders=(ENDED,),
        records=(record(order_state=OrderState.ENDED, link_state=LinkState.UNVERIFIED),),
        guest_absences={KEY: absence()},
    ),
    "delete of a template": world(orders=(ENDED,), guests=(guest(template=True),), records=(SOLD_ON,)),
    "orphan": world(
        records=(record(),), order_absences={"1": absence(hours=25)}, guest_absences={KEY: absence(hours=25)}
    ),
    "orphan that nobody knows": world(
        records=(record(**UNLINKED | {"order_id": None, "order_linked_once": False, "created_at": ago(days=3)}),)
    ),
}


def _fast(seen: Guest, **values: Any) -> tuple[Change, ...]:
    return power_plan([(record(**values), seen)], world(), POLICY).changes


CHANGES: dict[str, tuple[Change, ...]] = {name: plan(seen, POLICY).changes for name, seen in WORLDS.items()} | {
    "fast": _fast(guest(node="pve2", power=PowerState.STOPPED, status="stopped")),
    "fast, found again": _fast(guest(), missing_since=NOW - timedelta(hours=1)),
}


def test_every_class_is_among_them() -> None:
    assert {change.kind for changes in CHANGES.values() for change in changes} == set(Kind)


@pytest.mark.parametrize("name", CHANGES)
def test_an_identity_and_its_hash_stay(name: str) -> None:
    assert [change.identity() for change in CHANGES[name]] == KEPT[name]["identities"]
    assert plan_hash(CHANGES[name]) == KEPT[name]["hash"]


@pytest.mark.parametrize("name", CHANGES)
def test_a_plan_reads_as_ever(name: str) -> None:
    """The entries of `panel-sync plan --json`."""
    entries = [_change_entry(change, "to apply", None, {}).plain for change in CHANGES[name]]
    assert json.loads(json.dumps(entries)) == KEPT[name]["entries"]
