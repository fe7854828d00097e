"""Bring orders, guests and records together into cases. Pure; input order is irrelevant.

Explicit keys first (order.panel_vps_id, record.order_id), then the machine (its address and an agreeing fingerprint);
last, and only where it is unique, (user, name). Whatever is ambiguous is held as a whole: neither missing nor orphan.
Nothing is ever matched by a bare VMID, nor by name against a disagreeing fingerprint.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import timedelta

from reconcile.cases import Case, Policy, World, gone_since_linked
from reconcile.claims import Claims
from reconcile.duplicates import clones, may_have_a_guest, order_of_twin, two_machines
from reconcile.fitting import apart, ended_before, going, later, same_plan
from reconcile.state import FingerprintState, Guest, GuestKey, LinkState, Order, OrderState, Record

CREATED_TOGETHER = timedelta(minutes=2)
RIVALS_APART = timedelta(minutes=10)


def match(world: World, policy: Policy) -> list[Case]:
    """All cases of a world: every order, guest and live record is in one; a record that several orders name is in the
    case of each, in doubt."""
    return _Matching(world, policy).cases()


class _Matching:
    def __init__(self, world: World, policy: Policy) -> None:
        self.world, self.policy = world, policy
        self.orders = sorted(world.orders, key=lambda o: o.order_id)
        self.guests = {g.key: g for g in sorted(world.guests, key=lambda g: (g.cluster, g.vmid)) if not g.template}
        self.by_id = {r.id: r for r in sorted(world.records, key=lambda r: r.id)}
        self.live = {id_: r for id_, r in self.by_id.items() if r.live}
        self.clones = clones(self.guests.values())
        self.copies = self._copies()
        self.paired: dict[str, list[Record]] = {}  # order id -> its live records, survivor first
        self.claims = Claims(self.orders, self.paired, self.live.values())
        self.doubts: dict[str, str] = {}  # order id -> why
        self.record_doubts: dict[int, str] = {}
        self.taken: set[int] = set()
        self.used: set[GuestKey] = set()

    def cases(self) -> list[Case]:
        self._by_key()
        self._by_guest()
        self._by_name()
        self._twins()
        found = [case for order in self.orders for case in self._order_cases(order)]
        found += [self._record_case(r) for r in self.live.values() if r.id not in self.taken]
        found += [self._lone_guest(g) for key, g in self.guests.items() if key not in self.used]
        return found

    def _lone_guest(self, guest: Guest) -> Case:
        if (clone := self._clone_doubt(guest)) is not None:
            severity = "alarm" if guest.key in self.copies else None
            return Case(
                guest=guest,
                guest_key=guest.key,
                doubt=clone,
                doubt_class="duplicate-fingerprint",
                doubt_severity=severity,
            )
        same = [r for r in self.live.values() if r.fingerprint is not None and r.fingerprint == guest.fingerprint]
        if same:
            moving = f"the machine of VPS {same[0].id} ({same[0].guest_key}) is seen here too"
            return Case(guest=guest, guest_key=guest.key, doubt=moving, doubt_class="moving")
        named = " and ".join(f"order {o.order_id}" for o in self.claims.naming(guest.key) if going(o))
        doubt = f"{named} name{'' if ' and ' in named else 's'} it, and it is no record's guest" if named else None
        return Case(guest=guest, guest_key=guest.key, doubt=doubt)

    # --- orders and records

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
            # The id that the main site names survives a merge, since its calls will use it.
            self.paired[order.order_id] = records
            for record in records:
                claims[record.id].append(order)
        for record_id, orders in claims.items():
            self._one_order_each(self.live[record_id], orders)
        self.taken |= {r.id for records in self.paired.values() for r in records}

    def _one_order_each(self, record: Record, orders: list[Order]) -> None:
        """Two orders that name one record: an ended one gives way to a going one; else all are held."""
        going = [o for o in orders if o.state is not OrderState.ENDED]
        if record.order_id is not None and len(orders) > 1 and len(going) != 1:
            going = []
        if len(orders) == 1:
            other = record.order_id is not None and record.order_id != orders[0].order_id
            if not other or self.policy.proven(self.world.order_absences.get(record.order_id or "")):
                return
            going = []
        keep = going[0].order_id if len(going) == 1 else None
        for order in orders:
            if order.order_id == keep:
                continue
            if keep is None:
                self.doubts[order.order_id] = f"several orders name VPS {record.id}"
            else:
                self.paired[order.order_id] = [r for r in self.paired[order.order_id] if r.id != record.id]

    def _by_guest(self) -> None:
        """Pair what has no key but the machine: a record that is verified to be the guest a going order names."""
        holders = {r.guest_key: r for r in self._free_records() if r.link_state is LinkState.VERIFIED}
        for order in self.orders:
            record = holders.get(order.guest_key)
            if record is None or order.guest_key is None or self.paired[order.order_id] or not going(order):
                continue
            named = self._resolve(order.panel_vps_id)
            if order.user_id != record.user_id or (named is not None and not named.live) or not self._settled(record):
                continue
            guest = self.guests.get(order.guest_key)
            same = guest is not None and _was_read(guest) and guest.fingerprint == record.fingerprint is not None
            if same and self.claims.rival(order, order.guest_key) is None and order.guest_key not in self.clones:
                self._pair(order, record)

    def _free_records(self) -> list[Record]:
        return [r for r in self.live.values() if r.id not in self.taken and r.order_id is None]

    def _settled(self, record: Record) -> bool:
        """Whether its main site has had the time to say what it belongs to."""
        return record.created_at <= self.world.now - self.policy.link_grace and not record.in_flight

    def _by_name(self) -> None:
        """Pair what has no key: unique by (user, name), ties by plan and then by time; else hold all rivals."""
        lonely = [o for o in self.orders if not self.paired[o.order_id] and self._may_be_paired(o)]
        records = self._free_records()
        groups: dict[tuple[int | None, str | None], tuple[list[Order], list[Record]]] = {}
        for order in lonely:
            groups.setdefault((order.user_id, order.name), ([], []))[0].append(order)
        for record in records:
            if (key := (record.user_id, record.name)) in groups:
                groups[key][1].append(record)
        for orders, rivals in groups.values():
            if all(map(self._settled, rivals)):  # unique among those of an age says nothing: the next run pairs
                self._pair_group(orders, rivals)
        self._hold_possible_partners(lonely)

    def _may_be_paired(self, order: Order) -> bool:
        named = self._resolve(order.panel_vps_id)
        return order.user_id is not None and order.name is not None and not (named is not None and not named.live)

    def _pair_group(self, orders: list[Order], records: list[Record]) -> None:
        agreeing = {o.order_id: [r for r in records if self._compatible(o, r)] for o in orders}
        if len(orders) == 1 and len(records) == 1:
            (order,), (record,) = orders, records
            # Of another plan it may be the double of a machine that has its record: held, not paired.
            if agreeing[order.order_id] and same_plan(order, record):
                self._pair(order, record)
            return
        by_plan = {o.order_id: [r for r in agreeing[o.order_id] if same_plan(o, r)] for o in orders}
        for order in orders:
            mine = by_plan[order.order_id]
            if len(mine) == 1 and sum(mine[0] in rs for rs in by_plan.values()) == 1:
                self._pair(order, mine[0])
                continue
            near = [r for r in mine if apart(order, r) <= CREATED_TOGETHER]
            rivals_far = all(apart(order, r) >= RIVALS_APART for r in mine if r not in near) and all(
                apart(o, r) >= RIVALS_APART for r in near for o in orders if o is not order and r in by_plan[o.order_id]
            )
            if len(near) == 1 and rivals_far:
                self._pair(order, near[0])
            elif mine or agreeing[order.order_id]:
                self.doubts[order.order_id] = "several orders and records of one customer fit each other"
                for record in agreeing[order.order_id]:
                    self.record_doubts[record.id] = "several orders of this customer fit it"

    def _hold_possible_partners(self, lonely: list[Order]) -> None:
        """An order without a record is not "missing" while an unlinked record might be its own."""
        free = self._free_records()
        for order in lonely:
            if self.paired[order.order_id] or order.order_id in self.doubts:
                continue
            for record in free:
                if ended_before(order, record):
                    continue
                same_name = record.name == order.name
                maybe = same_name or not self.world.names_are_authoritative or apart(order, record) <= RIVALS_APART
                if record.user_id == order.user_id and maybe and (same_name or same_plan(order, record)):
                    self.doubts[order.order_id] = f"the unlinked VPS {record.id} of the same customer may be its own"

    def _pair(self, order: Order, record: Record) -> None:
        if record.id not in self.taken:
            self.paired[order.order_id] = [record]
            self.taken.add(record.id)
            self.record_doubts.pop(record.id, None)

    def _compatible(self, order: Order, record: Record) -> bool:
        """No name may bridge two different guests, nor the time between an order's end and another's machine."""
        mine, theirs = record.guest_key, order.guest_key
        if ended_before(order, record):
            return False
        return mine is None or theirs is None or mine == theirs

    def _twins(self) -> None:
        """A never-linked record that doubles a linked one: an answer that was lost, and the call repeated.

        Customers do buy two equal machines, and a feed may be late with the second one's order. So: nobody ever
        used the record's id; a complete sweep that began well after it shows no other order that it could belong
        to; every cluster was read, and no guest without an order and a record could be its own. Of a selection that
        was cut, the order or the guest that tells may be what was left out.
        """
        swept = self.world.orders_at
        if swept is None or self.world.cut or not self.world.trusted >= self.world.clusters:
            return
        for record in filter(self._settled, self._free_records()):
            if record.id in self.record_doubts or record.guest_linked_once or record.last_update_at is not None:
                continue
            if swept < record.created_at + self.policy.paid_missing_grace:
                continue
            if may_have_a_guest(record, self.guests, self.live.values(), self.orders):
                continue
            order = order_of_twin(record, self.orders, self.paired)
            if order is not None and order.order_id not in self.doubts:
                self.paired[order.order_id].append(record)
                self.taken.add(record.id)

    # --- cases

    def _order_cases(self, order: Order) -> list[Case]:
        records = self.paired[order.order_id]
        doubt = self.doubts.get(order.order_id)
        if not records:
            tomb = self._tombstone_of(order)
            key = order.guest_key if order.state is OrderState.ENDED else None
            if key is not None and (self._given_away(key, order) or self._another(tomb, key)):
                return [Case(order, None, tomb, doubt=doubt)]  # VMIDs are reused: it is another machine's address
            guest, key, clash = self._order_guest(order)
            return [Case(order, guest, tomb, key, doubt=doubt or clash)]
        record, twin = records[0], next(iter(records[1:]), None)  # what its id names, what it was linked with
        guest, key, replaced, clash = self._record_guest(record, order)
        doubt, class_ = doubt or self.record_doubts.get(record.id) or clash, "ambiguous"
        if twin is not None:
            doubt = doubt or two_machines(record, twin, self.world, self.policy)
            self.used |= {twin.guest_key} if twin.guest_key is not None else set()
        unsaid = order.user_id is None and order.owner is None  # a feed that names no owners
        if doubt is None and record.order_id != order.order_id and not unsaid and order.user_id != record.user_id:
            # Once linked, it is a change of owner; by a bare id it may as well be somebody else's machine.
            doubt = f"order {order.order_id} of another customer names VPS {record.id}, which was never linked with it"
            class_ = "ownership"
        return [Case(order, guest, record, key, replaced, twin, doubt, class_)]

    def _tombstone_of(self, order: Order) -> Record | None:
        named = self._resolve(order.panel_vps_id)
        if named is not None and not named.live:
            return named
        dead = [r for r in self.by_id.values() if r.order_id == order.order_id and not r.live and r.merged_into is None]
        return max(dead, key=lambda r: (r.deleted_at or r.created_at, r.id)) if dead else None

    def _record_case(self, record: Record) -> Case:
        guest, key, replaced, clash = self._record_guest(record, None)
        doubt, class_ = self.record_doubts.get(record.id) or clash, "ambiguous"
        vanished = record.order_id in self.world.order_absences
        unseen = record.link_state in (LinkState.PUSHED, LinkState.UNVERIFIED) and record.fingerprint is None
        if doubt is None and guest is not None and vanished and unseen:
            doubt = f"order {record.order_id} is not listed any more, and guest {key} was never looked at before"
            class_ = "guest-without-order"
        return Case(None, guest, record, key, replaced, doubt=doubt, doubt_class=class_)

    def _order_guest(self, order: Order) -> tuple[Guest | None, GuestKey | None, str | None]:
        """The guest that an order without a record names, unless somebody else's record holds it."""
        key = order.guest_key
        guest = self.guests.get(key) if key else None
        if key is None or guest is None:
            return None, key, None
        own = {r.id for r in self.paired[order.order_id]}  # two records of one order are merged, not rivals
        holder = next((r for r in self.live.values() if r.guest_key == key and r.id not in own), None)
        if holder is not None:
            return None, key, f"guest {key} is linked to VPS {holder.id}"
        rival = self.claims.rival(order, key)
        if rival is not None:
            return None, key, f"orders {order.order_id} and {rival.order_id} name the same guest {key}"
        self.used.add(key)
        if not self.claims.of_type(order, guest):
            return guest, key, f"guest {key} is {guest.guest_type.value}, order {order.order_id} sold another type"
        return guest, key, self.claims.known(guest, own) or self._clone_doubt(guest)

    def _record_guest(
        self, record: Record, order: Order | None
    ) -> tuple[Guest | None, GuestKey | None, bool, str | None]:
        """(guest, key, replaced, doubt) of a record: its own link, else what its order names."""
        key = record.guest_key or (order.guest_key if order else None)
        guest = self.guests.get(key) if key else None
        if record.guest_key is None and key is not None and guest is not None and order is not None:
            if order.state is OrderState.ENDED and self._given_away(key, order):
                return None, None, False, None  # the address is another machine's by now: nothing to look for
            return self._first_link(record, order, guest)
        if guest is None:
            return self._moved(record, order, key)
        self.used.add(key) if key else None
        if record.fingerprint is not None and guest.fingerprint is not None and guest.fingerprint != record.fingerprint:
            if guest.cluster not in self.world.trusted or guest.fingerprint_state is not FingerprintState.READ:
                return guest, key, False, f"who guest {key} is must be read anew"
            if order is not None and self._reinstalled(order, guest):
                return guest, key, False, self._clone_doubt(guest)
            return None, key, True, self._replacement_doubt(record, order, guest)
        if record.fingerprint is not None and guest.fingerprint is None and _was_read(guest):
            return guest, key, False, f"guest {key} has nothing that says whether it is VPS {record.id}'s"
        if record.fingerprint is None:
            trusted = guest.cluster in self.world.trusted
            another = self.claims.of_another(record, order, guest.key)
            alien = another is not None and (order is None or not later(order, another))
            if trusted and alien and self._over(record, order):
                return None, key, True, None  # never seen as its own, and the address is the next order's
            why = self.claims.strange(record, order, guest) or self.claims.known(guest, {record.id})
            if why is not None:
                return guest, key, False, why
        elif guest.fingerprint_state is FingerprintState.FORBIDDEN and self.claims.by_going(guest.key, order):
            return guest, key, False, f"another order names guest {key}, and who it is may not be read any more"
        return guest, key, False, self._clone_doubt(guest)

    def _over(self, record: Record, order: Order | None) -> bool:
        """Whether a record's order ended, or was listed once and is proven to be no more."""
        if order is not None:
            return order.state is OrderState.ENDED
        if self.policy.proven(self.world.order_absences.get(record.order_id or "")):
            return True
        swept = self.world.orders_at
        never = record.order_id not in self.world.order_absences
        return never and swept is not None and swept - record.created_at >= self.policy.paid_missing_grace

    def _given_away(self, key: GuestKey, order: Order) -> bool:
        """Whether somebody else holds this guest, or a going order names it."""
        return any(r.guest_key == key for r in self.live.values()) or self.claims.by_going(key, order)

    def _another(self, tombstone: Record | None, key: GuestKey) -> bool:
        """Whether the guest at an address is, by its fingerprint, not the one that a deleted record had."""
        before = tombstone.fingerprint if tombstone is not None else None
        now = guest.fingerprint if (guest := self.guests.get(key)) is not None else None
        return before is not None and now is not None and before != now

    def _reinstalled(self, order: Order, guest: Guest) -> bool:
        """A new machine at the old address, which the same going order still names and nobody else: seen twice, and
        all orders read since, late enough for whoever it was sold to to be among them."""
        since, swept = guest.fingerprint_since, self.world.orders_at
        return (
            going(order)
            and order.guest_key == guest.key
            and guest.fingerprint_seen >= 2
            and since is not None
            and swept is not None
            and swept >= since + self.policy.link_grace
            and self.claims.of_type(order, guest)
            and self.claims.known(guest, ()) is None
            and not self.claims.by_going(guest.key, order)
        )

    def _first_link(
        self, record: Record, order: Order, guest: Guest
    ) -> tuple[Guest | None, GuestKey | None, bool, str | None]:
        other, key, doubt = self._order_guest(order)
        unread = guest.fingerprint is None and not _was_read(guest)
        if doubt is None and record.fingerprint is not None and guest.fingerprint != record.fingerprint and not unread:
            doubt = f"guest {key} is not the guest that VPS {record.id} was linked to"
        return other, key, False, doubt

    def _moved(
        self, record: Record, order: Order | None, key: GuestKey | None
    ) -> tuple[Guest | None, GuestKey | None, bool, str | None]:
        """Not at its address: the same guest may be elsewhere (VMID changed, or moved to another cluster).

        A list that leaves a guest out shows its copy alone: who has not provably left an address has not moved.
        """
        left = record.guest_key
        if left is not None and left.cluster in self.world.clusters:
            if not gone_since_linked(record, left, self.world, self.policy):
                return None, key, False, None
            if order is not None and (made_anew := self._made_anew(order, left)) is not None:
                self.used.add(made_anew.key)
                return made_anew, made_anew.key, False, self._clone_doubt(made_anew)
            own = {r.guest_key for r in self.paired[order.order_id]} if order is not None else set()
            if order is not None and going(order) and order.guest_key in self.guests and order.guest_key not in own:
                return None, key, False, f"order {order.order_id} names {order.guest_key}, and {left} is gone"
        if record.fingerprint is not None and record.fingerprint.startswith("smbios:"):
            same = [g for g in self.guests.values() if g.fingerprint == record.fingerprint]
            named = order.guest_key if order is not None and order.guest_key != left else None
            free = len(same) == 1 and same[0].key not in {r.guest_key for r in self.live.values()}
            free = free and _was_read(same[0]) and not self.claims.by_going(same[0].key, order)
            if free and named in (None, same[0].key):  # elsewhere than its order says, it is a copy of it
                self.used.add(same[0].key)
                return same[0], same[0].key, False, None
            if same:
                return None, key, False, "its fingerprint is seen on several guests"
        return None, key, False, None

    def _made_anew(self, order: Order, left: GuestKey) -> Guest | None:
        """The guest that a going order names by now in place of the one that is gone, if nobody else claims it."""
        key = order.guest_key
        guest = self.guests.get(key) if key is not None and key != left else None
        if guest is None or not going(order) or guest.fingerprint_state is not FingerprintState.READ:
            return None
        if not self.claims.of_type(order, guest) or self.claims.known(
            guest, {r.id for r in self.paired[order.order_id]}
        ):
            return None
        return None if self._given_away(guest.key, order) else guest

    def _replacement_doubt(self, record: Record, order: Order | None, guest: Guest) -> str | None:
        """A replaced guest: doubt unless the replacement is plainly another order's, or this one has ended."""
        if order is None or order.state is OrderState.ENDED:
            return None if guest.fingerprint_seen >= 2 else f"guest {guest.key} was replaced only just now"
        return f"guest {guest.key} has another fingerprint than VPS {record.id} was linked with"

    def _clone_doubt(self, guest: Guest) -> str | None:
        if (what := self.clones.get(guest.key)) is not None:
            return f"the {what} of guest {guest.key} is seen on another guest too: a clone"
        if guest.key in self.copies:
            return f"the machine at {guest.key} is seen in another cluster too, for longer than a move takes: a copy"
        return None

    def _copies(self) -> set[GuestKey]:
        """Guests of records that stand in two clusters for longer than a migration takes, both of them."""
        ours = {r.fingerprint for r in self.live.values()}
        return {
            guest.key
            for guest in self.guests.values()
            if guest.fingerprint in ours
            and guest.moving_since is not None
            and self.world.now - guest.moving_since >= self.policy.moving_for
        }


def _was_read(guest: Guest) -> bool:
    return guest.fingerprint_state is FingerprintState.READ
