"""Two records of one order: one machine, or two? A merge cannot be undone, so what may be two stays two."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import pytest

from domain.absences import Absence
from domain.changes import Change, ChangePlan, Kind, Merge, plan_hash
from domain.confirmations import OneGuestIsGone, OrderNamesSurvivor
from domain.guests import Guest, GuestKey, GuestType
from domain.left_out import LeftOut
from domain.records import LinkState
from domain.repair_policy.budget import Budget
from domain.source_protocols import Found, Gone, GuestConfig, Unclear
from panel.journal.repairs import inherited
from panel.records.projection import LINK_COLUMNS, Row
from reconcile import confirming
from reconcile.confirming import Confirmer
from reconcile.decision.decide import plan
from reconcile.decision.gate import GateContext, gate
from reconcile.decision.matching.match import match
from tests.support.stand_ins.no_database import NO_DATABASE
from tests.unit.reconcile.worlds import KEY, LOOSE, POLICY, absence, ago, guest, order, questions, record, world

OTHER = GuestKey("main", 200)
SECOND: dict[str, Any] = {"id": 2, "order_id": None, "order_linked_once": False, "vmid": 200}


class Case(NamedTuple):
    second: dict[str, Any]
    guests: tuple[dict[str, Any], ...]
    gone: tuple[GuestKey, ...]
    changes: list[Kind]
    reason: str


MERGED, KEPT = [Kind.MERGE], list[Kind]()
CASES = [
    Case(LOOSE, ({},), (), MERGED, "the second never had a guest"),
    Case({"fingerprint": "smbios:b"}, ({}, {"vmid": 200, "fingerprint": "smbios:b"}), (), KEPT, "both are there"),
    Case({"fingerprint": "smbios:b"}, ({},), (), KEPT, "one is not listed, which proves nothing"),
    Case({"fingerprint": None, "link_state": LinkState.PUSHED}, ({},), (), KEPT, "one was never looked at"),
    Case({"fingerprint": "smbios:b"}, ({},), (OTHER,), MERGED, "the second's is proven gone"),
    Case(
        {"fingerprint": "smbios:b"}, ({"vmid": 200, "fingerprint": "smbios:b"},), (KEY,), MERGED, "the first's is gone"
    ),
    Case({"fingerprint": "smbios:a"}, ({},), (), KEPT, "one machine at two addresses: a copy, or on its way"),
    Case(LOOSE | {"fingerprint": "smbios:b"}, ({},), (), KEPT, "it was another machine, wherever that is"),
]


def planned(case: Case, **values: Any) -> ChangePlan:
    seen = world(
        orders=(order(panel_vps_id=2),),
        guests=tuple(guest(**one) for one in case.guests),
        records=(record(), record(**SECOND | case.second)),
        guest_absences={key: absence() for key in case.gone},
    )
    return plan(replace(seen, **values), POLICY)


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.reason)
def test_two_records_with_a_guest_each_are_merged_only_when_one_is_proven_gone(case: Case) -> None:
    made = planned(case)
    assert [c.kind for c in made.changes] == case.changes
    if case.changes == KEPT:
        assert [(f.class_, f.vps_id) for f in made.findings] == [("ambiguous", 2)]


def test_a_merge_asks_the_order_again_and_looks_for_the_guest_that_is_gone() -> None:
    (plain,) = planned(CASES[0]).changes
    (with_guests,) = planned(CASES[4]).changes
    assert questions(plain) == (OrderNamesSurvivor,)
    assert questions(with_guests) == (OneGuestIsGone, OrderNamesSurvivor)


@pytest.mark.parametrize(
    ("gone", "takes", "dropped"),
    [
        pytest.param((KEY,), False, 1, id="the other's is gone: the named one keeps its own"),
        pytest.param((OTHER,), True, 2, id="the named one's is gone: it takes the other's"),
        pytest.param((KEY, OTHER), False, 1, id="both are gone: the named one keeps its own"),
    ],
)
def test_a_merge_keeps_the_guest_that_is_there_and_asks_for_the_one_that_it_drops(
    gone: tuple[GuestKey, ...], *, takes: bool, dropped: int
) -> None:
    there: list[dict[str, Any]] = [{}, {"vmid": 200, "fingerprint": "smbios:b"}]
    case = Case(
        {"fingerprint": "smbios:b"}, tuple(g for g in there if GuestKey("main", g.get("vmid", 100)) not in gone), gone,
        MERGED, "",
    )  # fmt: skip
    (merge,) = planned(case).changes
    assert isinstance(merge, Merge)
    assert (merge.survivor.id, merge.takes_guest) == (2, takes)
    assert [[r.id for r in one.records] for one in merge.confirm if isinstance(one, OneGuestIsGone)] == [[dropped]]
    assert ("it keeps the guest of VPS 1 (main/100)" in merge.reason) is takes
    plain = replace(merge, takes_guest=False)
    assert (plan_hash((merge,)) != plan_hash((plain,))) is takes, "an approval is for one of the two guests"


@pytest.mark.parametrize("takes", [True, False])
def test_a_survivor_that_takes_the_guest_is_not_missing_it(*, takes: bool) -> None:
    known: Row = {"order_id": "1", "order_changed_at": ago(), "power_changed_at": ago(), "vmid": 105}
    survivor: Row = dict.fromkeys(LINK_COLUMNS, "gone") | known | {"missing_since": ago(hours=1)}
    loser: Row = dict.fromkeys(LINK_COLUMNS, "there") | known | {"missing_since": None}
    own: Row = dict.fromkeys(LINK_COLUMNS, "there") | {"vmid": 105, "guest_linked_once": True, "missing_since": None}
    assert inherited(survivor, loser, takes_guest=takes) == (own if takes else {})


def test_an_order_that_changed_hands_keeps_its_two_records_together() -> None:
    """The record that the order was linked with is part of the doubt, too: its findings are not taken for resolved."""
    seen = world(orders=(order(panel_vps_id=2, user_id=6, owner="6"),), records=(record(), record(**LOOSE | {"id": 2})))
    (case,) = match(seen, POLICY)
    assert (case.doubt_class, case.record, case.duplicate) == ("ownership", seen.records[1], seen.records[0])
    assert plan(seen, POLICY).changes == ()


def test_a_column_that_slipped_merges_nothing_in_bulk() -> None:
    """Every order names the record below its own: as many merges as orders, each plausible by itself."""
    count = 50
    seen = world(
        orders=tuple(order(order_id=str(n), panel_vps_id=1000 + n, vmid=100 + n) for n in range(count)),
        guests=tuple(guest(vmid=100 + n, fingerprint=f"smbios:{n}") for n in range(count)),
        records=tuple(
            made
            for n in range(count)
            for made in (
                record(id=1 + n, order_id=str(n), vmid=100 + n, fingerprint=f"smbios:{n}"),
                record(**LOOSE | {"id": 1000 + n}),
            )
        ),
    )
    gated = gate(plan(seen, POLICY), GateContext(live=2 * count), Budget())
    assert [(h.scope, len(h.changes)) for h in gated.held] == [("merges", count)]
    assert Kind.MERGE not in {c.kind for c in gated.allowed}


@pytest.mark.parametrize(
    ("unnamed", "merged"),
    [
        pytest.param(None, False, id="any guest"),
        pytest.param((guest(vmid=900, name="x"),), False, id="one of its size"),
        pytest.param((guest(vmid=900, name="x", cores=9.0, first_seen_at=ago(days=50)),), True, id="another one"),
    ],
)
def test_a_guest_that_was_left_out_may_be_the_twins(unnamed: tuple[Guest, ...] | None, *, merged: bool) -> None:
    seen = world(
        orders=(order(),),
        guests=(guest(),),
        records=(record(), record(**LOOSE | {"id": 2, "created_at": ago(days=20, seconds=-9)})),
    )
    assert [c.kind for c in plan(seen, POLICY).changes] == [Kind.MERGE]
    seen = replace(seen, left_out=LeftOut(unnamed=unnamed))
    assert (Kind.MERGE in {c.kind for c in plan(seen, POLICY).changes}) is merged


@pytest.mark.parametrize(("state", "merged"), [(LinkState.VERIFIED, True), (LinkState.PUSHED, False)])
def test_a_guest_that_only_a_call_gave_to_the_other_record_may_be_the_twins(*, state: LinkState, merged: bool) -> None:
    held = record(link_state=state, fingerprint="smbios:a" if merged else None)
    twin = record(**LOOSE | {"id": 2, "created_at": ago(days=20, seconds=-9), "link_state": LinkState.CONFLICT})
    sold = order(cluster=None, node=None, vmid=None)
    made = plan(world(orders=(sold,), guests=(guest(),), records=(held, twin)), POLICY)
    assert (Kind.MERGE in {c.kind for c in made.changes}) == merged


@pytest.mark.parametrize(
    ("elsewhere", "absences", "merged"),
    [
        pytest.param(set(), {}, True, id="nowhere else"),
        pytest.param({GuestKey("second", 300)}, {}, False, id="seen in another cluster"),
        pytest.param({GuestKey("second", 300)}, {GuestKey("second", 300): absence()}, True, id="gone from there, too"),
    ],
)
def test_a_machine_is_not_gone_with_its_old_address(
    *, elsewhere: set[GuestKey], absences: dict[GuestKey, Absence], merged: bool
) -> None:
    both = frozenset({"main", "second"})
    other = record(id=2, order_id=None, vmid=101, fingerprint="smbios:b")
    seen = world(
        orders=(order(panel_vps_id=2, vmid=None),),
        guests=(guest(vmid=101, fingerprint="smbios:b"),),
        records=(record(), other),
        guest_absences={KEY: absence()} | absences,
        sightings={"smbios:a": frozenset({KEY} | elsewhere)},
        clusters=both,
        trusted=both,
    )
    merges = [c for c in plan(seen, POLICY).changes if c.kind is Kind.MERGE]
    assert bool(merges) is merged
    asked = [one for c in merges for one in c.confirm if isinstance(one, OneGuestIsGone)]
    assert len(asked) == len(merges)
    assert all(set(one.elsewhere) == elsewhere for one in asked), "they are asked for singly"


# --- the look-ups just before the write


@dataclass(frozen=True)
class Cluster:
    """Answers what ``answers`` says of a VMID."""

    answers: dict[int, Any]
    cluster: str = "main"

    def confirm(self, node: str, guest_type: GuestType, vmid: int) -> Any:
        del node, guest_type
        return self.answers[vmid]


THERE = {
    100: Found(GuestConfig("smbios:a", "pve1", 2.0, 4096, 50)),
    200: Found(GuestConfig("smbios:b", "pve1", 2.0, 4096, 50)),
}
GONE = Gone("no configuration")


@pytest.mark.parametrize(
    ("said", "written"),
    [
        pytest.param({}, False, id="both are there after all"),
        pytest.param({100: GONE}, False, id="the one that is kept is gone"),
        pytest.param({200: GONE}, True, id="the one that is dropped is gone"),
        pytest.param({100: Unclear("595"), 200: Unclear("595")}, False, id="nobody can say"),
    ],
)
def test_of_two_guests_one_must_be_gone_when_asked_for_singly(*, said: dict[int, Any], written: bool) -> None:
    (merge,) = planned(CASES[4]).changes
    sources: Any = {"main": Cluster(THERE | said)}
    everywhere = frozenset({"main"})
    confirmer = Confirmer(NO_DATABASE, None, sources, everywhere, everywhere)
    why, _ = confirmer.hindrance(replace(merge, confirm=merge.confirm[:1]))
    assert (why is None) == written, why


@pytest.mark.parametrize(
    ("now", "why"),
    [
        pytest.param(Found(order(panel_vps_id=2)), None, id="it names the same record"),
        pytest.param(Found(order(panel_vps_id=1)), "order 1 names another VPS by now", id="it names the other one"),
        pytest.param(Found(order(panel_vps_id=None)), "order 1 names another VPS by now", id="it names none any more"),
        pytest.param(
            Found(order(panel_vps_id=2, owner="2")), "order 1 does not name the same owner any more", id="another owner"
        ),
        pytest.param(GONE, "order 1 is gone by now", id="it is gone"),
        pytest.param(Unclear("503"), "order 1 could not be confirmed: 503", id="unclear"),
    ],
)
def test_the_order_must_still_name_the_surviving_record(
    monkeypatch: pytest.MonkeyPatch, now: Any, why: str | None
) -> None:
    (merge,) = planned(CASES[0]).changes
    monkeypatch.setattr(confirming, "control_order", lambda *_, **__: "9")
    assert _confirmed(merge, now) == why


def _confirmed(change: Change, now: Any) -> str | None:
    class Feed:
        def order(self, order_id: str, control: str | None) -> Any:
            assert (order_id, control) == ("1", "9")
            return now

    feed: Any = Feed()
    return Confirmer(NO_DATABASE, feed, {}, frozenset(), frozenset()).hindrance(change)[0]


@pytest.mark.parametrize(
    ("now", "why"),
    [
        pytest.param(order(), None, id="it names that guest"),
        pytest.param(order(cluster=None, vmid=None), None, id="it names none"),
        pytest.param(order(vmid=105), "order 1 names another guest by now", id="the list was an old copy"),
    ],
)
def test_a_record_is_made_for_the_guest_that_its_order_names_when_asked(
    monkeypatch: pytest.MonkeyPatch, now: Any, why: str | None
) -> None:
    (create,) = plan(world(orders=(order(),), guests=(guest(),)), POLICY).changes
    monkeypatch.setattr(confirming, "control_order", lambda *_, **__: "9")
    assert (create.kind, _confirmed(create, Found(now))) == (Kind.CREATE, why)


def test_the_guest_of_a_record_that_was_never_looked_at_is_not_gone_because_it_has_an_identity() -> None:
    never = record(**SECOND | {"fingerprint": None, "link_state": LinkState.PUSHED})
    seen = world(orders=(order(panel_vps_id=2),), guests=(), records=(record(), never), guest_absences={KEY: absence()})
    (merge,) = plan(seen, POLICY).changes
    sources: Any = {"main": Cluster(THERE)}
    everywhere = frozenset({"main"})
    confirmer = Confirmer(NO_DATABASE, None, sources, everywhere, everywhere)
    why, _ = confirmer.hindrance(replace(merge, confirm=merge.confirm[:1]))
    assert why is not None
