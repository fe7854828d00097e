"""Brings orders, guests and records together into cases. Pure; the order of the input is irrelevant.

First by explicit keys (order.panel_vps_id, record.order_id), then by the machine (its address and an agreeing
fingerprint), last by (user, name) where that is unique. An ambiguous group is held as a whole: nothing in it counts as
missing or orphaned. A bare VMID never matches, nor does a name against a disagreeing fingerprint.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime, timedelta

from domain.guests import Guest
from domain.orders import Order, OrderState
from domain.records import LinkState, Record
from reconcile.decision.cases import Case, Policy, World
from reconcile.decision.matching.address_claims import AddressClaims
from reconcile.decision.matching.duplicates import UnnamedGuests, order_of_twin, why_two_machines
from reconcile.decision.matching.guest_matching import GuestMatching, was_read
from reconcile.decision.matching.order_traits import ended_before, had_an_owner, has_ended, same_plan, time_apart

CREATED_TOGETHER = timedelta(minutes=2)
RIVALS_APART = timedelta(minutes=10)

PAIRS_COMPARED = 40_000
"""How many pairs (orders times records of one customer and name) are compared at most. If there are more, all of them
are held: only the times at which they were made could tell them apart, and among two hundred of one name that is luck.
"""
TOO_ALIKE = "too many orders and records of one customer have this name: name them by panelVpsId or by order_id"


def match(world: World, policy: Policy) -> list[Case]:
    """All cases of a world. Every listed order, live record and guest is in a case, but templates that nothing names.

    If several orders name one record, it belongs to the only one of them that has not ended. Without one such order,
    the record is in the case of each of them, and each of these cases is in doubt.

    A missed order takes part as if it were listed, but has no case: what it claims is no other order's.
    """
    return _Matching(world, policy).cases()


class _Matching:
    def __init__(self, world: World, policy: Policy) -> None:
        self.world, self.policy = world, policy
        self.orders = sorted(world.claiming_orders, key=lambda o: o.order_id)
        self.missed = {o.order_id for o in world.missed_orders}
        listed = sorted(world.guests, key=lambda g: (g.cluster, g.vmid))
        # A template is no customer's machine, unless an order or a record names it: then it was one.
        named = {o.guest_key for o in self.orders} | {r.guest_key for r in world.records}
        self.guests = {g.key: g for g in listed if not g.template or g.key in named}
        templates = [g for g in listed if g.template and g.key not in named]
        self.by_id = {r.id: r for r in sorted(world.records, key=lambda r: r.id)}
        self.live = {id_: r for id_, r in self.by_id.items() if r.live}
        self.tombstones: dict[str | None, list[Record]] = defaultdict(
            list
        )  # order id -> its tombstones but merged ones
        for record in self.by_id.values():
            if not record.live and record.merged_into is None:
                self.tombstones[record.order_id].append(record)
        self.paired: dict[str, list[Record]] = {}  # order id -> its live records, survivor first
        self.address_claims = AddressClaims(self.orders, self.paired, self.live.values(), world.left_out)
        self.guest_matching = GuestMatching(
            world, policy, self.guests, templates, self.live, self.paired, self.address_claims
        )
        self.doubts: dict[str, str] = {}  # order id -> why
        self.record_doubts: dict[int, str] = {}
        self.taken: set[int] = set()

    def cases(self) -> list[Case]:
        self._by_key()
        self._by_guest()
        self._by_name()
        self._twins()
        self._hold_missed()
        listed = [order for order in self.orders if order.order_id not in self.missed]
        cases = [case for order in listed for case in self._order_cases(order)]
        shown = {record.id for order in listed for record in self.paired[order.order_id]}
        cases += [self._record_case(r) for r in self.live.values() if r.id not in shown]
        lone_guests = (g for key, g in self.guests.items() if key not in self.guest_matching.used and not g.template)
        cases += [self._lone_guest(g) for g in lone_guests]
        return cases

    def _lone_guest(self, guest: Guest) -> Case:
        if (clone := self.guest_matching.clone_doubt(guest)) is not None:
            severity = "alarm" if guest.key in self.guest_matching.copies else None
            return Case(
                guest=guest,
                guest_key=guest.key,
                doubt=clone,
                doubt_class="duplicate-fingerprint",
                doubt_severity=severity,
            )
        if same := self.address_claims.with_fingerprint(guest.fingerprint):
            moving = f"the machine of VPS {same[0].id} ({same[0].guest_key}) is seen here too"
            return Case(guest=guest, guest_key=guest.key, doubt=moving, doubt_class="moving")
        naming = [o.order_id for o in self.address_claims.orders_naming(guest.key) if not has_ended(o)]
        naming = naming if not self.missed.issuperset(naming) else []  # nothing is said for a missed order alone
        named = " and ".join(f"order {order_id}" for order_id in naming)
        doubt = f"{named} name{'' if ' and ' in named else 's'} it, and it is no record's guest" if named else None
        return Case(guest=guest, guest_key=guest.key, doubt=doubt)

    # --- orders and records

    def _hold_missed(self) -> None:
        """A record that may be a missed order's is held, unless it is linked to that order: then only the order's own
        facts wait."""
        for order_id in sorted(self.missed):
            for record in self.paired[order_id]:
                if record.order_id != order_id:
                    why = f"the last full read of the orders left out order {order_id}, which may be its own: it waits"
                    self.record_doubts[record.id] = f"{why} until that order is listed again or proven gone"

    def _resolve(self, record_id: int | None) -> Record | None:
        record = self.by_id.get(record_id) if record_id is not None else None
        seen = set()
        while record is not None and record.merged_into is not None and record.id not in seen:
            seen.add(record.id)
            record = self.by_id.get(record.merged_into)
        return record

    def _by_key(self) -> None:
        by_order = {r.order_id: r for r in self.live.values() if r.order_id is not None}
        claims: dict[int, list[Order]] = defaultdict(list)
        for order in self.orders:
            named = self._resolve(order.panel_vps_id)
            candidates = [r for r in (named if named and named.live else None, by_order.get(order.order_id)) if r]
            records = list({r.id: r for r in candidates}.values())
            # The id that the main site names survives a merge, because its calls will use it.
            self.paired[order.order_id] = records
            for record in records:
                claims[record.id].append(order)
        for record_id, orders in claims.items():
            self._one_order_each(self.live[record_id], orders)
        self.taken |= {r.id for records in self.paired.values() for r in records}

    def _one_order_each(self, record: Record, orders: list[Order]) -> None:
        """Several orders that name one record: if only one of them has not ended, it wins. Otherwise all are held. So
        are all if the record is linked with another order that is not proven to be gone, or with one that was missed
        and would not win.

        Once that one is proven to be gone, an order that goes on takes the record. One that ended never does: its end
        says nothing of the order that the record is linked with.
        """
        own = record.order_id is None or any(o.order_id == record.order_id for o in orders)
        if own and len(orders) == 1:
            return
        winners = [o.order_id for o in orders if not has_ended(o)]
        held = not own and not self.policy.proven(self.world.order_absences.get(record.order_id or ""))
        held = held or (len(orders) > 1 and len(winners) != 1)
        held = held or (record.order_id in self.missed and winners != [record.order_id])
        for order in orders:
            if held:
                self.doubts[order.order_id] = f"several orders name VPS {record.id}: let the main site name one"
            elif has_ended(order):
                self.paired[order.order_id] = [r for r in self.paired[order.order_id] if r.id != record.id]

    def _by_guest(self) -> None:
        """Pair by the machine: a record without an order, verified to be the guest of an order that has not ended."""
        holders = {r.guest_key: r for r in self._free_records() if r.link_state is LinkState.VERIFIED}
        for order in self.orders:
            record = holders.get(order.guest_key)
            if record is None or order.guest_key is None or self.paired[order.order_id] or has_ended(order):
                continue
            named = self._resolve(order.panel_vps_id)
            if order.user_id != record.user_id or (named is not None and not named.live) or not self._ready(record):
                continue
            guest = self.guests.get(order.guest_key)
            same = guest is not None and was_read(guest) and guest.fingerprint == record.fingerprint is not None
            if (
                same
                and self.address_claims.rival(order, order.guest_key) is None
                and order.guest_key not in self.guest_matching.clones
            ):
                self._pair(order, record)

    def _free_records(self) -> list[Record]:
        return [r for r in self.live.values() if r.id not in self.taken and r.order_id is None]

    def _ready(self, record: Record) -> bool:
        """Whether the main site had time to say which order a record belongs to, and no call for it is under way."""
        return record.created_at <= self.world.now - self.policy.link_grace and not record.in_flight

    def _by_name(self) -> None:
        """Pair what has no key: where (user, name) is unique; else by plan, then by time; else hold all rivals."""
        unpaired = [o for o in self.orders if not self.paired[o.order_id] and self._may_be_paired(o)]
        records = self._free_records()
        groups: dict[tuple[int | None, str | None], tuple[list[Order], list[Record]]] = {}
        for order in unpaired:
            groups.setdefault((order.user_id, order.name), ([], []))[0].append(order)
        for record in records:
            if (key := (record.user_id, record.name)) in groups:
                groups[key][1].append(record)
        for orders, rivals in groups.values():
            # A new record may not be unique for long, so the next run pairs.
            if rivals and all(map(self._ready, rivals)):
                oldest = min(rivals, key=lambda r: r.created_at)
                self._pair_group([o for o in orders if not ended_before(o, oldest)], rivals)
        self._hold_possible_partners(unpaired)

    def _may_be_paired(self, order: Order) -> bool:
        named = self._resolve(order.panel_vps_id)
        return order.user_id is not None and order.name is not None and not (named is not None and not named.live)

    def _pair_group(self, orders: list[Order], records: list[Record]) -> None:
        if len(orders) * len(records) > PAIRS_COMPARED:
            self.doubts |= {o.order_id: TOO_ALIKE for o in orders}
            self.record_doubts |= {r.id: TOO_ALIKE for r in records}
            return
        agreeing = {o.order_id: [r for r in records if self._compatible(o, r)] for o in orders}
        if len(orders) == 1 and len(records) == 1:
            (order,), (record,) = orders, records
            # With another plan it may double a machine that has its record: hold it, do not pair.
            if agreeing[order.order_id] and same_plan(order, record):
                self._pair(order, record)
            return
        by_plan = {o.order_id: [r for r in agreeing[o.order_id] if same_plan(o, r)] for o in orders}
        for order in orders:
            candidates = by_plan[order.order_id]
            if len(candidates) == 1 and sum(candidates[0] in rs for rs in by_plan.values()) == 1:
                self._pair(order, candidates[0])
                continue
            near = [r for r in candidates if time_apart(order, r) <= CREATED_TOGETHER]
            rivals_far = all(time_apart(order, r) >= RIVALS_APART for r in candidates if r not in near) and all(
                time_apart(o, r) >= RIVALS_APART
                for r in near
                for o in orders
                if o is not order and r in by_plan[o.order_id]
            )
            if len(near) == 1 and rivals_far:
                self._pair(order, near[0])
            elif candidates or agreeing[order.order_id]:
                self.doubts[order.order_id] = (
                    "several orders and records of one customer fit each other: name panelVpsId or order_id"
                )
                for record in agreeing[order.order_id]:
                    self.record_doubts[record.id] = "several orders of this customer fit it"

    def _hold_possible_partners(self, unpaired: list[Order]) -> None:
        """An order without a record is not "missing" while an unlinked record may be its own."""
        partners = Partners(self._free_records())
        within = RIVALS_APART if self.world.names_are_authoritative else None
        for order in unpaired:
            if self.paired[order.order_id] or order.order_id in self.doubts:
                continue
            record = partners.possible_record(order, within)
            may_be = record.id if record is not None else self.world.left_out.partners.get(order.order_id)
            if may_be is not None:
                self.doubts[order.order_id] = f"the unlinked VPS {may_be} of the same customer may be its own"

    def _pair(self, order: Order, record: Record) -> None:
        if record.id not in self.taken:
            self.paired[order.order_id] = [record]
            self.taken.add(record.id)
            self.record_doubts.pop(record.id, None)

    def _compatible(self, order: Order, record: Record) -> bool:
        """A name never joins two different guests, nor an ended order and a machine made after its end."""
        record_key, order_key = record.guest_key, order.guest_key
        if ended_before(order, record):
            return False
        return record_key is None or order_key is None or record_key == order_key

    def _twins(self) -> None:
        """Pair a never-linked record that doubles a linked one: the answer to a call was lost, and the call repeated.

        Customers do buy two equal machines, and a feed may be late with the second order. So all this must hold: no
        call ever used the record's id; a complete sweep that began well after the record was made shows no other order
        for it; every cluster was read, and no unnamed guest could be its machine.
        """
        swept, besides = self.world.orders_at, self.world.left_out.unnamed
        if swept is None or besides is None or not self.world.trusted >= self.world.clusters:
            return
        unnamed = UnnamedGuests(self.guests, self.live.values(), self.world.orders, besides)
        namesakes: dict[tuple[int | None, str | None], list[Order]] = defaultdict(list)
        for order in self.orders:
            namesakes[order.user_id, order.name].append(order)
        for record in filter(self._ready, self._free_records()):
            if record.id in self.record_doubts or record.guest_linked_once or record.last_update_at is not None:
                continue
            if swept < record.created_at + self.policy.paid_missing_grace:
                continue
            if unnamed.may_have_machine_of(record):
                continue
            twin_of = order_of_twin(record, namesakes.get((record.user_id, record.name), ()), self.paired)
            if twin_of is not None and twin_of.order_id not in self.doubts:
                self.paired[twin_of.order_id].append(record)
                self.taken.add(record.id)

    # --- cases

    def _order_cases(self, order: Order) -> list[Case]:
        records = self.paired[order.order_id]
        doubt = self.doubts.get(order.order_id)
        if not records:
            tombstone = self._tombstone_of(order)
            key = order.guest_key if order.state is OrderState.ENDED else None
            if key is not None and (
                self.guest_matching.is_taken(key, order) or self.guest_matching.is_other_machine(tombstone, key)
            ):
                return [
                    Case(order, None, tombstone, doubt=doubt)
                ]  # the VMID was reused: it is another machine's address
            guest, key, clash = self.guest_matching.guest_of_order(order)
            return [Case(order, guest, tombstone, key, doubt=doubt or clash)]
        record, twin = records[0], next(iter(records[1:]), None)  # the one that the order names, the one linked to it
        guest, key, replaced, clash = self.guest_matching.guest_of_record(record, order)
        doubt, class_ = doubt or self.record_doubts.get(record.id) or clash, "ambiguous"
        if twin is not None:
            doubt = doubt or why_two_machines(record, twin, self.world, self.policy)
            self.guest_matching.used |= {twin.guest_key} if twin.guest_key is not None else set()
        ownerless = order.user_id is None and order.owner is None and not had_an_owner(order)  # so the feed names none
        if doubt is None and record.order_id != order.order_id and not ownerless and order.user_id != record.user_id:
            # For a linked record this is a change of owner. By a bare id it may be another customer's machine.
            doubt = f"order {order.order_id} of another customer names VPS {record.id}, which was never linked with it"
            class_ = "ownership"
        sold_to = self.address_claims.sold_to(record, order) if twin is None and key == record.guest_key else None
        dispute = self.guest_matching.disputes.message(record, order)
        return [Case(order, guest, record, key, replaced, twin, doubt, class_, sold_to=sold_to, dispute=dispute)]

    def _tombstone_of(self, order: Order) -> Record | None:
        named = self._resolve(order.panel_vps_id)
        if named is not None and not named.live:
            return named
        tombstones = self.tombstones.get(order.order_id, ())
        return max(tombstones, key=lambda r: (r.deleted_at or r.created_at, r.id)) if tombstones else None

    def _record_case(self, record: Record) -> Case:
        guest, key, replaced, clash = self.guest_matching.guest_of_record(record, None)
        doubt, class_ = self.record_doubts.get(record.id) or clash, "ambiguous"
        vanished = record.order_id in self.world.order_absences
        unseen = record.link_state in (LinkState.PUSHED, LinkState.UNVERIFIED) and record.fingerprint is None
        if doubt is None and guest is not None and vanished and unseen:
            doubt = f"order {record.order_id} is not listed any more, and the identity of guest {key} was never read"
            class_ = "guest-without-order"
        sold_to = self.address_claims.sold_to(record, None) if key == record.guest_key else None  # not if it moved
        dispute = self.guest_matching.disputes.message(record, None)
        return Case(None, guest, record, key, replaced, None, doubt, class_, sold_to=sold_to, dispute=dispute)


# --- possible partners


class Partners:
    """Unlinked records that an order without a record may belong to: by customer and name, and by customer and plan.

    Each list is sorted by the time its records were made, so that no order is compared with every record.
    """

    def __init__(self, free: Iterable[Record]) -> None:
        self._by_name: dict[tuple[int, str], list[Record]] = defaultdict(list)
        self._by_plan: dict[int, dict[tuple[int, int, int, str], list[Record]]] = defaultdict(lambda: defaultdict(list))
        for record in sorted(free, key=lambda r: (r.created_at, r.id)):
            self._by_name[record.user_id, record.name].append(record)
            self._by_plan[record.user_id][record.cpu, record.ram_mb, record.disk_gb, record.os].append(record)

    def possible_record(self, order: Order, within: timedelta | None) -> Record | None:
        """Of the records that may be the order's, the one with the greatest id. It has the order's name, or its plan
        and was made ``within`` that time of it (None: any time). A record made after the order ended does not count."""
        if order.user_id is None or order.name is None:
            return None
        ended = order.state_since if order.state is OrderState.ENDED else None
        candidates = [_newest(self._by_name.get((order.user_id, order.name), []), None, ended)]
        if within is None or order.created_at is not None:
            since, until = None, ended
            if within is not None and order.created_at is not None:
                since, until = order.created_at - within, order.created_at + within
                until = until if ended is None else min(until, ended)
            candidates += [
                _newest(records, since, until)
                for records in self._by_plan.get(order.user_id, {}).values()
                if same_plan(order, records[0])
            ]
        return max((record for record in candidates if record is not None), key=lambda r: r.id, default=None)


def _newest(records: list[Record], since: datetime | None, until: datetime | None) -> Record | None:
    """The record made last within these times."""
    first = 0 if since is None else bisect_left(records, since, key=lambda r: r.created_at)
    end = len(records) if until is None else bisect_right(records, until, key=lambda r: r.created_at)
    return records[end - 1] if end > first else None
