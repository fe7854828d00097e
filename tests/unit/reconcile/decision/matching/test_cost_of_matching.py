"""Matching costs about four times as much for four times as many. Counted in the interpreter's steps: no machine
changes them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from types import FrameType
from typing import Any

import pytest

from domain.guests import Guest
from domain.orders import Order, OrderState
from domain.records import LinkState, Record
from reconcile.decision.cases import World
from reconcile.decision.matching.match import PAIRS_COMPARED, TOO_ALIKE, Partners, match
from tests.unit.reconcile.worlds import POLICY, UNLINKED, ago, guest, order, record, world

FEW, MANY = 40, 160
AT_MOST = 6.0
"""For four times as many: sorting costs a little more than four times; comparing each with each, sixteen times."""


@dataclass(slots=True)
class Steps:
    taken: int = 0
    _before: Any = field(default=None)


@contextmanager
def counted() -> Iterator[Steps]:
    steps, before = Steps(), sys.gettrace()

    def trace(frame: FrameType, event: str, _: object) -> Any:
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        steps.taken += event == "opcode"
        return trace

    sys.settrace(trace)
    try:
        yield steps
    finally:
        sys.settrace(before)


def unlinked_orders(n: int) -> tuple[Order, ...]:
    return tuple(
        order(order_id=str(i), name=f"sold-{i}", cluster=None, vmid=None, created_at=ago(days=30, hours=-i))
        for i in range(n)
    )


def unlinked_records(n: int, **values: Any) -> tuple[Record, ...]:
    return tuple(
        record(id=i + 1, name=f"made-{i}", order_id=None, order_linked_once=False, created_at=ago(days=20, hours=-i),
               **{"ram_mb": 1024} | UNLINKED | values) for i in range(n)
    )  # fmt: skip


def guests(n: int, **values: Any) -> tuple[Guest, ...]:
    return tuple(guest(vmid=500 + i, name=f"g{i}", fingerprint=f"smbios:{i}", **values) for i in range(n))


SHAPES: dict[str, Callable[[int], World]] = {
    "orders and records of one customer that nothing joins": lambda n: world(
        orders=unlinked_orders(n), records=unlinked_records(n)
    ),
    "whose names say nothing": lambda n: world(
        orders=unlinked_orders(n), records=unlinked_records(n), names_are_authoritative=False
    ),
    "of one plan, made at one time": lambda n: world(
        orders=tuple(order(order_id=str(i), name=f"s{i}", cluster=None, vmid=None) for i in range(n)),
        records=unlinked_records(n, ram_mb=4096),
    ),
    "records that may be doubles, beside guests that nobody names": lambda n: world(
        orders=tuple(order(order_id=str(i), name=f"n{i}", vmid=100 + i) for i in range(n)),
        records=(
            *(record(id=i, order_id=str(i), name=f"n{i}", vmid=100 + i, fingerprint=f"smbios:o{i}") for i in range(n)),
            *(record(id=1000 + i, name=f"n{i}", order_id=None, order_linked_once=False, **UNLINKED) for i in range(n)),
        ),
        guests=(*guests(n, memory_mb=512), *(guest(vmid=100 + i, fingerprint=f"smbios:o{i}") for i in range(n))),
    ),
    "guests that nobody sold": lambda n: world(guests=guests(n), records=unlinked_records(n)),
    "machines that moved": lambda n: world(
        orders=tuple(order(order_id=str(i), vmid=100 + i) for i in range(n)),
        records=tuple(record(id=i + 1, order_id=str(i), vmid=100 + i, fingerprint=f"smbios:{i}") for i in range(n)),
        guests=guests(n),
    ),
    "ended orders whose records were deleted": lambda n: world(
        orders=tuple(order(order_id=str(i), vmid=100 + i, state=OrderState.ENDED) for i in range(n)),
        records=tuple(record(id=i + 1, order_id=str(i), vmid=100 + i, deleted_at=ago(days=1)) for i in range(n)),
        guests=tuple(guest(vmid=100 + i, fingerprint=f"smbios:{i}") for i in range(n)),
    ),
    "links that conflict": lambda n: world(
        orders=tuple(order(order_id=str(i), name=f"n{i}", vmid=100 + i) for i in range(n)),
        records=tuple(
            record(id=i + 1, name=f"n{i}", order_id=None, vmid=100 + i, link_state=LinkState.CONFLICT, fingerprint=None)
            for i in range(n)
        ),
        guests=tuple(guest(vmid=100 + i, fingerprint=f"smbios:{i}") for i in range(n)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
def test_four_times_as_many_cost_about_four_times_as_much(shape: str) -> None:
    costs = []
    for n in (FEW, MANY):
        seen = SHAPES[shape](n)
        with counted() as steps:
            found = match(seen, POLICY)
        assert len(found) >= n
        costs.append(steps.taken)
    assert costs[1] <= AT_MOST * costs[0], costs


def test_more_of_one_name_than_can_be_compared_are_held_as_a_whole() -> None:
    n = int(PAIRS_COMPARED**0.5) + 1
    orders = tuple(order(order_id=str(i), cluster=None, vmid=None) for i in range(n))
    records = tuple(record(id=i + 1, order_id=None, order_linked_once=False, **UNLINKED) for i in range(n))
    seen = match(world(orders=orders, records=records), POLICY)
    assert {case.doubt for case in seen} == {TOO_ALIKE}
    assert len(seen) == 2 * n
    fewer = match(world(orders=orders[:1], records=records[:1]), POLICY)
    assert [(case.doubt, case.record is not None) for case in fewer] == [(None, True)]


def test_partners_are_those_of_the_name_or_of_the_plan_in_time() -> None:
    made = unlinked_records(4, ram_mb=4096)  # an hour apart, the first twenty days ago
    partners, sold = Partners(made), order(name="made-1", created_at=ago(days=25), ram_mb=8192)
    near = timedelta(minutes=10)
    assert partners.possible_record(sold, near) is made[1], "by its name, whatever the plan and the time"
    assert partners.possible_record(order(name="x", created_at=made[2].created_at), near) is made[2]
    assert partners.possible_record(order(name="x", created_at=ago(days=25)), near) is None
    assert partners.possible_record(order(name="x", created_at=None), near) is None
    assert partners.possible_record(order(name="x", created_at=None), None) is made[3], (
        "where names say nothing, the plan does"
    )
    assert partners.possible_record(order(name="x", ram_mb=None), None) is made[3], "what is not said does not differ"
    assert partners.possible_record(order(name="x", user_id=6), None) is None
    ended = order(name="made-3", state=OrderState.ENDED, state_since=made[1].created_at)
    assert partners.possible_record(ended, None) is made[1], "made after its end it is another one's"
