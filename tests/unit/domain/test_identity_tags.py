"""Tags that say who a guest is: one that two guests of a cluster have makes both of them clones."""

from __future__ import annotations

import pytest

from domain.guests import PowerState, identity_tags
from reconcile.decision.decide import plan
from reconcile.decision.failure_isolation import parts
from tests.unit.reconcile.worlds import NOW, POLICY, guest, order, record, world

TAG = "pnl-0b7a4a4e-3c8b-4b0e-9d55-0f1f3b7a1c11"
OTHER = "pnl-5d0f2a43-9e0c-4f4c-8a54-7b8f1f0d2e22"
STOPPED = {"power": PowerState.STOPPED, "status": "stopped", "previous_read_at": NOW}


@pytest.mark.parametrize(
    ("tags", "marks"),
    [
        (("blue", TAG, "web"), (TAG,)),
        ((OTHER, TAG, TAG), (TAG, OTHER)),
        (("pnl-1", "pnl-", TAG + "0", "x" + TAG, TAG.upper(), TAG + "\n"), ()),
        ((), ()),
    ],
)
def test_only_a_whole_uuid_is_an_identity(tags: tuple[str, ...], marks: tuple[str, ...]) -> None:
    assert identity_tags(tags) == marks


def test_a_tag_of_its_own_changes_nothing() -> None:
    seen = world(orders=(order(),), guests=(guest(tags=(TAG,), **STOPPED),), records=(record(),))
    (change,) = plan(seen, POLICY).changes
    assert change.values["power_state"] == "stopped"


def test_two_guests_with_one_tag_are_clones_and_neither_is_touched() -> None:
    copy = guest(vmid=101, fingerprint="smbios:b", tags=(TAG,))
    seen = world(orders=(order(),), guests=(guest(tags=(TAG,), **STOPPED), copy), records=(record(),))
    made = plan(seen, POLICY)
    assert made.changes == ()
    assert [(f.class_, f.subject) for f in made.findings] == [
        ("ambiguous", "vps:1"),
        ("duplicate-fingerprint", "guest:main/101"),
    ]
    assert all(f"the tag {TAG} of guest" in f.reason for f in made.findings)


def test_an_order_that_names_a_clone_by_tag_makes_no_record() -> None:
    seen = world(orders=(order(),), guests=(guest(tags=(TAG,)), guest(vmid=101, fingerprint="smbios:b", tags=(TAG,))))
    assert plan(seen, POLICY).changes == ()


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"vmid": 101, "tags": (OTHER,)}, id="another tag"),
        pytest.param({"vmid": 101, "tags": (TAG,), "template": True}, id="the template it was made from"),
        pytest.param({"vmid": 101, "tags": ("pnl-1",)}, id="no identity"),
        pytest.param({"cluster": "second", "tags": (TAG,)}, id="another cluster"),
    ],
)
def test_what_is_no_clone(other: dict[str, object]) -> None:
    names = frozenset({"main", "second"})
    there = guest(**{"fingerprint": "smbios:b", **other})
    seen = world(
        orders=(order(),), guests=(guest(tags=(TAG,), **STOPPED), there), records=(record(),), clusters=names,
        trusted=names,
    )  # fmt: skip
    assert [c.values.get("power_state") for c in plan(seen, POLICY).changes] == ["stopped"]


def test_clones_by_tag_belong_together_where_one_of_them_cannot_be_read() -> None:
    clones = (guest(tags=(TAG,)), guest(vmid=101, fingerprint="smbios:b", tags=(TAG,)))
    apart = guest(vmid=102, fingerprint="smbios:c", tags=(OTHER,))
    assert sorted(len(part.guests) for part in parts(world(guests=(*clones, apart)))) == [1, 2]
