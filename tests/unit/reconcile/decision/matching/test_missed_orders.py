"""An order that a full read left out goes on claiming its guest, its record and its name until it is proven gone: what
was held while it was listed stays held, and nothing is decided about the order itself."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import pytest

from domain.absences import Absence
from domain.changes import Kind
from domain.guests import FingerprintState
from domain.orders import OrderState
from domain.records import LinkState
from reconcile.decision.cases import World
from reconcile.decision.decide import plan
from reconcile.decision.failure_isolation import parts, subjects_in
from tests.unit.reconcile.decision.matching.matched import cases
from tests.unit.reconcile.decision.matching.stranger_cases import ENDED, NAMELESS, OFF, OWN, PUSHED, THEIRS, UNVERIFIED
from tests.unit.reconcile.worlds import KEY, LOOSE, POLICY, absence, ago, asks, guest, order, record, world


def missed(seen: World, order_id: str = "2", proof: Absence | None = None) -> World:
    """The same world after a full read left an order out once. With a proof: after so many."""
    out = tuple(o for o in seen.orders if o.order_id == order_id)
    seen = replace(seen, orders=tuple(o for o in seen.orders if o.order_id != order_id))
    absences = seen.order_absences | {order_id: proof or absence(1, minutes=1)}
    return replace(seen, order_absences=absences, missed_orders=() if proof is not None else out)


class Claim(NamedTuple):
    """``findings``: (class, subject) of all that is found while order 2 is missed. ``gone``: what is written once order
    2 is proven gone."""

    name: str
    seen: World
    findings: set[tuple[str, str]]
    gone: list[Kind]


NEW = guest(fingerprint="smbios:new", fingerprint_since=ago(hours=2), **OFF)
SOLD_ON = record(order_state=OrderState.ENDED)
NAMESAKE = order(**NAMELESS)
EQUAL = replace(NAMESAKE, order_id="2", state=OrderState.SUSPENDED, status="suspended")
HELD = {("ambiguous", "vps:1")}
CLAIMS = [
    Claim("a machine made anew", world(orders=(OWN, THEIRS), guests=(NEW,), records=(record(),)), HELD, [Kind.LINK]),
    Claim(
        "a create",
        world(orders=(OWN, THEIRS), guests=(guest(),)),
        {("ambiguous", "order:1"), ("ambiguous", "guest:main/100")},
        [Kind.CREATE],
    ),
    Claim(
        "a first link",
        world(
            orders=(replace(OWN, **NAMELESS), THEIRS),
            guests=(guest(**OFF),),
            records=(record(**PUSHED),),
        ),
        HELD,
        [Kind.LINK],
    ),
    Claim(
        "a first link of an order that names it",
        world(orders=(OWN, THEIRS), guests=(guest(**OFF),), records=(record(**UNVERIFIED),)),
        HELD,
        [Kind.LINK, Kind.STATUS],
    ),
    Claim(
        "power of a machine that was sold on",
        world(orders=(ENDED, THEIRS), guests=(guest(**OFF),), records=(SOLD_ON,)),
        {("sold-on", "vps:1")},
        [Kind.STATUS],
    ),
    Claim(
        "an address that the next order has",
        world(
            orders=(ENDED, THEIRS),
            guests=(guest(),),
            records=(record(**UNVERIFIED, order_state=OrderState.ENDED),),
        ),
        HELD,
        [],
    ),
    Claim(
        "a record that it names",
        world(
            orders=(
                replace(NAMESAKE, first_seen_at=ago(minutes=1)),
                replace(THEIRS, user_id=5, panel_vps_id=1, **NAMELESS),
            ),
            records=(record(**LOOSE),),
        ),
        HELD,
        [Kind.LINK],
    ),
    Claim(
        "a machine that no record knows",
        world(orders=(replace(THEIRS, state=OrderState.PENDING),), guests=(guest(),)),
        set(),
        [],
    ),
    Claim(
        "a refused machine",
        world(
            orders=(OWN, THEIRS),
            guests=(guest(**OFF, fingerprint_state=FingerprintState.FORBIDDEN),),
            records=(record(),),
        ),
        HELD,
        [Kind.LINK, Kind.STATUS],
    ),
]


@pytest.mark.parametrize("claim", [pytest.param(c, id=c.name) for c in CLAIMS])
def test_one_miss_lets_nothing_go(claim: Claim) -> None:
    made = plan(missed(claim.seen), POLICY)
    assert [(c.kind, c.reason) for c in made.changes if asks(c) is None] == []
    assert {(f.class_, f.subject) for f in made.findings} == claim.findings
    assert not any(f.order_id == "2" for f in made.findings), "nothing is said of the order itself"


@pytest.mark.parametrize("claim", [pytest.param(c, id=c.name) for c in CLAIMS if c.gone])
def test_what_is_proven_gone_claims_nothing(claim: Claim) -> None:
    made = plan(missed(claim.seen, proof=absence()), POLICY)
    assert [c.kind for c in made.changes] == claim.gone


@pytest.mark.parametrize("order_id", ["1", "2"])
def test_an_equal_namesake_gets_no_record_while_the_other_is_missed(order_id: str) -> None:
    seen = world(orders=(NAMESAKE, EQUAL), records=(record(**LOOSE),))
    for here in (seen, missed(seen, order_id)):
        made = plan(here, POLICY)
        assert made.changes == ()
        assert ("ambiguous", "several orders of this customer fit it") in {(f.class_, f.reason) for f in made.findings}


def test_a_record_that_fits_a_missed_order_alone_is_kept_for_it() -> None:
    seen = world(orders=(NAMESAKE,), records=(record(**LOOSE),))
    assert [c.kind for c in plan(seen, POLICY).changes] == [Kind.LINK]
    made = plan(missed(seen, "1"), POLICY)
    assert made.changes == ()
    (held,) = made.findings
    assert held.reason.startswith("the last full read of the orders left out order 1, which may be its own: it waits")


def test_a_record_whose_own_order_is_missed_goes_on_as_before() -> None:
    """Only the facts of the order wait: the machine is the record's own, so its power is written."""
    seen = missed(world(orders=(OWN,), guests=(guest(**OFF),), records=(record(),)), "1")
    made = plan(seen, POLICY)
    assert [(c.kind, c.values["power_state"]) for c in made.changes] == [(Kind.STATUS, "stopped")]
    assert made == plan(replace(seen, missed_orders=()), POLICY)


def test_a_record_keeps_its_address_while_its_own_order_is_missed() -> None:
    """Both orders name the machine made anew, and the record is the missed one's: it does not give up the address."""
    seen = world(orders=(OWN, THEIRS), guests=(NEW,), records=(record(),))
    made = plan(missed(seen, "1"), POLICY)
    assert made.changes == ()
    assert {(f.class_, f.subject) for f in made.findings} == HELD | {("ambiguous", "order:2")}
    assert Kind.UNLINK in {c.kind for c in plan(missed(seen, "1", absence()), POLICY).changes}


def test_a_record_does_not_change_hands_while_its_own_order_is_missed() -> None:
    other = replace(THEIRS, user_id=5, panel_vps_id=1)
    seen = world(orders=(replace(OWN, state=OrderState.ENDED), other), guests=(guest(),), records=(record(),))
    made = plan(missed(seen, "1"), POLICY)
    assert made.changes == ()
    assert {(f.class_, f.subject) for f in made.findings} == HELD


def test_a_missed_order_is_not_called_a_buyer_and_takes_no_address() -> None:
    seen = missed(world(orders=(ENDED, THEIRS), guests=(guest(**OFF),), records=(SOLD_ON,)))
    (told,) = plan(seen, POLICY).findings
    assert "left out order 2, and nothing proves that it is gone" in told.reason


def test_a_guest_of_a_missed_order_is_not_called_removable() -> None:
    sold = replace(ENDED, vmid=100)
    seen = world(orders=(sold, THEIRS), guests=(guest(fingerprint_read_at=ago(minutes=1)),))
    listed, left_out = plan(seen, POLICY), plan(missed(seen), POLICY)
    assert not any("no other order or record names it" in f.reason for f in (*listed.findings, *left_out.findings))


@pytest.mark.parametrize("claim", [pytest.param(c, id=c.name) for c in CLAIMS])
def test_a_missed_order_stays_with_what_it_claims_and_has_no_case(claim: Claim) -> None:
    seen = missed(claim.seen)
    assert "2" not in {case.order.order_id for case in cases(seen) if case.order is not None}
    (part,) = [p for p in parts(seen) if p.missed_orders]
    assert subjects_in(part) >= {"order:2"} | ({f"guest:{KEY}"} if claim.seen.orders[-1].vmid else set())


def test_a_record_in_dispute_is_not_that_of_a_missed_order() -> None:
    """A call named the guest for VPS 1, and order 2 names it."""
    told: dict[str, Any] = LOOSE | {"link_state": LinkState.CONFLICT, "claimed_cluster": "main", "claimed_vmid": 100}
    own = replace(OWN, **NAMELESS)
    disputed = record(**told | {"order_id": "1"})
    made = plan(missed(world(orders=(own, THEIRS), guests=(guest(),), records=(disputed,))), POLICY)
    assert [c.kind for c in made.changes if c.kind is Kind.LINK] == []
    assert "is named by order 2" in next(f.reason for f in made.findings if f.class_ == "link-conflict")
