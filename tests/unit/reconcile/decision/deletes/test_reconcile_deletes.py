"""Each guard of a delete: with everything proven it is planned, and each single thing that is missing holds it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import pytest

from domain.changes import Kind, plan_hash
from domain.confirmations import Confirmation, GuestIsGone, OrderIsOver
from domain.orders import OrderState
from domain.records import LinkState, Record
from domain.repair_policy.budget import Budget
from domain.source_protocols import GuestSource
from reconcile.confirming import Confirmer
from reconcile.decision.cases import World
from reconcile.decision.decide import plan
from reconcile.decision.gate import GateContext, gate
from reconcile.report import held_findings
from tests.support.stand_ins.listed_cluster import ListedCluster
from tests.support.stand_ins.no_database import NO_DATABASE
from tests.unit.reconcile.decision.deletes.proven_ends import BOTH, asked, deletes, ended, orphan
from tests.unit.reconcile.worlds import KEY, NOW, POLICY, UNLINKED, absence, ago, guest, questions, record, world


def test_a_missed_delete_is_planned_with_its_evidence_and_confirmed_twice() -> None:
    (change,) = deletes(plan(ended(), POLICY))
    assert (change.kind, questions(change)) == (Kind.DELETE, BOTH)
    assert change.evidence["guest_snapshots"] == [0, 1, 2]
    assert change.evidence["guest_absent_times"] == 3


def test_an_orphan_is_planned_with_both_proofs() -> None:
    (change,) = deletes(plan(orphan(), POLICY))
    assert (change.kind, questions(change)) == (Kind.ORPHAN, BOTH)
    assert {"guest_snapshots", "order_snapshots"} <= set(change.evidence)


NAMED = record(order_id=None, order_linked_once=False)
"""Its order was never written down with it."""


def test_an_order_that_names_the_record_deletes_it_before_the_link_was_ever_written() -> None:
    (change,) = deletes(plan(ended({"panel_vps_id": 1}, records=(NAMED,)), POLICY))
    assert questions(change) == BOTH


def test_an_order_of_another_customer_says_nothing_of_a_record_it_was_never_linked_with() -> None:
    for state in OrderState:
        made = plan(ended({"user_id": 6, "panel_vps_id": 1, "state": state}, records=(NAMED,)), POLICY)
        assert made.changes == (), state
        assert [(f.class_, f.subject, f.severity) for f in made.findings] == [("ownership", "vps:1", "alarm")], state


def test_a_guest_that_was_found_on_proxmox_is_proven_gone_there_whatever_the_main_site_calls_it() -> None:
    (change,) = deletes(plan(ended({"hypervisor": "kvm"}, records=(record(hypervisor="kvm"),)), POLICY))
    assert questions(change) == BOTH


def test_an_order_of_another_customer_that_ended_is_a_held_delete() -> None:
    made = plan(ended({"user_id": 6}), POLICY)
    assert [(f.class_, f.subject) for f in made.findings] == [("delete-held", "vps:1")]
    assert "another customer" in made.findings[0].reason


def test_an_order_that_had_ended_before_a_record_was_made_is_not_its_own() -> None:
    """The customer buys "web" again; the feed is late with the new order, and the old one is in it still."""
    silent = {"cluster": None, "vmid": None, "node": None}
    anew = record(**UNLINKED | {"order_id": None, "order_linked_once": False, "created_at": ago(minutes=30)})
    made = plan(ended(silent, records=(anew,), guest_absences={}), POLICY)
    assert made.changes == ()
    assert [(f.class_, f.subject) for f in made.findings] == [("unlinked-record", "vps:1")]


class Guard(NamedTuple):
    reason: str
    world: World


NOWHERE: dict[str, Any] = {"cluster": None, "vmid": None, "node": None}
CONFLICT: dict[str, Any] = UNLINKED | {"link_state": LinkState.CONFLICT, "order_state": OrderState.ENDED}
DISPUTED = CONFLICT | {"claimed_cluster": "main", "claimed_vmid": 100}
LET_GO = CONFLICT | {"guest_linked_once": True}
GUARDS = [
    Guard("the guest is there", ended(guests=(guest(),))),
    Guard("the guest was missed twice only", ended(guest_absences={KEY: absence(2)})),
    Guard("the guest was missed for too short a time", ended(guest_absences={KEY: absence(9, minutes=5)})),
    Guard("nothing is known of the guest's absence", ended(guest_absences={})),
    Guard("the order goes on", ended({"state": OrderState.ACTIVE})),
    Guard("the order is suspended", ended({"state": OrderState.SUSPENDED})),
    Guard("the order is still being set up", ended({"state": OrderState.PENDING})),
    Guard("the order's word is not known", ended({"state": OrderState.UNKNOWN})),
    Guard("the feed's word has no usable time", ended({"effective_at": None})),
    Guard("the feed's word is older than the last call", ended(records=(record(order_changed_at=NOW),))),
    Guard("no main site is configured", ended(has_feed=False)),
    Guard("it was restored and is protected", ended(records=(record(protected_until=NOW.replace(day=3)),))),
    Guard("a call for it is in flight", ended(records=(record(in_flight=True),))),
    Guard("its identity was never verified", ended(records=(record(fingerprint=None, link_state=LinkState.PUSHED),))),
    Guard("its identity cannot be read", ended(records=(record(link_state=LinkState.UNVERIFIED),))),
    Guard(
        "it was linked anew after the guest was first missed", ended(records=(record(link_changed_at=ago(minutes=15)),))
    ),
    Guard("its cluster is not configured any more", ended(clusters=frozenset({"second"}))),
    Guard(
        "it was seen on Proxmox, and the last cluster is not configured any more",
        ended(clusters=frozenset(), trusted=frozenset(), guest_absences={}),
    ),
    Guard(
        "it was seen there, unreadable, and the last cluster is not configured any more",
        ended(
            clusters=frozenset(),
            trusted=frozenset(),
            guest_absences={},
            records=(record(fingerprint=None, link_state=LinkState.UNVERIFIED),),
        ),
    ),
    Guard(
        "it names no guest, though its order does",
        ended({"vmid": 4711}, records=(record(**UNLINKED | {"link_state": LinkState.CONFLICT}),)),
    ),
    Guard("the order is another customer's", ended({"user_id": 6})),
    Guard("nobody knows whose order it is", ended({"user_id": None})),
    Guard("the order names it, and is another customer's", ended({"user_id": 6, "panel_vps_id": 1}, records=(NAMED,))),
    Guard("it fits the order by name only", ended(records=(NAMED,))),
    Guard(
        "another customer's order names it, and there is no guest to look for",
        ended(
            {"user_id": 6, "panel_vps_id": 1, "name": "other", "cluster": None, "vmid": None, "hypervisor": "vmware"},
            records=(record(**UNLINKED | {"order_id": None, "hypervisor": "vmware"}),),
        ),
    ),
    Guard("the order was missed twice only", orphan(order_absences={"1": absence(2, hours=30)})),
    Guard("the order vanished less than a day ago", orphan(order_absences={"1": absence(hours=23)})),
    Guard("nothing is known of the order's absence", orphan(order_absences={})),
    Guard("only the order is gone: its guest is not proven absent", orphan(guest_absences={})),
    Guard("only the order is gone: its guest is there", orphan(guests=(guest(),))),
    Guard("it was never linked to an order", orphan(records=(record(order_linked_once=False),))),
    Guard("it was never linked to a guest", orphan(records=(record(guest_linked_once=False),))),
    Guard("it has no order id", orphan(records=(record(order_id=None),))),
    Guard(
        "a call changed it after the order was first missed", orphan(records=(record(order_changed_at=ago(hours=1)),))
    ),
    Guard(
        "it was linked anew after the order was first missed", orphan(records=(record(link_changed_at=ago(hours=1)),))
    ),
    Guard(
        "an orphan on another hypervisor is never proven",
        orphan(records=(record(**UNLINKED | {"hypervisor": "vmware", "guest_linked_once": True}),)),
    ),
    Guard(
        "the main site has another word for Proxmox, and its cluster cannot be read now",
        ended({"hypervisor": "kvm"}, trusted=frozenset(), guest_absences={}, records=(record(hypervisor="kvm"),)),
    ),
    Guard(
        "another word for Proxmox, and its identity could not be read",
        ended(
            {"hypervisor": "kvm"},
            guest_absences={},
            records=(record(hypervisor="kvm", fingerprint=None, link_state=LinkState.UNVERIFIED),),
        ),
    ),
    Guard(
        "another word for Proxmox, and a call named a guest of a cluster that is read",
        ended(
            {"hypervisor": "kvm"},
            guest_absences={},
            records=(record(hypervisor="kvm", fingerprint=None, link_state=LinkState.PUSHED, guest_linked_once=False),),
        ),
    ),
    Guard(
        "another word for Proxmox, and its link is in conflict",
        ended(
            {"hypervisor": "kvm"} | NOWHERE, guest_absences={}, records=(record(**DISPUTED | {"hypervisor": "kvm"}),)
        ),
    ),
    Guard(
        "another word for Proxmox, and it gave up an address without ever being identified",
        ended({"hypervisor": "kvm"} | NOWHERE, guest_absences={}, records=(record(**LET_GO | {"hypervisor": "kvm"}),)),
    ),
    Guard(
        "another word for Proxmox, and the last cluster is not configured any more",
        ended(
            {"hypervisor": "kvm"},
            clusters=frozenset(),
            trusted=frozenset(),
            guest_absences={},
            records=(record(hypervisor="kvm"),),
        ),
    ),
]


@pytest.mark.parametrize("guard", GUARDS, ids=lambda g: g.reason)
def test_a_delete_is_held_by_each_guard(guard: Guard) -> None:
    assert deletes(plan(guard.world, POLICY)) == [], guard.reason


class Asked(NamedTuple):
    reason: str
    world: World
    confirm: tuple[type[Confirmation], ...]


NEVER_LINKED: dict[str, Any] = UNLINKED | {
    "order_id": None, "order_linked_once": False, "guest_linked_once": False, "created_at": ago(days=3),
}  # fmt: skip
NOBODY_READ = record(order_state=OrderState.ENDED, fingerprint=None, link_state=LinkState.PUSHED)
UNREADABLE = record(order_state=OrderState.ENDED, link_state=LinkState.UNVERIFIED)
ASKED = [
    Asked("its identity was never verified", ended(records=(NOBODY_READ,)), BOTH),
    Asked("its identity cannot be read", ended(records=(UNREADABLE,)), BOTH),
    Asked("it was never linked to an order", orphan(records=(record(order_linked_once=False),)), BOTH),
    Asked("it was never linked to a guest", orphan(records=(record(guest_linked_once=False),)), BOTH),
    Asked("it names an order that nobody ever saw", orphan(order_absences={}), BOTH),
    Asked("it has no order id", orphan(records=(record(order_id=None),)), (GuestIsGone,)),
    Asked("nothing is known of it", world(records=(record(**NEVER_LINKED),)), ()),
    Asked(
        "nothing is known of it, on another hypervisor",
        world(records=(record(**NEVER_LINKED | {"hypervisor": "vmware"}),)),
        (),
    ),
]


@pytest.mark.parametrize("word", ["proxmox", "kvm"])
@pytest.mark.parametrize("kept", [DISPUTED, LET_GO], ids=["a call named its guest", "it gave its guest up unseen"])
def test_a_record_in_dispute_ends_by_approval_whatever_the_hypervisor_is_called(
    kept: dict[str, Any], word: str
) -> None:
    seen = ended({"hypervisor": word} | NOWHERE, guest_absences={}, records=(record(**kept | {"hypervisor": word}),))
    made = plan(seen, POLICY)
    (change,) = asked(made)
    assert (deletes(made), questions(change)) == ([], (OrderIsOver,))


@pytest.mark.parametrize("case", ASKED, ids=lambda c: c.reason)
def test_what_nothing_proves_waits_for_a_word_of_its_own(case: Asked) -> None:
    made = plan(case.world, POLICY)
    assert deletes(made) == []
    (change,) = asked(made)
    assert questions(change) == case.confirm
    assert len(made.findings) == 1, "it is told as well"
    gated = gate(made, GateContext(live=1000), Budget())
    assert change not in gated.allowed
    assert [(h.scope, h.changes) for h in gated.held] == [("by-approval:vps:1", (change,))]
    assert held_findings(gated) == []
    approved = GateContext(live=1000, approved=frozenset({plan_hash((change,))}))
    assert change in gate(made, approved, Budget()).allowed


@pytest.mark.parametrize("kept", [NOBODY_READ, UNREADABLE], ids=lambda r: r.link_state.value)
def test_whoever_stands_there_may_be_the_one_that_nobody_identified(kept: Record) -> None:
    """An approval is no look-up: another fingerprint is no other machine where the first was never read."""
    (change,) = asked(plan(ended(records=(kept,)), POLICY))
    change = replace(change, confirm=change.confirm[:1])
    assert questions(change) == (GuestIsGone,)
    cluster, everywhere = ListedCluster(), frozenset({KEY.cluster})
    sources: dict[str, GuestSource] = {KEY.cluster: cluster}
    confirmer = Confirmer(NO_DATABASE, None, sources, everywhere, everywhere)
    assert confirmer.hindrance(change)[0] is None
    cluster.add(KEY.vmid, "pve1")
    assert "a guest stands at main/100" in (confirmer.hindrance(change)[0] or "")


def test_the_record_says_first_that_its_order_ended() -> None:
    """An approval is for one version of a record, and writing that down makes a new one."""
    made = plan(ended(records=(replace(UNREADABLE, order_state=OrderState.ACTIVE),)), POLICY)
    assert [c.kind for c in made.changes] == [Kind.STATUS]


NEVER_ASKED = [
    Guard("its guest is there", world(records=(record(order_id=None, order_linked_once=False),), guests=(guest(),))),
    Guard("its guest is not proven absent", world(records=(record(order_id=None, order_linked_once=False),))),
    Guard("it was made today", world(records=(record(**NEVER_LINKED | {"created_at": ago(hours=23)}),))),
    Guard("it is protected", world(records=(record(**NEVER_LINKED | {"protected_until": NOW.replace(day=3)}),))),
    Guard("its link is in conflict", world(records=(record(**NEVER_LINKED | {"link_state": LinkState.CONFLICT}),))),
    Guard("no main site is configured", world(has_feed=False, records=(record(**NEVER_LINKED),))),
    Guard("a call for it is in flight", world(records=(record(**NEVER_LINKED | {"in_flight": True}),))),
    Guard(
        "the order is another customer's",
        ended({"user_id": 6}, records=(record(link_state=LinkState.UNVERIFIED),)),
    ),
    Guard(
        "the feed's word is older than the last call",
        ended(records=(record(link_state=LinkState.UNVERIFIED, order_changed_at=NOW),)),
    ),
    Guard(
        "the order vanished less than a day ago",
        orphan(records=(record(link_state=LinkState.UNVERIFIED),), order_absences={"1": absence(hours=23)}),
    ),
]


@pytest.mark.parametrize("guard", NEVER_ASKED, ids=lambda g: g.reason)
def test_an_operator_s_word_stands_for_nothing_else(guard: Guard) -> None:
    made = plan(guard.world, POLICY)
    assert [c for c in made.changes if c.action == "delete"] == [], guard.reason


def test_a_held_delete_is_a_finding() -> None:
    made = plan(ended(records=(record(link_state=LinkState.UNVERIFIED),)), POLICY)
    assert [(f.class_, f.subject) for f in made.findings] == [("delete-held", "vps:1")]
    assert "not verified any more" in made.findings[0].reason
