"""When a guest counts as gone: where it was looked for, where nobody could look, and who may be it all the same."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from domain.changes import Kind
from domain.confirmations import GuestIsGone, OrderIsOver
from domain.guests import FingerprintState, GuestKey, GuestType
from domain.orders import OrderState
from domain.records import LinkState
from reconcile.decision.decide import plan
from tests.unit.reconcile.decision.deletes.proven_ends import asked, deletes, ended, orphan
from tests.unit.reconcile.worlds import KEY, POLICY, UNLINKED, absence, ago, guest, order, questions, record, world


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (
            {
                "clusters": frozenset(),
                "trusted": frozenset(),
                "records": (record(fingerprint=None, link_state=LinkState.PUSHED),),
            },
            "no Proxmox is configured, nor ever was",
        ),
        ({"records": (record(**UNLINKED | {"hypervisor": "vmware"}),)}, "another hypervisor"),
        ({"records": (record(**UNLINKED),)}, "nobody ever said which guest it is"),
        ({"records": (record(**UNLINKED | {"guest_linked_once": True}),)}, "its guest was replaced and given up"),
    ],
)
def test_where_no_guest_can_be_looked_for_the_ended_order_is_enough(values: dict[str, Any], reason: str) -> None:
    silent = {"cluster": None, "vmid": None, "node": None}
    seen = ended(silent, guest_absences={}) if "clusters" not in values else ended(guest_absences={})
    seen = replace(seen, **values)
    (change,) = deletes(plan(seen, POLICY))
    assert questions(change) == (OrderIsOver,), reason
    young = replace(seen, orders=tuple(replace(o, state_since=ago(minutes=9)) for o in seen.orders))
    assert deletes(plan(young, POLICY)) == [], "the end must have stood for as long as a proof takes"


def test_a_replaced_guest_of_an_ended_order_counts_as_gone() -> None:
    seen = ended(guest_absences={}, guests=(guest(fingerprint="smbios:other"),))
    (change,) = deletes(plan(seen, POLICY))
    assert change.evidence["replaced"] is True


def test_a_machine_that_was_seen_elsewhere_is_not_gone_with_its_old_address() -> None:
    elsewhere = GuestKey("second", 7)
    clusters = frozenset({"main", "second"})
    seen = replace(ended(), clusters=clusters, trusted=clusters, sightings={"smbios:a": frozenset({KEY, elsewhere})})
    assert [c for c in plan(seen, POLICY).changes if c.action == "delete"] == []
    (held,) = plan(seen, POLICY).findings
    assert "was seen at second/7, and nothing proves that it is gone" in held.reason
    gone = replace(seen, guest_absences={**seen.guest_absences, elsewhere: absence()})
    (deleted,) = plan(gone, POLICY).changes
    (gone_from, _) = deleted.confirm
    assert isinstance(gone_from, GuestIsGone)
    assert (deleted.kind, gone_from.elsewhere) == (Kind.DELETE, (elsewhere,))


UNKNOWN = guest(vmid=300, name="somebody", fingerprint=None, fingerprint_state=FingerprintState.FORBIDDEN)


@pytest.mark.parametrize(
    ("stranger", "held"),
    [
        pytest.param({}, True, id="as large as it"),
        pytest.param({"cores": 8.0, "memory_mb": 16384}, False, id="of another size and name"),
        pytest.param({"cores": 8.0, "memory_mb": 16384, "name": "web"}, True, id="of its name"),
        pytest.param({"cores": 8.0, "memory_mb": 16384, "name": None}, True, id="of no known name"),
        pytest.param({"cores": None, "memory_mb": None}, True, id="of no known size"),
        pytest.param({"guest_type": GuestType.LXC}, False, id="of another type"),
    ],
)
def test_nobody_is_gone_while_a_guest_that_nobody_knows_may_be_his(*, stranger: dict[str, Any], held: bool) -> None:
    crowd = (replace(UNKNOWN, **stranger),)
    told = record(order_state=OrderState.ENDED, order_changed_at=ago(hours=1))
    for seen in (ended(unidentified=crowd, records=(told,)), orphan(unidentified=crowd)):
        made = plan(seen, POLICY)
        assert bool(deletes(made)) is not held
        assert len(asked(made)) == held, "an operator may say that it is another one"
    missing = world(
        orders=(order(),), records=(record(),), guest_absences={KEY: absence(minutes=40)}, unidentified=crowd
    )
    assert bool(plan(missing, POLICY).changes) is not held, "nor is it called missing"


def test_where_too_many_are_not_looked_at_yet_nobody_is_gone() -> None:
    assert deletes(plan(ended(unidentified=None), POLICY)) == []
    (held,) = plan(ended(unidentified=None), POLICY).findings
    assert held.reason == "too many guests are not identified yet, and one may be the machine of VPS 1"


def test_whose_address_is_another_machine_s_by_now_may_have_moved_all_the_same() -> None:
    """Moving away frees an address, and the next machine gets the lowest free one."""
    seen = ended(guest_absences={}, guests=(guest(fingerprint="smbios:other"),))
    assert len(deletes(plan(seen, POLICY))) == 1
    assert deletes(plan(replace(seen, unidentified=(UNKNOWN,)), POLICY)) == []


@pytest.mark.parametrize(
    ("last", "held"),
    [
        pytest.param({"cores": 8.0, "memory_mb": 16384, "name": "vm-4711"}, True, id="as large as it was"),
        pytest.param({"name": "somebody", "memory_mb": 1}, True, id="called as it was"),
        pytest.param({"memory_mb": 1, "name": "other"}, False, id="neither"),
    ],
)
def test_what_a_machine_was_when_it_was_listed_counts_like_what_was_sold(*, last: dict[str, Any], held: bool) -> None:
    crowd = (replace(UNKNOWN, cores=8.0, memory_mb=16384),)
    seen = ended(unidentified=crowd, remembered=(guest(**last),))
    assert bool(deletes(plan(seen, POLICY))) is not held


@pytest.mark.parametrize(
    ("read", "held"),
    [
        pytest.param({}, True, id="never read"),
        pytest.param({"second": ago(minutes=21)}, True, id="not since it was missed"),
        pytest.param({"second": ago(minutes=19)}, False, id="read since, and it was not there"),
    ],
)
def test_nobody_is_gone_while_a_cluster_was_not_looked_at_since(*, read: dict[str, Any], held: bool) -> None:
    seen = ended(clusters=frozenset({"main", "second"}), last_read=read)
    made = plan(seen, POLICY)
    assert bool(deletes(made)) is not held
    if held:
        (found,) = made.findings
        assert found.reason.startswith("cluster second was not read since the machine of VPS 1 was missed")
