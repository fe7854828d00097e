"""The panel's memory of the outside without a database: what ``panel.observations`` and
``reconcile.observation`` make of reads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from domain import identity_doubts
from domain.absences import Absence
from domain.guests import FingerprintState, Guest, GuestKey, PowerState
from domain.orders import Order, OrderState
from domain.source_protocols import ClusterReading, Found, Gone, GuestConfig, GuestSource, OrderFeed
from reconcile.observation.mass_disappearance import ASKED_SINGLY, is_mass_loss
from reconcile.observation.observe import DATES_DIFFER_BY, DELTA_OVERLAP

Proven = Callable[[Absence | None], bool]
"""Whether an absence is proven."""


@dataclass(slots=True)
class Known:
    """A guest as last seen. ``guest`` keeps its read-independent fields; ``since``: of the present power state."""

    guest: Guest
    since: datetime
    earlier: str | None = None  # the fingerprint before this one
    read: datetime | None = None  # when its configuration was read
    missed: bool = False  # a trusted list left it out since


@dataclass(slots=True)
class Seen:
    """What one run observed."""

    began: datetime
    previous: dict[str, datetime | None] = field(default_factory=dict)
    trusted: set[str] = field(default_factory=set)
    complete: set[str] = field(default_factory=set)
    staged: set[GuestKey] = field(default_factory=set)
    orders_at: datetime | None = None
    previous_orders_at: datetime | None = None
    orders_read_before: datetime | None = None


@dataclass(slots=True)
class Memory:
    """Guests, orders and absences. ``acknowledged``: an operator said that what vanished may have."""

    guests: dict[GuestKey, Known] = field(default_factory=dict)
    orders: dict[str, Order] = field(default_factory=dict)
    gone_guests: dict[GuestKey, Absence] = field(default_factory=dict)
    gone_orders: dict[str, Absence] = field(default_factory=dict)
    cluster_times: dict[str, datetime] = field(default_factory=dict)
    orders_at: datetime | None = None
    delta_since: datetime | None = None
    acknowledged: bool = False
    snapshots: int = 0

    # --- guests

    def take_cluster(self, source: GuestSource, reading: ClusterReading, seen: Seen) -> None:
        """Merge a trusted list, count who is absent from its complete nodes."""
        if not reading.trusted:
            return
        cluster, began = reading.cluster, seen.began
        staged = {g.key for g in reading.guests}
        nodes = set(reading.nodes_complete)
        own_guests = [k for k in self.guests.values() if k.guest.cluster == cluster and k.guest.node in nodes]
        known = [k.guest for k in own_guests if k.guest.key not in self.gone_guests]
        vanished = [g for g in known if g.key not in staged]
        shrunk = self._shrunk(
            len(vanished),
            len(known),
            lambda: all(isinstance(source.confirm(g.node, g.guest_type, g.vmid), Gone) for g in vanished),
        )
        seen.previous[cluster] = self.cluster_times.get(cluster)
        for guest in reading.guests:
            assert isinstance(guest, Guest)  # the truth shows whole ones
            self._merge_guest(guest, began, seen.previous[cluster])
        for k in self.guests.values():
            if k.guest.cluster == cluster and k.guest.key not in staged:
                k.missed = True
                if k.guest.power is not PowerState.UNKNOWN:
                    k.guest, k.since = replace(k.guest, power=PowerState.UNKNOWN), began
        self.cluster_times[cluster] = began
        seen.trusted.add(cluster)
        seen.staged |= staged
        if shrunk:
            return
        if reading.complete:
            seen.complete.add(cluster)
        for k in list(self.guests.values()):
            if k.guest.cluster == cluster and k.guest.node in nodes and k.guest.key not in staged:
                self.gone_guests[k.guest.key] = self._counted(self.gone_guests.get(k.guest.key), began)

    def _merge_guest(self, shown: Guest, began: datetime, previous: datetime | None) -> None:
        known = self.guests.get(shown.key)
        if known is None:
            lock_since = began if shown.lock else None
            guest = replace(shown, first_seen_at=began, lock_since=lock_since, fingerprint_seen=0)
            self.guests[shown.key] = Known(guest, began)
            return
        old = known.guest
        before = replace(old, fingerprint_read_at=known.read)
        doubt = identity_doubts.listed(
            before, shown, began, began, previous, missed=known.missed or shown.key in self.gone_guests
        )
        state = old.fingerprint_state if doubt is None else FingerprintState.STALE
        back, known.missed = known.missed, False
        self.gone_guests.pop(shown.key, None)
        if old.power is not shown.power:
            known.since = began
        lock_since = None if shown.lock is None else old.lock_since if old.lock == shown.lock else began
        other = back or (old.guest_type, old.name) != (shown.guest_type, shown.name)
        known.guest = replace(
            shown,
            first_seen_at=began if other and old.fingerprint is None else old.first_seen_at,
            lock_since=lock_since,
            fingerprint=old.fingerprint,
            fingerprint_state=state,
            fingerprint_seen=old.fingerprint_seen,
            fingerprint_since=old.fingerprint_since,
            moving_since=old.moving_since,
        )

    def doubt(self, key: GuestKey | None) -> None:
        """Whoever an order or a call begins or ceases to name may be another machine than the one that was read."""
        known = self.guests.get(key) if key is not None else None
        if known is not None and known.guest.fingerprint_state in identity_doubts.LOOKED_AT:
            known.guest = replace(known.guest, fingerprint_state=FingerprintState.STALE)

    def read_doubted(self, sources: Iterable[GuestSource], seen: Seen, linked: dict[GuestKey, str | None]) -> None:
        """Read the configurations of records' guests in doubt, before power states are written."""
        for source in sources:
            if source.cluster in seen.trusted:
                for key, known in self.guests.items():
                    stale = known.guest.fingerprint_state is FingerprintState.STALE
                    listed = key.cluster == source.cluster and key in seen.staged
                    if stale and listed and linked.get(key) is not None:
                        _read(source, known, seen.began)

    def read_fingerprints(self, sources: Iterable[GuestSource], seen: Seen, linked: dict[GuestKey, str | None]) -> None:
        """Read the configurations that are wanted. ``linked``: the fingerprint each linked record believes in."""
        for source in sources:
            if source.cluster not in seen.trusted:
                continue
            for key, known in self.guests.items():
                if key.cluster == source.cluster and key in seen.staged and _wanted(known, linked.get(key), seen.began):
                    _read(source, known, seen.began)

    def note_moves(self, now: datetime, absent_times: int) -> None:
        """Since when a fingerprint is listed in two clusters."""
        clusters: dict[str, set[str]] = {}
        for key, known in self.guests.items():
            gone = self.gone_guests.get(key)
            if known.guest.fingerprint is not None and (gone is None or gone.consecutive < absent_times):
                clusters.setdefault(known.guest.fingerprint, set()).add(key.cluster)
        for key, known in self.guests.items():
            gone, fingerprint = self.gone_guests.get(key), known.guest.fingerprint
            listed = fingerprint is not None and (gone is None or gone.consecutive < absent_times)
            twice = listed and len(clusters[fingerprint or ""]) > 1
            known.guest = replace(known.guest, moving_since=(known.guest.moving_since or now) if twice else None)

    def shown_guests(self, seen: Seen) -> tuple[Guest, ...]:
        """The guests of this run's trusted reads."""
        found = []
        for key in sorted(seen.staged, key=str):
            known, before = self.guests[key], seen.previous.get(key.cluster)
            twice = before if before is not None and known.since <= before else None
            found.append(replace(known.guest, read_at=seen.began, previous_read_at=twice))
        return tuple(found)

    def sightings(self) -> dict[str, frozenset[GuestKey]]:
        """The addresses at which each fingerprint was read last."""
        found: dict[str, set[GuestKey]] = {}
        for key, known in self.guests.items():
            guest = known.guest
            forbidden = guest.fingerprint_state is FingerprintState.FORBIDDEN
            last = guest.fingerprint or known.earlier if forbidden else guest.fingerprint
            if last is not None:
                found.setdefault(last, set()).add(key)
        return {fingerprint: frozenset(keys) for fingerprint, keys in found.items()}

    def unidentified(self, held: Mapping[GuestKey, str | None], proven: Proven) -> tuple[Guest, ...]:
        """The guests not proven gone of whom nobody knows who they are. ``held``: the fingerprint that each linked
        record believes in."""
        unknown = (FingerprintState.UNREAD, FingerprintState.STALE)
        unreadable = FingerprintState.FORBIDDEN, None
        guests = [k.guest for key, k in self.guests.items() if not proven(self.gone_guests.get(key))]
        guests = [g for g in guests if g.fingerprint is None or held.get(g.key) != g.fingerprint]
        return tuple(
            g for g in guests if g.fingerprint_state in unknown or (g.fingerprint_state, g.fingerprint) == unreadable
        )

    def remembered(self, seen: Seen) -> tuple[Guest, ...]:
        """The guests that are not listed now."""
        return tuple(known.guest for key, known in self.guests.items() if key not in seen.staged)

    # --- orders

    def take_orders(
        self, feed: OrderFeed, seen: Seen, held_orders: set[str], users: dict[str, int], *, full: bool
    ) -> None:
        """Merge what the feed shows; after a complete sweep, count which orders are absent.

        ``held_orders``: the order ids that live records have. ``users``: the panel's ids of the feed's. ``full``: a
        sweep is due; otherwise only what changed is asked for.
        """
        since = None if full else self.delta_since
        sweep, began = feed.orders(since.isoformat() if since is not None else None), seen.began
        staged: set[str] = set()
        oldest: datetime | None = None
        dated = True
        for page in sweep.pages:
            effective = None
            if page.staleness_s is None:
                dated = False
            else:
                effective = began + timedelta(seconds=page.began_s - page.staleness_s)
                oldest = effective if oldest is None else min(oldest, effective)
            for order in page.items:
                if order.order_id not in staged:
                    staged.add(order.order_id)
                    self._merge_order(order, users.get(order.owner or ""), effective, began)
        seen.previous_orders_at = self.orders_at
        old_copy = oldest is not None and self.orders_at is not None and oldest <= self.orders_at - DATES_DIFFER_BY
        whole = since is None and "all" in sweep.complete_scopes and dated and not old_copy
        believed = whole and not self._orders_shrunk(feed, staged)
        if sweep.problem is None and dated and oldest is not None:
            before, self.delta_since = self.delta_since, oldest - DELTA_OVERLAP
            newer = before is not None and oldest > before + DELTA_OVERLAP
            if before is not None and newer and (since is not None or believed):
                seen.orders_read_before = before + DELTA_OVERLAP
        if believed and oldest is not None:
            self._count_missing(staged, held_orders, oldest)
            self.orders_at = max(self.orders_at or oldest, oldest)
        seen.orders_at = self.orders_at

    def _count_missing(self, staged: set[str], held_orders: set[str], oldest: datetime) -> None:
        for order_id, order in self.orders.items():
            seen_since = order.effective_at is not None and order.effective_at > oldest
            if order_id in staged or seen_since or (order.state is OrderState.ENDED and order_id not in held_orders):
                continue
            if order_id not in self.gone_orders:
                self.doubt(order.guest_key)
            self.gone_orders[order_id] = self._counted(self.gone_orders.get(order_id), oldest)

    def _merge_order(self, shown: Order, user: int | None, effective: datetime | None, began: datetime) -> None:
        old, at, absence = self.orders.get(shown.order_id), effective or began, self.gone_orders.get(shown.order_id)
        back = absence is not None
        if absence is not None and effective is not None:  # an old copy brings nothing back
            back = effective >= max(absence.last_seen_absent_at, self.orders_at or effective)
        if back:
            del self.gone_orders[shown.order_id]
        if old is not None and shown.state is OrderState.ENDED and shown.vmid is None:
            shown = replace(shown, cluster=old.cluster, vmid=old.vmid)
        newer = old is None or old.effective_at is None or (effective is not None and effective > old.effective_at)
        if old is None or back or (newer and _naming(old) != _naming(shown)):
            for order in (old, shown):
                if order is not None and order.state is not OrderState.ENDED:
                    self.doubt(order.guest_key)
        if old is None:
            self.orders[shown.order_id] = replace(
                shown,
                user_id=user,
                guest_since=began,
                effective_at=effective,
                first_seen_at=began,
                state_since=at,
                owner_since=at,
                mapped_at=at,
            )
        elif old.effective_at is None or (effective is not None and effective > old.effective_at):
            self.orders[shown.order_id] = replace(
                shown,
                user_id=user,
                guest_since=old.guest_since if old.guest_key == shown.guest_key else began,
                effective_at=effective,
                first_seen_at=old.first_seen_at,
                state_since=old.state_since if old.state is shown.state else at,
                owner_since=old.owner_since if old.owner == shown.owner else at,
                mapped_at=old.mapped_at,
            )

    def _orders_shrunk(self, feed: OrderFeed, staged: set[str]) -> bool:
        known = [o for o in self.orders.values() if o.state is not OrderState.ENDED]
        known = [o for o in known if o.order_id not in self.gone_orders]
        vanished = [o for o in known if o.order_id not in staged]

        def each_is_gone() -> bool:
            for order in vanished:
                answer = feed.order(order.order_id, self.control_order(order.order_id))
                ended = isinstance(answer, Found) and answer.value.state is OrderState.ENDED
                if not ended and not isinstance(answer, Gone):
                    return False
            return True

        return self._shrunk(len(vanished), len(known), each_is_gone)

    def control_order(self, other_than: str) -> str | None:
        """An order known to exist."""
        known = (OrderState.ACTIVE, OrderState.PENDING, OrderState.SUSPENDED)
        return next(
            (i for i, o in self.orders.items() if o.state in known and i != other_than and i not in self.gone_orders),
            None,
        )

    def shown_orders(self) -> tuple[Order, ...]:
        """The orders that were not absent from the last complete sweep."""
        return tuple(o for i, o in self.orders.items() if i not in self.gone_orders)

    def missed_orders(self, proven: Proven) -> tuple[Order, ...]:
        """The orders that were absent from it and are not proven gone."""
        return tuple(o for i, o in self.orders.items() if i in self.gone_orders and not proven(self.gone_orders[i]))

    # --- both

    def _shrunk(self, missing: int, known: int, each_is_gone: object) -> bool:
        if not is_mass_loss(missing, known) or self.acknowledged:
            return False
        return not (missing <= ASKED_SINGLY and callable(each_is_gone) and each_is_gone())

    def _counted(self, absence: Absence | None, at: datetime) -> Absence:
        self.snapshots += 1
        if absence is None:
            return Absence(at, 1, at, (self.snapshots,))
        if absence.last_seen_absent_at >= at:
            return absence
        return Absence(absence.absent_since, absence.consecutive + 1, at, (*absence.evidence[-9:], self.snapshots))


def _naming(order: Order) -> tuple[object, ...]:
    return order.guest_key, order.state is OrderState.ENDED


def _read(source: GuestSource, known: Known, at: datetime) -> None:
    answer = source.config(known.guest.node, known.guest.guest_type, known.guest.vmid)
    if isinstance(answer, Found):
        _store_fingerprint(known, answer.value, at)


def _wanted(known: Known, believed: str | None, now: datetime) -> bool:
    guest = known.guest
    if guest.fingerprint_state in (FingerprintState.UNREAD, FingerprintState.STALE):
        return True
    if guest.fingerprint_state is FingerprintState.FORBIDDEN:
        return known.read is not None and now - known.read > timedelta(minutes=10)
    if known.read is not None and now - known.read > timedelta(days=1):
        return True
    if guest.fingerprint_seen >= 2:
        return False
    return known.earlier is not None or (believed is not None and believed != guest.fingerprint)


def _store_fingerprint(known: Known, config: GuestConfig, at: datetime) -> None:
    old, fingerprint = known.guest, config.fingerprint
    if config.forbidden:
        fingerprint = old.fingerprint if old.fingerprint_state in identity_doubts.LOOKED_AT else None
    same = old.fingerprint == fingerprint
    if not same and old.fingerprint is not None:
        known.earlier = old.fingerprint
    known.read = at
    known.guest = replace(
        old,
        fingerprint=fingerprint,
        fingerprint_state=FingerprintState.FORBIDDEN if config.forbidden else FingerprintState.READ,
        fingerprint_seen=old.fingerprint_seen if config.forbidden else old.fingerprint_seen + 1 if same else 1,
        fingerprint_since=old.fingerprint_since or at if same else at,
        first_seen_at=old.first_seen_at if same else at,
    )
