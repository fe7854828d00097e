"""Which orders may be a guest's, in which order, and what is said for and against each."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.adoptions.candidates import SHOWN, Candidate, Possible, candidates_of, compared
from domain.adoptions.permission import Around
from domain.guests import GuestKey, GuestType
from domain.orders import Order, OrderState
from domain.size_drift import Size
from tests.unit.reconcile.worlds import UNLINKED, ago, guest, order, record

SIZE = Size(2, 4096, 50)
GUEST = guest(
    vmid=900,
    name="mail",
    fingerprint="smbios:old",
    ip_address="192.0.2.9",
    tags=("order-4",),
    first_seen_at=ago(days=2),
)
BARE: dict[str, Any] = {
    "cluster": None, "node": None, "vmid": None, "guest_type": None, "name": None, "cpu": None, "ram_mb": None,
    "disk_gb": None, "ip_address": None, "created_at": None,
}  # fmt: skip
"""An order that says nothing that could be compared."""


def bare(order_id: str = "1", **values: Any) -> Order:
    return order(order_id=order_id, **BARE | values)


def found(*possible: Possible) -> list[Candidate]:
    return list(candidates_of(GUEST, SIZE, possible))


def ids(*possible: Possible) -> list[str]:
    return [one.possible.order.order_id for one in found(*possible)]


FOR: list[tuple[str, Order, dict[str, Any], str]] = [
    ("a tag", bare("4"), {}, "a tag of the guest is the id of order 4"),
    ("the address", bare(ip_address="192.0.2.9"), {}, "the guest has the order's address 192.0.2.9"),
    ("the name", bare(name="mail"), {}, "the guest and the order have the name mail"),
    (
        "the record's name",
        bare(),
        {"around": Around(own=(record(**UNLINKED, name="mail"),))},
        "the guest and the order have the name mail",
    ),
    ("the VMID alone", bare(vmid=900), {}, "the order names VMID 900 without a cluster"),
    ("the VMID of another cluster", bare(cluster="old", vmid=900), {}, "the order names VMID 900 of cluster old"),
]


@pytest.mark.parametrize(("one", "known", "says"), [case[1:] for case in FOR], ids=[case[0] for case in FOR])
def test_each_strong_fact_makes_a_candidate(one: Order, known: dict[str, Any], says: str) -> None:
    (candidate,) = found(Possible(one, **{"around": Around()} | known))
    assert candidate.evidence == (says,)
    assert (candidate.against, candidate.tied) == ((), False)


WEAK: list[tuple[str, dict[str, Any], int, bool]] = [
    ("the size", {"cpu": 2, "ram_mb": 4096, "disk_gb": 50}, 0, False),
    ("the time", {"created_at": ago(days=2, minutes=10)}, 0, False),
    ("the customer's other guests", {}, 3, False),
    ("the size and the customer", {"cpu": 2, "ram_mb": 4096, "disk_gb": 50}, 3, False),
    ("size and time", {"cpu": 2, "ram_mb": 4096, "disk_gb": 50, "created_at": ago(days=2)}, 0, True),
]


@pytest.mark.parametrize(("values", "near", "counts"), [case[1:] for case in WEAK], ids=[case[0] for case in WEAK])
def test_one_weak_fact_makes_none(values: dict[str, Any], near: int, counts: bool) -> None:
    assert bool(ids(Possible(bare(**values), Around(), near, near))) is counts


AGAINST: list[tuple[str, dict[str, Any], str]] = [
    (
        "another address",
        {"ip_address": "192.0.2.1"},
        "the guest has the address 192.0.2.9, and the order has 192.0.2.1",
    ),
    ("another size", {"cpu": 4}, "the guest has 2 cores instead of 4"),
    ("another VMID", {"vmid": 7}, "the order names VMID 7 without a cluster, and the guest is 900"),
    ("made long after", {"created_at": ago(days=1)}, "the guest was there before the order was made"),
]


@pytest.mark.parametrize(
    ("guests", "orders", "contradicts"),
    [
        ("10.0.0.5", "192.0.2.1", False),
        ("100.64.0.5", "192.0.2.1", False),
        ("192.0.2.9", "192.168.1.5", False),
        ("10.0.0.5", "10.0.0.6", True),
        ("192.0.2.9", "192.0.2.1", True),
        ("192.0.2.9", "not an address", True),
    ],
)
def test_an_address_behind_a_router_contradicts_no_address_before_it(
    guests: str, orders: str, *, contradicts: bool
) -> None:
    possible = Possible(bare(name="mail", ip_address=orders), Around())
    told = compared(replace(GUEST, ip_address=guests), SIZE, possible)
    assert any("the guest has the address" in sentence for sentence in told) is contradicts


@pytest.mark.parametrize(("values", "says"), [case[1:] for case in AGAINST], ids=[case[0] for case in AGAINST])
def test_what_contradicts_is_said(values: dict[str, Any], says: str) -> None:
    (candidate,) = found(Possible(bare(name="mail", **values), Around()))
    assert candidate.against == (says,)
    assert compared(GUEST, SIZE, candidate.possible) == (*candidate.evidence, *candidate.against)


def test_another_name_is_said() -> None:
    (candidate,) = found(Possible(bare(ip_address="192.0.2.9", name="web"), Around()))
    assert candidate.against == ("the order has another name than mail",)


NEVER: list[tuple[str, Order, Around]] = [
    ("it ended", bare(name="mail", state=OrderState.ENDED), Around()),
    ("it has a machine", bare(name="mail"), Around(own=(record(),))),
    ("it sold a container", bare(name="mail", guest_type=GuestType.LXC), Around()),
    ("another order names the guest", bare(name="mail"), Around(naming=("8",))),
    ("its record has another owner", bare(name="mail"), Around(own=(record(**UNLINKED, user_id=6),))),
]


@pytest.mark.parametrize(("one", "around"), [case[1:] for case in NEVER], ids=[case[0] for case in NEVER])
def test_what_would_be_wrong_is_never_a_candidate(one: Order, around: Around) -> None:
    assert ids(Possible(one, around)) == []


def test_what_must_be_settled_first_is_told() -> None:
    waiting = Possible(bare("a", name="mail", user_id=None), Around())
    elsewhere = Possible(bare("b", name="mail", cluster="old", vmid=900), Around())
    obstacles = {one.possible.order.order_id: one.obstacle for one in found(waiting, elsewhere)}
    assert "users map PANEL_ID" in (obstacles["a"] or "")
    assert "let the main site name that one" in (obstacles["b"] or "")


def test_the_strongest_fact_decides() -> None:
    by_address = Possible(bare("a", ip_address="192.0.2.9", name="web", cpu=4), Around())
    by_all_else = Possible(
        bare("b", name="mail", vmid=900, cpu=2, ram_mb=4096, disk_gb=50, created_at=ago(days=2)), Around(), 3, 3
    )
    assert ids(by_all_else, by_address) == ["a", "b"]
    assert ids(by_all_else, Possible(bare("4"), Around()), by_address) == ["4", "a", "b"]


def test_equal_rivals_cannot_be_told_apart() -> None:
    one, other, third = found(*(Possible(bare(n, name="mail"), Around()) for n in "xyz"))
    assert (one.tied, other.tied, third.tied) == (True, True, True)
    assert one.against == ("order y and others fit just as well: they cannot be told apart",)
    assert other.against == ("order x and others fit just as well: they cannot be told apart",)


def test_what_must_be_settled_first_makes_no_other_one_right() -> None:
    waits, free = Possible(bare("a", name="mail", user_id=None), Around()), Possible(bare("b", name="mail"), Around())
    assert ids(waits, free) == ["b", "a"]
    assert all(one.tied for one in found(waits, free))


def test_a_namesake_among_the_guests_is_told_where_the_name_speaks() -> None:
    possible = [Possible(bare("a", name="mail"), Around()), Possible(bare("b", ip_address="192.0.2.9"), Around())]
    by_name = {
        one.possible.order.order_id: one.against
        for one in candidates_of(GUEST, SIZE, possible, [GuestKey("main", 902), GuestKey("main", 901)])
    }
    assert by_name == {"a": ("guest main/901 and others have this name, too, and no order",), "b": ()}


# --- properties

FACTS: dict[str, tuple[Any, Any]] = {
    "ip_address": ("192.0.2.9", "192.0.2.1"),
    "name": ("mail", "web"),
    "vmid": (900, 7),
    "cpu": (2, 4),
    "created_at": (ago(days=2), ago(days=1)),
}
"""For each fact a value that agrees and one that contradicts. The strongest first."""
SIZED = {"ram_mb": 4096, "disk_gb": 50}
NO_SIZE: dict[str, Any] = {"ram_mb": None, "disk_gb": None}


def an_order(order_id: str, says: tuple[int, ...]) -> Order:
    """``says``: of each fact, whether it agrees (2), says nothing (1) or contradicts (0)."""
    values = {n: (wrong, None, right)[word] for (n, (right, wrong)), word in zip(FACTS.items(), says, strict=True)}
    return bare(order_id, **values | (SIZED if values["cpu"] == 2 else NO_SIZE))


words = st.tuples(*(st.integers(0, 2) for _ in FACTS))
worlds = st.lists(st.tuples(words, st.integers(0, 2)), min_size=1, max_size=8)


@given(worlds, st.randoms(use_true_random=False))
def test_the_order_of_the_input_is_irrelevant(drawn: list[tuple[tuple[int, ...], int]], rng: random.Random) -> None:
    possible = [Possible(an_order(f"o{n}", says), Around(), near, near) for n, (says, near) in enumerate(drawn)]
    shuffled = rng.sample(possible, len(possible))
    assert candidates_of(GUEST, SIZE, shuffled) == candidates_of(GUEST, SIZE, possible)


@given(words, words)
def test_a_contradiction_never_ranks_above_an_agreement(one: tuple[int, ...], other: tuple[int, ...]) -> None:
    """In the strongest fact in which two orders differ, the one that agrees comes first, whatever the rest says."""
    listed = ids(Possible(an_order("one", one), Around()), Possible(an_order("other", other), Around()))
    if len(listed) == 2 and one != other:
        assert listed == (["one", "other"] if one > other else ["other", "one"])


@given(worlds)
def test_equal_ones_are_always_told_and_others_never(drawn: list[tuple[tuple[int, ...], int]]) -> None:
    possible = [Possible(an_order(f"o{n}", says), Around(), near, near) for n, (says, near) in enumerate(drawn)]
    says = {f"o{n}": (said, bool(near)) for n, (said, near) in enumerate(drawn)}
    shown = candidates_of(GUEST, SIZE, possible)
    assert len(shown) <= SHOWN
    for one in shown:
        mine = says[one.possible.order.order_id]
        assert one.tied is (list(says.values()).count(mine) > 1)
        assert one.tied is any("cannot be told apart" in sentence for sentence in one.against)
        assert one.evidence, "something speaks for each"


def test_a_thousand_orders_of_one_name_are_three_candidates() -> None:
    many = [Possible(bare(f"o{n:04}", name="mail"), Around()) for n in range(1_000)]
    shown = candidates_of(GUEST, SIZE, many)
    assert [one.possible.order.order_id for one in shown] == ["o0000", "o0001", "o0002"]
    assert all("and others fit" in one.against[0] for one in shown)
