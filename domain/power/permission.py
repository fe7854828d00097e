"""May this power action be done? One function over what the panel knows. The API asks it when the action is asked for,
and the worker asks it again just before it sends anything.

A wrong machine that is stopped cannot be made good again. So every doubt refuses.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from domain.guests import FingerprintState, GuestType, PowerState
from domain.orders import OrderState
from domain.records import LinkState

DOUBTFUL_FINDINGS = (
    "ambiguous", "deleted-but-alive", "duplicate-fingerprint", "entangled", "guest-unseen", "is-template",
    "link-conflict", "moving", "owner-unknown", "ownership", "sold-on", "unverified-guest",
)  # fmt: skip
"""While one of these findings about a VPS is open, it is not certain whose machine is whose."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an action is not done. ``message``: for the customer; it names nobody else. ``passing``: it may well be over
    in a moment, so a worker waits for that. ``status``: of the HTTP answer."""

    code: str
    message: str
    passing: bool = False
    status: int = 409


@dataclass(frozen=True, slots=True)
class Seen:
    """The order of a record as the feed showed it last. ``user_id``: the panel's id of its owner; None: it names
    somebody else than the record."""

    state: OrderState
    user_id: int | None
    names_guest: bool  # it names the record's guest, or none
    names_record: bool  # it names this record, or none
    missed: bool  # the last complete read did not list it


@dataclass(frozen=True, slots=True)
class Listed:
    """The guest at the record's address as the cluster listed it last. ``twins``: another guest or record has the same
    fingerprint or identity tag."""

    power: PowerState
    guest_type: GuestType
    fingerprint: str | None
    fingerprint_state: FingerprintState
    absent: bool
    template: bool
    twins: bool


@dataclass(frozen=True, slots=True)
class Facts:
    """All that the decision looks at. ``guest`` None: no list ever showed one. ``order`` None: the feed showed none.
    ``age``: how long ago the record's power state was confirmed. ``findings``: the classes of its open findings."""

    live: bool
    user_id: int
    order_state: OrderState
    link_state: LinkState
    fingerprint: str | None
    guest_type: GuestType | None
    has_place: bool  # cluster, VMID and node are known
    in_flight: bool  # an accepted call for it is not applied yet
    missing: bool
    age: timedelta
    order: Seen | None
    guest: Listed | None
    claimed_elsewhere: bool  # another order that has not ended names its guest, or this record
    findings: frozenset[str]
    change_held: bool  # a change of it waits for an operator
    paused: bool
    quarantined: bool  # runs fail at it; or, where no feed is read, the last call for it died
    cluster_away: bool
    orders_stale: bool  # the order feed was not read lately, or what it shows is not believed


def hindrance(facts: Facts, caller: int, *, orders_read: bool, stale_after: timedelta) -> Refusal | None:
    """Why the caller's action may not be done; None: it may. ``orders_read``: the panel reads an order feed, so the
    order must be known and agree."""
    return (
        _record(facts, caller)
        or _order(facts, orders_read=orders_read)
        or _operators(facts)
        or _link(facts)
        or _freshness(facts, stale_after)
    )


def _record(facts: Facts, caller: int) -> Refusal | None:
    if not facts.live or facts.user_id != caller:
        return Refusal("vps_unknown", "This VPS does not exist", status=404)
    if facts.in_flight:
        return Refusal("vps_changing", "This VPS is being changed; try again in a moment", passing=True)
    return None


def _order(facts: Facts, *, orders_read: bool) -> Refusal | None:
    states = {facts.order_state, *([facts.order.state] if facts.order is not None else [])}
    if OrderState.SUSPENDED in states:
        return Refusal("vps_suspended", "This VPS is suspended, so it can't be switched on or off")
    if states != {OrderState.ACTIVE}:
        return Refusal("order_not_active", "The order of this VPS is not active")
    if not orders_read:
        return None
    order = facts.order
    if order is None or order.missed:
        return Refusal("owner_in_doubt", "The order of this VPS could not be read yet; try again in a few minutes")
    if order.user_id != facts.user_id:
        return Refusal("owner_in_doubt", "It is being checked to whom this VPS belongs; ask the support")
    if not order.names_guest or not order.names_record or facts.claimed_elsewhere:
        return Refusal("owner_in_doubt", "It is being checked to which order this machine belongs; ask the support")
    return None


def _operators(facts: Facts) -> Refusal | None:
    if facts.paused:
        return Refusal("vps_paused", "The provider has paused this VPS, its cluster or its account for maintenance")
    if facts.quarantined:
        return Refusal("vps_quarantined", "The panel has trouble with this VPS; ask the support")
    if facts.change_held or not facts.findings.isdisjoint(DOUBTFUL_FINDINGS):
        return Refusal("vps_in_doubt", "What is known of this VPS is being checked; ask the support")
    return None


def _link(facts: Facts) -> Refusal | None:
    if facts.link_state in (LinkState.UNLINKED, LinkState.CONFLICT) or not facts.has_place:
        return Refusal("not_linked", "It is not known which machine belongs to this VPS")
    if facts.link_state is not LinkState.VERIFIED or facts.fingerprint is None or facts.guest_type is None:
        return Refusal("identity_unverified", "It was not verified yet which machine belongs to this VPS")
    if facts.cluster_away:
        return Refusal(
            "cluster_away", "The cluster of this VPS can't be reached; try again later", passing=True, status=503
        )
    guest = facts.guest
    if guest is None or guest.absent or facts.missing:
        return Refusal("guest_unknown", "The machine of this VPS was not found; ask the support")
    if guest.template or guest.twins:
        return Refusal("identity_in_doubt", "More than one machine looks like this VPS, or it is a template")
    if guest.fingerprint_state is FingerprintState.STALE:
        message = "It is being checked whether this is still the same machine; try again in a minute"
        return Refusal("identity_in_doubt", message, passing=True)
    if guest.fingerprint_state is not FingerprintState.READ or guest.fingerprint is None:
        return Refusal("identity_unverified", "The identity of this machine could not be read")
    if guest.fingerprint != facts.fingerprint or guest.guest_type is not facts.guest_type:
        return Refusal("another_machine", "Another machine has the address of this VPS; ask the support")
    return None


def _freshness(facts: Facts, stale_after: timedelta) -> Refusal | None:
    if facts.orders_stale:
        message = "The orders of the main site were not read lately; try again later"
        return Refusal("facts_stale", message, passing=True)
    if facts.age > stale_after:
        return Refusal("facts_stale", "The state of this VPS was not confirmed lately; try again later", passing=True)
    if facts.guest is not None and facts.guest.power is PowerState.UNKNOWN:
        return Refusal("guest_unknown", "Proxmox does not say how this machine runs; try again later", passing=True)
    return None
