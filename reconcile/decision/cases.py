"""A case: one order, one guest and one record that belong together, each perhaps absent. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from domain.absences import Absence
from domain.adoptions.decision import Adoption
from domain.guests import Guest, GuestKey
from domain.identity_doubts import GAP
from domain.left_out import LeftOut
from domain.orders import Order
from domain.records import LinkState, Record


class OrderView(StrEnum):
    """What is known of a case's order."""

    NONE_PROVEN = "none-proven"
    NONE_UNPROVEN = "none-unproven"
    PENDING = "pending"
    ACTIVE = "active"
    SUSPENDED = "suspended"
    ENDED = "ended"
    UNRECOGNISED = "unrecognised"


class GuestView(StrEnum):
    """What is known of a case's guest."""

    RUNNING = "running"
    STOPPED = "stopped"
    ERROR = "error"
    TRANSITIONAL = "transitional"  # under a lock: Proxmox is in the middle of something
    UNKNOWN = "unknown"
    TEMPLATE = "template"  # it became one: it cannot run any more, and does not become another's machine by itself
    NONE_PROVEN = "none-proven"
    NONE_UNPROVEN = "none-unproven"
    UNOBSERVABLE = "unobservable"  # nothing the panel reads could show it


class RecordView(StrEnum):
    """Whether the panel has a record."""

    NONE = "none"
    LIVE = "live"
    TOMBSTONE = "tombstone"


@dataclass(frozen=True, slots=True)
class Policy:
    """Grace times and the proof of absence. All durations are timedeltas."""

    power_grace: timedelta = timedelta(seconds=20)
    link_grace: timedelta = timedelta(minutes=2)
    create_grace: timedelta = timedelta(minutes=3)
    stuck_creating: timedelta = timedelta(hours=2)
    paid_missing_grace: timedelta = timedelta(minutes=30)
    orphan_grace: timedelta = timedelta(hours=24)
    ended_retention: timedelta = timedelta(days=7)
    deleted_alive_grace: timedelta = timedelta(minutes=3)
    lock_protects: timedelta = timedelta(hours=2)
    spec_grace: timedelta = timedelta(hours=1)
    moving_for: timedelta = timedelta(hours=2)
    read_gap: timedelta = GAP  # a cluster that was not read for longer may have other machines at the same addresses
    proof_n: int = 3
    proof_t: timedelta = timedelta(minutes=10)

    def proven(self, absence: Absence | None) -> bool:
        """Absent often enough and for long enough to be believed."""
        return (
            absence is not None
            and absence.consecutive >= self.proof_n
            and absence.last_seen_absent_at - absence.absent_since >= self.proof_t
        )


@dataclass(frozen=True, slots=True)
class World:
    """What a run observed, as far as it matters to the cases it decides.

    ``now`` is the database's clock. ``orders`` are those that are listed. ``missed_orders`` are known orders that a
    complete sweep left out and that are not proven gone: each still claims the guest, the record and the name that it
    had, and nothing is decided about it. ``clusters`` are the configured ones, ``trusted`` those whose read may be
    used now. ``orders_at`` is the effective time of the newest complete sweep of the order feed and
    ``previous_orders_at`` of the one before it. ``orders_read_before``: if this run read the feed to its end, in full
    or what changed, the effective time of the last such read before it. ``has_feed`` is False where no main site is
    configured.
    ``sightings``: the addresses at which each fingerprint was read last, listed now or not. ``left_out``: what matters
    to a decision but was not loaded. All that may belong together with an object of this world is loaded.
    ``unlisted``: known guests that a trusted read does not show and that are not counted as absent either (their node
    left the cluster, or is not read completely), and since when. ``unidentified``: guests of all clusters, selected or
    not, whose identity is not known now and that are not known to be gone; None: too many. ``remembered``: guests that
    are not listed now, as they were last listed. ``last_read``: when the last trusted read of each cluster began.
    ``adoptions``: by order, the operators' adoptions that stand. Those orders name the adopted guest here.
    """

    now: datetime
    orders: tuple[Order, ...] = ()
    guests: tuple[Guest, ...] = ()
    records: tuple[Record, ...] = ()
    order_absences: dict[str, Absence] = field(default_factory=dict)
    guest_absences: dict[GuestKey, Absence] = field(default_factory=dict)
    clusters: frozenset[str] = frozenset()
    trusted: frozenset[str] = frozenset()
    orders_at: datetime | None = None
    previous_orders_at: datetime | None = None
    orders_read_before: datetime | None = None
    has_feed: bool = True
    names_are_authoritative: bool = True
    feed: str = "orders"
    sightings: Mapping[str, frozenset[GuestKey]] = field(default_factory=dict)
    left_out: LeftOut = field(default_factory=LeftOut)
    unlisted: Mapping[GuestKey, datetime] = field(default_factory=dict)
    unidentified: tuple[Guest, ...] | None = ()
    remembered: tuple[Guest, ...] = ()
    last_read: Mapping[str, datetime] = field(default_factory=dict)
    missed_orders: tuple[Order, ...] = ()
    adoptions: Mapping[str, Adoption] = field(default_factory=dict)

    @property
    def claiming_orders(self) -> tuple[Order, ...]:
        """All orders that may own a guest or a record: those that are listed, and those that are not proven gone."""
        return self.orders + self.missed_orders


@dataclass(frozen=True, slots=True)
class Case:
    """What belongs together. ``replaced``: another guest has the address of the record's guest now.

    ``duplicate``: a second live record for the same order or guest, to be merged with ``record``.
    ``doubt``: why nothing may be concluded for its members (ambiguous, quarantined); such a case is held.
    ``dispute``: why the guest that a call named for the record is not its own, and what to do.
    ``sold_to``: another order, not ended, that names the record's own machine, while the record's order does not go on.
    """

    order: Order | None = None
    guest: Guest | None = None
    record: Record | None = None
    guest_key: GuestKey | None = None
    replaced: bool = False
    duplicate: Record | None = None
    doubt: str | None = None
    doubt_class: str = "ambiguous"
    doubt_severity: str | None = None  # None: the class's own
    sold_to: Order | None = None
    dispute: str | None = None


def order_view(case: Case, world: World, policy: Policy) -> OrderView:
    """Place a case's order on the table's first axis."""
    if case.order is not None:
        return _ORDER_VIEWS[case.order.state.value]
    if case.record is None:
        # For a guest alone, the last complete sweep proves that no order names it, unless it left out one that does.
        missed = any(o.guest_key == case.guest_key for o in world.missed_orders)
        return OrderView.NONE_PROVEN if world.orders_at is not None and not missed else OrderView.NONE_UNPROVEN
    if case.record.order_id is not None and policy.proven(world.order_absences.get(case.record.order_id)):
        return OrderView.NONE_PROVEN
    return OrderView.NONE_UNPROVEN


_ORDER_VIEWS = {
    "pending": OrderView.PENDING,
    "active": OrderView.ACTIVE,
    "suspended": OrderView.SUSPENDED,
    "ended": OrderView.ENDED,
    "unknown": OrderView.UNRECOGNISED,
}


def guest_view(case: Case, world: World, policy: Policy) -> GuestView:
    """Place a case's guest on the table's second axis."""
    if case.guest is not None:
        return _present_guest_view(case.guest, world, policy)
    key = case.guest_key
    if key is None or key.cluster not in world.clusters or not _on_proxmox(case):
        return GuestView.UNOBSERVABLE
    if case.replaced or gone_since_linked(case.record, key, world, policy):
        return GuestView.NONE_PROVEN
    return GuestView.NONE_UNPROVEN


def gone_since_linked(record: Record | None, key: GuestKey, world: World, policy: Policy) -> bool:
    """Whether a guest is proven absent, and was first missed after the record was linked to that address. If the record
    is not linked to it, the guest must have been absent for the time of a proof since the record was made."""
    absence = world.guest_absences.get(key)
    if absence is None or not policy.proven(absence):
        return False
    if record is None:
        return True
    if record.guest_key != key:  # an older absence may be that of the machine which had this address before
        return absence.last_seen_absent_at - record.created_at >= policy.proof_t
    return absence.absent_since > record.link_changed_at


def _present_guest_view(guest: Guest, world: World, policy: Policy) -> GuestView:
    if guest.cluster not in world.trusted:
        return GuestView.UNKNOWN
    if guest.template:
        return GuestView.TEMPLATE
    # "suspended" is hibernation, a resting state; any other lock protects for a while, then is a leftover.
    locked = guest.lock is not None and guest.lock != "suspended"
    if locked and (guest.lock_since is None or world.now - guest.lock_since < policy.lock_protects):
        return GuestView.TRANSITIONAL
    return GuestView(guest.power.value)


def seen_on_proxmox(record: Record) -> bool:
    """Whether a record's guest was found on Proxmox. Then it is a Proxmox guest, whatever hypervisor the main site
    names."""
    return record.fingerprint is not None or record.link_state in (LinkState.VERIFIED, LinkState.UNVERIFIED)


def _on_proxmox(case: Case) -> bool:
    if case.record is not None:
        return case.record.hypervisor == "proxmox" or seen_on_proxmox(case.record)
    return case.order is None or case.order.hypervisor in (None, "proxmox")


def record_view(case: Case) -> RecordView:
    """Place a case's record on the table's third axis."""
    if case.record is None:
        return RecordView.NONE
    return RecordView.LIVE if case.record.live else RecordView.TOMBSTONE


def order_to_ask(order: Order | None, record: Record | None) -> str | None:
    """The id of the order that the run looks up again: the case's order, else the one that the record names."""
    if order is not None:
        return order.order_id
    return record.order_id if record is not None else None
