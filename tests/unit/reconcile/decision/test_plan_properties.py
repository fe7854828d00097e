"""What holds of every plan, whatever was observed."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from random import Random
from typing import TypeVar

from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from domain.changes import Change, ChangePlan, Kind, Merge, Update
from domain.confirmations import GuestIsGone, OrderIsOver, OrderNamesOwner
from domain.guests import FingerprintState
from domain.orders import OrderState
from domain.records import LinkState, Record
from reconcile.decision.cases import Case, GuestView, World, guest_view
from reconcile.decision.decide import plan
from reconcile.decision.matching.match import match
from tests.unit.reconcile.arbitrary import applied, missed, worlds
from tests.unit.reconcile.disturbed import Making, disturbed
from tests.unit.reconcile.worlds import POLICY, asks, questions

T = TypeVar("T")
many = settings(max_examples=200, deadline=None)


def deletes(made: ChangePlan) -> list[Change]:
    return [c for c in made.changes if c.action == "delete"]


@many
@given(disturbed(), st.randoms(use_true_random=False))
def test_the_order_of_what_was_read_is_irrelevant(seen: World, random: Random) -> None:
    def shuffled(values: tuple[T, ...]) -> tuple[T, ...]:
        return tuple(random.sample(values, len(values)))

    other = replace(
        seen,
        orders=shuffled(seen.orders),
        missed_orders=shuffled(seen.missed_orders),
        guests=shuffled(seen.guests),
        records=shuffled(seen.records),
    )
    assert plan(other, POLICY) == plan(seen, POLICY)


@many
@given(st.one_of(worlds(), disturbed()))
def test_everything_is_in_a_case(seen: World) -> None:
    """What is in none would have its findings resolved unseen; what is in two without doubt might be written twice."""
    cases = match(seen, POLICY)
    of_record = Counter(r.id for c in cases for r in (c.record, c.duplicate) if r is not None and r.live)
    assert of_record.keys() == {r.id for r in seen.records if r.live}
    for case in cases:
        twice = [r.id for r in (case.record, case.duplicate) if r is not None and of_record[r.id] > 1]
        assert case.doubt is not None or not twice
    assert Counter(c.order.order_id for c in cases if c.order) == Counter(o.order_id for o in seen.orders)
    of_guest = {c.guest.key for c in cases if c.guest}
    named = {r.guest_key for r in seen.records} | {o.guest_key for o in seen.claiming_orders}
    assert {g.key for g in seen.guests if not g.template} <= of_guest | named


@many
@given(st.one_of(worlds(), disturbed()), st.sampled_from(("1", "2", "3")))
def test_what_an_order_claims_is_nobody_elses_while_it_is_missed(seen: World, order_id: str) -> None:
    """It drives nothing, and no machine goes to another order that could not have it while this one was listed."""
    listed, left_out = plan(seen, POLICY), plan(missed(seen, order_id), POLICY)
    taken = {(c.subject, c.guest_key) for c in listed.changes}
    for change in left_out.changes:
        assert change.order is None or change.order.order_id != order_id
        if change.kind in (Kind.CREATE, Kind.UNLINK, Kind.SOLD_ON, Kind.MERGE):
            assert (change.subject, change.guest_key) in taken


@many
@given(disturbed())
def test_a_record_with_a_call_in_flight_is_left_alone(seen: World) -> None:
    flying = {r.id for r in seen.records if r.in_flight}
    for change in plan(seen, POLICY).changes:
        assert {r.id for r in change.records}.isdisjoint(flying)


@many
@given(disturbed())
def test_no_delete_without_proof(seen: World) -> None:
    for change in deletes(plan(seen, POLICY)):
        kept, sold, key = change.record, change.order, change.guest_key
        assert kept is not None
        assert seen.has_feed
        assert kept.live
        assert kept.protected_until is None or kept.protected_until <= seen.now
        event(change.kind.value)
        if asks(change) is not None:  # nothing proves it: the gate holds it for an operator
            at_address = [g.fingerprint for g in seen.guests if g.key == key and not g.template]
            assert all(None not in (f, kept.fingerprint) and f != kept.fingerprint for f in at_address), (
                "nobody, or another"
            )
            continue
        if sold is not None:
            assert sold.state is OrderState.ENDED
            assert sold.effective_at is not None
            assert sold.effective_at >= kept.order_changed_at
        else:
            assert kept.order_id is not None
            assert POLICY.proven(seen.order_absences[kept.order_id])
            assert kept.order_linked_once
            assert kept.guest_linked_once
        assert OrderIsOver in questions(change)
        _guest_is_proven_gone(seen, change, kept)
        assert all(g.key != kept.guest_key or g.fingerprint != kept.fingerprint for g in seen.guests if not g.template)
        assert key is None or key.cluster in seen.clusters or GuestIsGone not in questions(change)


def _guest_is_proven_gone(seen: World, change: Change, kept: Record) -> None:
    if GuestIsGone not in questions(change):  # where no guest can be looked for, an ended order alone
        assert change.order is not None
        never_seen = kept.link_state not in (LinkState.VERIFIED, LinkState.UNVERIFIED)
        assert (not seen.clusters and never_seen) or kept.hypervisor != "proxmox" or kept.guest_key is None
        return
    assert kept.link_state is LinkState.VERIFIED
    key = kept.guest_key
    assert key is not None
    assert seen.unidentified is not None
    strangers = [g for g in seen.unidentified if g.key != key and g.memory_mb == kept.ram_mb and g.cores == kept.cpu]
    assert all(kept.guest_type not in (None, g.guest_type) for g in strangers), "one of them may be it"
    missed = seen.guest_absences[key].absent_since if key in seen.guest_absences else seen.now
    assert all(seen.last_read[c] > missed for c in seen.clusters - seen.trusted), "it may have moved there"
    at = next((g for g in seen.guests if g.key == key), None)
    if at is None:
        assert POLICY.proven(seen.guest_absences[key])
        return
    assert at.cluster in seen.trusted, "another machine stands there: read, believed, and seen twice"
    assert at.fingerprint_state is FingerprintState.READ
    assert at.fingerprint_seen >= 2
    assert at.fingerprint != kept.fingerprint


@many
@given(disturbed())
def test_what_is_not_trusted_never_deletes_nor_changes_power(seen: World) -> None:
    blind = replace(seen, trusted=frozenset())
    shown = {g.key for g in seen.guests}
    for change in plan(blind, POLICY).changes:
        assert change.action != "unlink"
        if change.action == "delete" and GuestIsGone in questions(change):
            assert change.guest_key not in shown, "its proof is older than this read"
        assert not ("power_state" in change.values and change.source == "proxmox")
        assert change.action != "create" or "vmid" not in change.values


@many
@given(disturbed())
def test_power_comes_from_a_guest_that_is_known_or_from_an_order_without_one(seen: World) -> None:
    for change in plan(seen, POLICY).changes:
        if "power_state" not in change.values or change.record is None:
            continue
        assert change.values["power_state"] != "unknown"
        if change.source == "proxmox":
            assert isinstance(change, Update)
            assert change.guest is not None
            at = guest_view(Case(guest=change.guest, record=change.record, guest_key=change.guest_key), seen, POLICY)
            assert at in {GuestView.RUNNING, GuestView.STOPPED, GuestView.ERROR}
            assert at.value == change.values["power_state"]
            assert change.guest.fingerprint_state is not FingerprintState.STALE
        else:
            assert change.order is not None
            assert change.order.status == change.values["power_state"]


@many
@given(disturbed())
def test_owners_change_only_when_two_complete_sweeps_agree(seen: World) -> None:
    for change in plan(seen, POLICY).changes:
        if change.kind is Kind.OWNER:
            assert questions(change) == (OrderNamesOwner,)
            assert change.order is not None
            assert seen.previous_orders_at is not None
            assert seen.orders_at is not None
            assert change.order.owner_since is not None
            assert change.order.owner_since <= seen.previous_orders_at < seen.orders_at
            assert change.order.mapped_at is not None
            assert change.order.mapped_at <= seen.previous_orders_at
        else:
            assert "user_id" not in change.values or change.action == "create"
        if change.action == "merge":
            assert len({merged.user_id for merged in change.records}) == 1


@many
@given(disturbed())
def test_no_two_changes_contradict(seen: World) -> None:
    made = plan(seen, POLICY).changes
    whole = [c.record.id for c in made if c.action in {"delete", "merge", "unlink"} and c.record is not None]
    survivors = [c.survivor.id for c in made if isinstance(c, Merge)]
    touched = [c.record.id for c in made if c.action == "update" and c.record is not None]
    assert len(set(whole)) == len(whole)
    assert set(whole).isdisjoint(touched)
    assert set(whole).isdisjoint(survivors)
    columns = Counter((c.record.id, column) for c in made if c.action == "update" and c.record for column in c.values)
    assert [column for column, times in columns.items() if times > 1] == []
    new = [c.order.order_id for c in made if c.action == "create" and c.order is not None]
    assert len(set(new)) == len(new)
    live = {r.order_id for r in seen.records if r.live}
    assert live.isdisjoint(new)
    taken = [(c.values["cluster"], c.values["vmid"]) for c in made if "vmid" in c.values and "cluster" in c.values]
    assert len(set(taken)) == len(taken), "one guest for each"
    linked = [c.values["order_id"] for c in made if c.action == "update" and "order_id" in c.values]
    assert len(set(linked + new)) == len(linked + new), "one record for each order"


@many
@given(disturbed())
def test_every_change_says_why_and_every_plan_has_one_hash(seen: World) -> None:
    made = plan(seen, POLICY)
    assert made.hash == plan(seen, POLICY).hash
    assert all(c.reason and c.source for c in made.changes)
    assert all(f.reason and f.severity in {"info", "warning", "alarm"} for f in made.findings)


@many
@given(disturbed())
def test_applied_and_read_again_it_comes_to_rest(seen: World) -> None:
    """A link comes before what rests on it and a merge before either, so a few runs; none goes on for ever."""
    for runs in range(6):
        made = plan(seen, POLICY)
        if not made.changes:
            event(f"at rest after {runs} runs")
            return
        seen = applied(seen, made.changes)
    assert plan(seen, POLICY).changes == ()


@many
@given(disturbed())
def test_a_tombstone_is_never_touched(seen: World) -> None:
    for change in plan(seen, POLICY).changes:
        assert all(touched.live for touched in change.records)


@given(st.booleans())
def test_a_converged_world_plans_nothing(healthy: bool) -> None:
    seen = Making().world()
    made = plan(seen if healthy else replace(seen, trusted=frozenset()), POLICY)
    assert (made.changes, made.findings) == ((), ())


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(worlds())
def test_a_plan_never_raises(seen: World) -> None:
    plan(seen, POLICY)
