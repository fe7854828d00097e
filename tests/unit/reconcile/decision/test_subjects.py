"""What a run is about: the subject that was asked for, less what is paused."""

from __future__ import annotations

import pytest

from domain.changes import (
    Change,
    ChangeOwner,
    ChangePlan,
    Create,
    Delete,
    Finding,
    Link,
    Merge,
    SetSize,
    SetStatus,
    Unlink,
)
from domain.confirmations import NextOrderNamesGuest, OrderGoesOn, OrderIsOver, PaidGuestIsMissing
from domain.guests import GuestKey
from reconcile.decision.subjects import Paused, Subject, SubjectKind, parse_subject
from tests.unit.reconcile.worlds import KEY, order, record

OF_RECORD = SetStatus(source="proxmox", reason="why", record=record(id=17, user_id=5, cluster="main"))
OF_GUEST = Link(source="proxmox", reason="why", record=record(id=18), guest_key=GuestKey("second", 300))
OF_ORDER = SetSize(source="orders", reason="why", record=record(id=19, cluster=None, vmid=None))
CREATE = Create(source="orders", reason="why", order=order(user_id=6, cluster="second", vmid=301))
DELETE = Delete(source="panel-api", reason="why", record=record(id=20), confirm=(OrderIsOver("1"),))
MERGE = Merge(source="orders", reason="why", record=record(id=21), survivor=record(id=22))
UNLINK = Unlink(
    source="proxmox", reason="why", record=record(id=24, cluster="third"), confirm=(NextOrderNamesGuest("2", KEY),)
)
LEFT = record(id=25, cluster="third")
MISSING = SetStatus(
    source="proxmox",
    reason="why",
    record=LEFT,
    confirm=(PaidGuestIsMissing(LEFT, KEY, ()), OrderGoesOn("1", order())),
)
OWNER = ChangeOwner(source="orders", reason="why", record=record(id=23, user_id=5), values={"user_id": 7})


@pytest.mark.parametrize(
    ("said", "subject"),
    [
        ("vps:17", Subject(SubjectKind.VPS, "17")),
        ("user:5", Subject(SubjectKind.USER, "5")),
        ("cluster:fra-1.a", Subject(SubjectKind.CLUSTER, "fra-1.a")),
        ("", None),
        ("vps:0", None),
        ("vps:x", None),
        ("vps:17 ", None),
        ("cluster:", None),
        ("node:pve1", None),
    ],
)
def test_parse(said: str, subject: Subject | None) -> None:
    assert parse_subject(said) == subject
    if subject is not None:
        assert str(subject) == said


@pytest.mark.parametrize(
    ("said", "change", "covered"),
    [
        ("vps:17", OF_RECORD, True),
        ("vps:1", OF_RECORD, False),
        ("vps:22", MERGE, True),
        ("vps:21", MERGE, True),
        ("user:5", OF_RECORD, True),
        ("user:6", CREATE, True),
        ("user:7", OWNER, True),
        ("user:5", OWNER, True),
        ("user:6", OWNER, False),
        ("cluster:main", OF_RECORD, True),
        ("cluster:second", OF_GUEST, True),
        ("cluster:second", CREATE, True),
        ("cluster:second", OF_RECORD, False),
    ],
)
def test_covers(said: str, change: Change, covered: bool) -> None:
    subject = parse_subject(said)
    assert subject is not None
    assert subject.covers(change) is covered


@pytest.mark.parametrize(
    ("paused", "left"),
    [
        pytest.param(Paused(), (OF_RECORD, OF_GUEST, OF_ORDER, CREATE, DELETE, MERGE), id="nothing"),
        pytest.param(Paused(frozenset({"second"})), (OF_RECORD, OF_ORDER, DELETE, MERGE), id="a cluster"),
        pytest.param(Paused(frozenset({"main"})), (OF_ORDER, CREATE), id="where most records are"),
        pytest.param(Paused(feed=True), (OF_RECORD, OF_GUEST), id="the main site"),
    ],
)
def test_a_pause_spares_what_concerns_its_source(paused: Paused, left: tuple[Change, ...]) -> None:
    everything = (OF_RECORD, OF_GUEST, OF_ORDER, CREATE, DELETE, MERGE)
    assert paused.without_paused(ChangePlan(everything, ())).changes == left


@pytest.mark.parametrize("change", [UNLINK, MISSING], ids=["unlinked for an order", "missing, yet paid for"])
def test_a_pause_of_the_main_site_spares_what_an_order_has_a_say_in(change: Change) -> None:
    assert Paused(feed=True).without_paused(ChangePlan((change,), ())).changes == ()
    assert Paused(frozenset({"main"})).without_paused(ChangePlan((change,), ())).changes == (change,)


def test_a_pause_mutes_what_is_said_of_its_cluster() -> None:
    there, elsewhere = Finding("moving", "guest:a/1", "why", cluster="a"), Finding("spec", "vps:1", "why")
    assert Paused(frozenset({"a"})).without_paused(ChangePlan((), (there, elsewhere))).findings == (elsewhere,)
