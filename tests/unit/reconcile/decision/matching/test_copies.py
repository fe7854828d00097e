"""One machine at two places: how long it is a migration, and what it is afterwards."""

from __future__ import annotations

from datetime import timedelta

import pytest

from domain.changes import ChangePlan
from domain.guests import PowerState
from domain.orders import OrderState
from reconcile.decision.cases import World
from reconcile.decision.decide import plan
from tests.unit.reconcile.worlds import KEY, NOW, POLICY, absence, guest, order, record, world


def both(*, minutes: float | None, **changed: object) -> World:
    """The record's machine and another with its fingerprint in a second cluster, since so many minutes."""
    since = NOW - timedelta(minutes=minutes) if minutes is not None else None
    here = guest(power=PowerState.STOPPED, status="stopped", previous_read_at=NOW, moving_since=since)
    there = guest(cluster="second", vmid=7, moving_since=since)
    names = frozenset({"main", "second"})
    kept = {"orders": (order(),), "guests": (here, there), "records": (record(),), "clusters": names, "trusted": names}
    return world(**{**kept, **changed})


def found(made: ChangePlan) -> list[tuple[str, str, str]]:
    return [(f.class_, f.subject, f.severity) for f in made.findings]


@pytest.mark.parametrize("minutes", [None, 0, 119], ids=["seen just now", "begun", "nearly two hours"])
def test_for_two_hours_it_is_a_move(minutes: float | None) -> None:
    made = plan(both(minutes=minutes), POLICY)
    assert found(made) == [("moving", "guest:second/7", "warning")]
    assert {c.action for c in made.changes} <= {"update"}, "the machine's own power flows"


def test_then_it_is_a_copy_and_nothing_of_either_is_touched() -> None:
    made = plan(both(minutes=120), POLICY)
    assert made.changes == ()
    assert found(made) == [
        ("ambiguous", "vps:1", "warning"),
        ("duplicate-fingerprint", "guest:second/7", "alarm"),
    ]


def test_a_copy_is_not_merged_or_deleted_when_the_order_has_ended() -> None:
    ended = plan(both(minutes=600, orders=(order(state=OrderState.ENDED),)), POLICY)
    assert ended.changes == ()
    twins = plan(both(minutes=600, records=(record(), record(id=2, cluster="second", vmid=7, order_id="2"))), POLICY)
    assert [c for c in twins.changes if c.action in ("merge", "delete", "unlink")] == []


def test_a_copy_of_what_nobody_sold_is_nobodys_alarm() -> None:
    made = plan(both(minutes=600, orders=(), records=()), POLICY)
    assert {severity for _, _, severity in found(made)} <= {"info"}


def test_once_the_first_one_is_proven_gone_the_other_is_it() -> None:
    """The panel forgets the move when enough complete reads were without the first."""
    here_no_more = (guest(cluster="second", vmid=7),)
    made = plan(both(minutes=None, guests=here_no_more, guest_absences={KEY: absence()}), POLICY)
    (link,) = [c for c in made.changes if "cluster" in c.values]
    assert (link.values["cluster"], link.values["vmid"]) == ("second", 7)
