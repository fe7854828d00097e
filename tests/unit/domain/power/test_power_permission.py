"""May this power action be done? Every doubt refuses, with a code and a sentence of its own."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import timedelta
from typing import Any

import pytest

from domain.guests import FingerprintState, GuestType, PowerState
from domain.orders import OrderState
from domain.power.permission import DOUBTFUL_FINDINGS, Facts, Listed, Refusal, Seen, hindrance
from domain.records import LinkState

STALE = timedelta(minutes=10)
SEEN = Seen(OrderState.ACTIVE, user_id=5, names_guest=True, names_record=True, missed=False)
LISTED = Listed(PowerState.RUNNING, GuestType.QEMU, "smbios:a", FingerprintState.READ, absent=False, template=False,
                twins=False)  # fmt: skip
SURE = Facts(
    live=True, user_id=5, order_state=OrderState.ACTIVE, link_state=LinkState.VERIFIED, fingerprint="smbios:a",
    guest_type=GuestType.QEMU, has_place=True, in_flight=False, missing=False, age=timedelta(minutes=1), order=SEEN,
    guest=LISTED, claimed_elsewhere=False, findings=frozenset(), change_held=False, paused=False, quarantined=False,
    cluster_away=False, orders_stale=False,
)  # fmt: skip

CASES: list[tuple[str, dict[str, Any], str, int, bool]] = [
    ("another customer's", {"user_id": 6}, "vps_unknown", 404, False),
    ("deleted", {"live": False}, "vps_unknown", 404, False),
    ("a call is not applied yet", {"in_flight": True}, "vps_changing", 409, True),
    ("the record is suspended", {"order_state": OrderState.SUSPENDED}, "vps_suspended", 409, False),
    ("the order is suspended, the record not yet",
     {"order": replace(SEEN, state=OrderState.SUSPENDED)}, "vps_suspended", 409, False),
    ("the order ended", {"order": replace(SEEN, state=OrderState.ENDED)}, "order_not_active", 409, False),
    ("the record's order is pending", {"order_state": OrderState.PENDING}, "order_not_active", 409, False),
    ("a word that nobody knows", {"order_state": OrderState.UNKNOWN}, "order_not_active", 409, False),
    ("the order was never read", {"order": None}, "owner_in_doubt", 409, False),
    ("the order is missed", {"order": replace(SEEN, missed=True)}, "owner_in_doubt", 409, False),
    ("the order is another customer's", {"order": replace(SEEN, user_id=6)}, "owner_in_doubt", 409, False),
    ("the order's owner is not mapped", {"order": replace(SEEN, user_id=None)}, "owner_in_doubt", 409, False),
    ("the order names another guest", {"order": replace(SEEN, names_guest=False)}, "owner_in_doubt", 409, False),
    ("the order names another record", {"order": replace(SEEN, names_record=False)}, "owner_in_doubt", 409, False),
    ("another order names the guest", {"claimed_elsewhere": True}, "owner_in_doubt", 409, False),
    ("paused", {"paused": True}, "vps_paused", 409, False),
    ("in quarantine", {"quarantined": True}, "vps_quarantined", 409, False),
    ("a change waits for an operator", {"change_held": True}, "vps_in_doubt", 409, False),
    *((f"the finding {name} is open", {"findings": frozenset({name})}, "vps_in_doubt", 409, False)
      for name in DOUBTFUL_FINDINGS),
    ("no link", {"link_state": LinkState.UNLINKED}, "not_linked", 409, False),
    ("a link in conflict", {"link_state": LinkState.CONFLICT}, "not_linked", 409, False),
    ("no node, or a cluster that is not configured", {"has_place": False}, "not_linked", 409, False),
    ("only pushed", {"link_state": LinkState.PUSHED}, "identity_unverified", 409, False),
    ("not readable", {"link_state": LinkState.UNVERIFIED}, "identity_unverified", 409, False),
    ("no fingerprint", {"fingerprint": None}, "identity_unverified", 409, False),
    ("not known whether machine or container", {"guest_type": None}, "identity_unverified", 409, False),
    ("the cluster is away", {"cluster_away": True}, "cluster_away", 503, True),
    ("the orders were not read lately", {"orders_stale": True}, "facts_stale", 409, True),
    ("no list showed the guest", {"guest": None}, "guest_unknown", 409, False),
    ("a list left the guest out", {"guest": replace(LISTED, absent=True)}, "guest_unknown", 409, False),
    ("the guest is missing", {"missing": True}, "guest_unknown", 409, False),
    ("a template", {"guest": replace(LISTED, template=True)}, "identity_in_doubt", 409, False),
    ("a clone", {"guest": replace(LISTED, twins=True)}, "identity_in_doubt", 409, False),
    ("in doubt", {"guest": replace(LISTED, fingerprint_state=FingerprintState.STALE)}, "identity_in_doubt", 409, True),
    ("never read", {"guest": replace(LISTED, fingerprint_state=FingerprintState.UNREAD)}, "identity_unverified", 409,
     False),
    ("forbidden", {"guest": replace(LISTED, fingerprint_state=FingerprintState.FORBIDDEN)}, "identity_unverified", 409,
     False),
    ("another machine", {"guest": replace(LISTED, fingerprint="smbios:b")}, "another_machine", 409, False),
    ("another kind of guest", {"guest": replace(LISTED, guest_type=GuestType.LXC)}, "another_machine", 409, False),
    ("not confirmed lately", {"age": STALE + timedelta(seconds=1)}, "facts_stale", 409, True),
    ("no known state", {"guest": replace(LISTED, power=PowerState.UNKNOWN)}, "guest_unknown", 409, True),
]  # fmt: skip


def test_nothing_stands_against_a_vps_of_which_nothing_is_in_doubt() -> None:
    assert hindrance(SURE, 5, orders_read=True, stale_after=STALE) is None


@pytest.mark.parametrize(("_name", "changed", "code", "status", "passing"), CASES, ids=[case[0] for case in CASES])
def test_every_doubt_refuses(_name: str, changed: dict[str, Any], code: str, status: int, *, passing: bool) -> None:
    refusal = hindrance(replace(SURE, **changed), 5, orders_read=True, stale_after=STALE)
    assert isinstance(refusal, Refusal)
    assert (refusal.code, refusal.status, refusal.passing) == (code, status, passing)
    assert refusal.message[0].isupper()


def test_every_fact_is_looked_at() -> None:
    """A fact that no case changes would be one that the decision forgot."""
    assert {name for _, changed, *_ in CASES for name in changed} == {field.name for field in fields(Facts)}


def test_without_a_feed_the_calls_alone_say_whose_it_is() -> None:
    assert hindrance(replace(SURE, order=None), 5, orders_read=False, stale_after=STALE) is None
    suspended = replace(SURE, order=None, order_state=OrderState.SUSPENDED)
    refusal = hindrance(suspended, 5, orders_read=False, stale_after=STALE)
    assert refusal is not None
    assert refusal.code == "vps_suspended"
