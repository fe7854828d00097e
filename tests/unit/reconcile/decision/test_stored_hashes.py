"""An approval is stored as the hash of what was asked. A later version must ask the same question by the same hash."""

from __future__ import annotations

import pytest

from domain.orders import Order
from domain.records import Record
from reconcile.decision.decide import plan
from tests.unit.reconcile.worlds import POLICY, guest, order, record, world

CREATE_WITH_GUEST = "23e7a501134f139e51a66e7ed1d95253960a19422a43831e544706c95a26e03c"
CREATE_ALONE = "83e81b5641cd8063c42b5474db52b9d654b17f250bc1e163698c6358c3d4c525"
PLAN_CHANGED = "b34ca5b641c9c709bb76bec912ed8c79a411a67fd98f7332c641a1b073dff208"


@pytest.mark.parametrize(
    ("orders", "records", "stored"),
    [
        ((order(),), (), CREATE_WITH_GUEST),
        ((order(vmid=None, cluster=None, os=None, hypervisor=None),), (), CREATE_ALONE),
        ((order(cpu=8, ip_address="192.0.2.1"),), (record(),), PLAN_CHANGED),
    ],
    ids=["a create with its guest", "a create without one", "another plan"],
)
def test_the_hash_of_a_plan_is_what_it_was(orders: tuple[Order, ...], records: tuple[Record, ...], stored: str) -> None:
    guests = (guest(),) if orders[0].vmid is not None else ()
    planned = plan(world(orders=orders, records=records, guests=guests), POLICY)
    assert len(planned.changes) == 1
    assert planned.hash == stored


def test_what_an_order_says_besides_is_part_of_the_question() -> None:
    asked = plan(world(orders=(order(ip6_address="2001:db8::1"),), records=(), guests=(guest(),)), POLICY)
    assert asked.changes[0].values["ip6_address"] == "2001:db8::1"
    assert asked.hash != CREATE_WITH_GUEST
