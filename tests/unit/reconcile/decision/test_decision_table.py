"""Every cell of the decision table against ``decision_expected.csv``: verdict, facts, finding and reason.

The file is never written by the code: whoever changes a cell changes both. Its verdicts were decided from the rules
before anybody looked at the code's; the facts, findings and reasons were worded with the code at hand. Below it, what
must hold of the table whatever its cells say.
"""

from __future__ import annotations

import csv
from itertools import product
from pathlib import Path
from typing import NamedTuple

import pytest

from reconcile.decision.cases import GuestView, OrderView, RecordView
from reconcile.decision.table import Cell, Verdict, all_cells, cell

EXPECTED = Path(__file__).parents[3] / "decision_expected.csv"
SOLD = {OrderView.ACTIVE, OrderView.SUSPENDED}
POWER_IS_KNOWN = {GuestView.RUNNING, GuestView.STOPPED, GuestView.ERROR}
THERE = POWER_IS_KNOWN | {GuestView.TRANSITIONAL, GuestView.UNKNOWN}


class Row(NamedTuple):
    verdict: str
    facts: str
    finding: str
    reason: str


Key = tuple[str, str, str, str]


def rows() -> list[tuple[Key, Row]]:
    with EXPECTED.open(newline="", encoding="utf-8") as file:
        return [
            (
                (row["record"], row["in_flight"], row["order"], row["guest"]),
                Row(row["verdict"], row["facts"], row["finding"], row["reason"]),
            )
            for row in csv.DictReader(file)
        ]


def told(found: Cell) -> Row:
    return Row(found.verdict.value, " ".join(sorted(found.facts)), found.finding or "", found.reason)


def test_the_expectation_names_every_combination_once() -> None:
    named = [key for key, _ in rows()]
    assert len(named) == 378
    assert set(named) == set(product(map(str, RecordView), ("no", "yes"), map(str, OrderView), map(str, GuestView)))


@pytest.mark.parametrize(("r", "flying"), list(product(RecordView, (False, True))))
def test_every_cell_is_as_expected(r: RecordView, flying: bool) -> None:
    of_this = (r.value, "yes" if flying else "no")
    wanted = {key: row for key, row in rows() if key[:2] == of_this}
    found = {(*of_this, o.value, g.value): told(cell(o, g, r, flying)) for o, g in product(OrderView, GuestView)}
    assert found == wanted


class Fact(NamedTuple):
    """A deed of the table and the only circumstances in which it may be done."""

    reason: str
    deed: Verdict
    orders: set[OrderView]
    guests: set[GuestView]
    records: set[RecordView]


DEEDS = [
    Fact(
        "a record is deleted only if its order ended or is proven gone, and no guest that can run is there or in doubt",
        Verdict.DELETE,
        {OrderView.ENDED, OrderView.NONE_PROVEN},
        {GuestView.NONE_PROVEN, GuestView.UNOBSERVABLE, GuestView.TEMPLATE},
        {RecordView.LIVE},
    ),
    Fact(
        "a record is made only for what is sold and there, and never again for one that was deleted",
        Verdict.CREATE,
        SOLD,
        POWER_IS_KNOWN | {GuestView.UNOBSERVABLE},
        {RecordView.NONE},
    ),
    Fact(
        "only a live record is repaired, and only by an order or a guest that is known",
        Verdict.REPAIR,
        SOLD | {OrderView.ENDED, OrderView.NONE_PROVEN},
        set(GuestView),
        {RecordView.LIVE},
    ),
]


@pytest.mark.parametrize("fact", DEEDS, ids=lambda f: f.deed.value)
def test_where_a_deed_is_possible(fact: Fact) -> None:
    done = [(o, g, r, flying) for o, g, r, flying, found in all_cells() if found.verdict is fact.deed]
    assert done, "there is such a cell"
    for o, g, r, flying in done:
        assert not flying
        assert (o in fact.orders, g in fact.guests, r in fact.records) == (True, True, True), fact.reason


def test_what_cannot_be_observed_is_no_proof_of_absence() -> None:
    """Where no guest can be seen, only an order that says itself that it ended deletes; never a missing one."""
    deleting = {
        o for o, g, _, _, found in all_cells() if g is GuestView.UNOBSERVABLE if found.verdict is Verdict.DELETE
    }
    assert deleting == {OrderView.ENDED}


def test_what_is_in_flight_is_left_alone() -> None:
    waiting = {(o, g, r) for o, g, r, flying, found in all_cells() if flying and told(found)[:3] == ("wait", "", "")}
    assert waiting == set(product(OrderView, GuestView, RecordView))
    assert {flying for *_, flying, found in all_cells() if found.verdict is Verdict.WAIT} == {True}


def test_facts_flow_only_into_records_that_there_are_or_will_be() -> None:
    for o, g, r, _, found in all_cells():
        if found.facts:
            assert r is RecordView.LIVE or found.verdict is Verdict.CREATE, (o, g, r)
        if found.verdict in {Verdict.REPAIR, Verdict.CREATE}:
            assert found.facts, (o, g, r)


def test_power_flows_only_from_a_guest_whose_state_is_known_or_where_none_can_be() -> None:
    """What Proxmox does not say plainly is never written; without a guest it is the going order's word."""
    for o, g, r, _, found in all_cells():
        if "power" in found.facts:
            assert g in POWER_IS_KNOWN or (g is GuestView.UNOBSERVABLE and o in SOLD), (o, g, r)


def test_the_orders_facts_flow_only_from_an_order_that_is_seen_and_understood() -> None:
    for o, g, r, _, found in all_cells():
        if "order" in found.facts:
            assert o in SOLD | {OrderView.ENDED}, (o, g, r)


def test_a_suspension_reaches_a_live_record_whatever_its_guest_does() -> None:
    assert all("order" in cell(OrderView.SUSPENDED, g, RecordView.LIVE, in_flight=False).facts for g in GuestView)


@pytest.mark.parametrize("o", [OrderView.PENDING, OrderView.UNRECOGNISED])
def test_an_order_that_is_pending_or_not_understood_changes_nothing_and_is_shown(o: OrderView) -> None:
    finding = {OrderView.PENDING: "stuck-creating", OrderView.UNRECOGNISED: "unrecognised-order"}[o]
    for g, r in product(GuestView, RecordView):
        found = cell(o, g, r, in_flight=False)
        assert (found.facts, found.finding) == (frozenset(), finding)
        assert found.verdict in {Verdict.NOTHING, Verdict.HOLD}


LOUD = [
    pytest.param(OrderView.ACTIVE, {GuestView.NONE_PROVEN}, set(RecordView), "paid-but-missing", id="paid, not there"),
    pytest.param(OrderView.SUSPENDED, {GuestView.RUNNING}, {RecordView.LIVE}, "suspended-but-running", id="suspended"),
    pytest.param(OrderView.ENDED, THERE, set(RecordView), "ended-but-running", id="ended, still there"),
    pytest.param(OrderView.NONE_PROVEN, THERE, {RecordView.LIVE}, "guest-without-order", id="order gone"),
    pytest.param(OrderView.NONE_PROVEN, THERE, {RecordView.NONE}, "unmanaged-guest", id="guest alone"),
    pytest.param(
        OrderView.ACTIVE, {GuestView.TEMPLATE}, {RecordView.NONE, RecordView.LIVE}, "is-template", id="a template"
    ),
    pytest.param(OrderView.ACTIVE, THERE, {RecordView.TOMBSTONE}, "deleted-but-alive", id="deleted, yet going"),
]


@pytest.mark.parametrize(("o", "guests", "records", "finding"), LOUD)
def test_what_a_run_may_not_mend_is_said(
    o: OrderView, guests: set[GuestView], records: set[RecordView], finding: str
) -> None:
    assert {cell(o, g, r, in_flight=False).finding for g, r in product(guests, records)} == {finding}


def test_every_cell_says_why_and_names_no_more_than_one_finding() -> None:
    for *_, found in all_cells():
        assert found.reason
        assert not found.reason.endswith(".")
        assert found.finding is None or " " not in found.finding
