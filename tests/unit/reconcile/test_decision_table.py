"""Every cell of the decision table against the expectation that was written by hand from the specification."""

from __future__ import annotations

import csv
from itertools import product
from pathlib import Path

import pytest

from reconcile.cases import GuestView, OrderView, RecordView
from reconcile.table import Cell, Verdict, all_cells, cell

EXPECTED = Path(__file__).parents[2] / "decision_expected.csv"


def expected() -> dict[tuple[str, str, str, bool], str]:
    with EXPECTED.open(newline="") as file:
        return {
            (row["order"], guest.value, row["record"], row["in_flight"] == "yes"): row[guest.value]
            for row in csv.DictReader(file)
            for guest in GuestView
        }


def told(verdict: Cell) -> str:
    return verdict.verdict.value + (f":{verdict.finding}" if verdict.finding else "")


def test_the_expectation_covers_every_combination() -> None:
    every = set(product(map(str, OrderView), map(str, GuestView), map(str, RecordView), (False, True)))
    assert set(expected()) == every
    assert len(every) == 336


@pytest.mark.parametrize(("o", "r", "flying"), list(product(OrderView, RecordView, (False, True))))
def test_every_cell_is_as_expected(o: OrderView, r: RecordView, flying: bool) -> None:
    wanted = expected()
    found = {g.value: told(cell(o, g, r, flying)) for g in GuestView}
    assert found == {g.value: wanted[o.value, g.value, r.value, flying] for g in GuestView}


def test_power_flows_only_from_a_guest_whose_state_is_known_or_where_none_can_be() -> None:
    """What Proxmox does not say plainly is never written."""
    plain = {GuestView.RUNNING, GuestView.STOPPED, GuestView.ERROR, GuestView.UNOBSERVABLE}
    for o, g, r, flying, verdict in all_cells():
        if "power" in verdict.facts:
            assert g in plain, (o, g, r)
            assert not flying


def test_nothing_is_deleted_while_a_guest_is_there_or_anything_is_unproven() -> None:
    doubtful = {OrderView.NONE_UNPROVEN, OrderView.UNRECOGNISED, OrderView.PENDING, OrderView.ACTIVE}
    for o, g, r, flying, verdict in all_cells():
        if verdict.verdict is Verdict.DELETE:
            assert o not in doubtful | {OrderView.SUSPENDED}
            assert g in {GuestView.NONE_PROVEN, GuestView.UNOBSERVABLE}
            assert (r, flying) == (RecordView.LIVE, False)


def test_every_cell_says_why() -> None:
    assert all(verdict.reason for *_, verdict in all_cells())
