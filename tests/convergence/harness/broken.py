"""Guards, each with a way to break it. Only tests come here: production code has no such switch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import pytest

from domain import identity_doubts
from domain.changes import Change
from domain.guests import PowerState
from domain.repair_policy import delete_limits
from panel.journal import repairs
from reconcile import confirming
from reconcile.decision import cases, creates, decide, deletes, fact_updates, gate, table, updates
from reconcile.decision.matching import address_claims, duplicates, guest_matching, match, newcomers, possible_locations
from reconcile.decision.subjects import Paused
from tests.convergence.harness import memory, panel
from tests.convergence.harness.story import Story

SWAPS = ("swap", "swap-paused", "swap-unread")

LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)

Break = Callable[[pytest.MonkeyPatch], None]


@dataclass(frozen=True, slots=True)
class Guard:
    """What is guarded, how to break it, and what a story must tell of to need it: one word at least of ``needs``."""

    name: str
    what: str
    breaks: Break
    needs: frozenset[str] = frozenset()

    def needed(self, story: Story) -> bool:
        """Whether a story tells of what the guard is for."""
        words = {story.names, *story.sales, *(h.kind for round_ in story.rounds for h in round_.happenings)}
        return not self.needs or bool(self.needs & words)


def _for(*words: str) -> frozenset[str]:
    return frozenset(words)


def _set(module: Any, name: str, value: Any) -> Break:
    def breaks(patch: pytest.MonkeyPatch) -> None:
        patch.setattr(module, name, value)

    return breaks


def _always(module: Any, name: str, *, value: Any) -> Break:
    return _set(module, name, lambda *_, **__: value)


def _without(word: str) -> Break:
    """Take the look-ups that are journaled under a word out of every change, just before it would be confirmed."""
    real = confirming.Confirmer.hindrance

    def hindrance(self: confirming.Confirmer, change: Change) -> Any:
        return real(self, replace(change, confirm=tuple(asked for asked in change.confirm if asked.word != word)))

    return _set(confirming.Confirmer, "hindrance", hindrance)


def _as_is(matching: Any, record: Any, order: Any) -> Any:
    """The guest at the address is the guest, whoever it is."""
    key = record.guest_key or (order.guest_key if order else None)
    guest = matching.guests.get(key) if key else None
    if guest is not None:
        matching.used.add(key)
    return guest, key, False, None


def _single_sight(patch: pytest.MonkeyPatch) -> None:
    real = fact_updates.power_update

    def power_update(guest: Any, record: Any, policy: Any) -> Any:
        return real(replace(guest, previous_read_at=guest.read_at), record, policy)

    patch.setattr(fact_updates, "power_update", power_update)


def _owner_at_once(patch: pytest.MonkeyPatch) -> None:
    def owner_update(order: Any, record: Any, world: Any) -> Any:
        if order.user_id is None or order.user_id == record.user_id:
            return None
        return fact_updates.FactUpdate({"user_id": order.user_id, "owner_changed_at": world.now}, "another owner")

    patch.setattr(fact_updates, "owner_update", owner_update)


def _unprotected(patch: pytest.MonkeyPatch) -> None:
    real = deletes.delete_hindrance

    def hindrance(case: Any, world: Any, policy: Any) -> Any:
        return real(replace(case, record=replace(case.record, protected_until=None)), world, policy)

    patch.setattr(decide, "delete_hindrance", hindrance)


def _hold_is_delete(patch: pytest.MonkeyPatch) -> None:
    real = table.cell

    def cell(order: Any, guest: Any, record: Any, in_flight: bool) -> Any:
        found = real(order, guest, record, in_flight)
        ended = record is cases.RecordView.LIVE and order is cases.OrderView.ENDED
        if ended and guest is cases.GuestView.NONE_UNPROVEN:
            return table.Cell(table.Verdict.DELETE, "ended")
        return found

    patch.setattr(decide, "cell", cell)


def _status_of_the_feed(patch: pytest.MonkeyPatch) -> None:
    """Where the guest is known, the order's word for its power is taken all the same."""
    real = updates.record_updates

    def record_updates(case: Any, found: Any, view: Any, world: Any, policy: Any) -> Any:
        del view
        return real(replace(case, guest=None), found, cases.GuestView.UNOBSERVABLE, world, policy)

    patch.setattr(decide, "record_updates", record_updates)
    patch.setattr(updates, "two_way", lambda *_: True)


def _unknown_is_stopped(patch: pytest.MonkeyPatch) -> None:
    real = fact_updates.power_update

    def power_update(guest: Any, record: Any, policy: Any) -> Any:
        stopped = guest.power is PowerState.UNKNOWN
        return real(replace(guest, power=PowerState.STOPPED) if stopped else guest, record, policy)

    patch.setattr(fact_updates, "power_update", power_update)
    patch.setattr(table, "PRESENT", table.PRESENT | {cases.GuestView.UNKNOWN})


def _by_chance(matching: Any, orders: list[Any], records: list[Any]) -> None:
    for order, record in zip(orders, records, strict=False):
        matching._pair(order, record)


def _any_plan_pairs(patch: pytest.MonkeyPatch) -> None:
    """While equal names are paired, every plan is the same one. Partners are looked for by the real plan."""
    real = match._Matching._pair_group

    def pair_group(matching: Any, orders: list[Any], records: list[Any]) -> None:
        with pytest.MonkeyPatch.context() as while_pairing:
            while_pairing.setattr(match, "same_plan", lambda *_: True)
            real(matching, orders, records)

    patch.setattr(match._Matching, "_pair_group", pair_group)


def _one_at_the_address(matching: Any, record: Any, order: Any, key: Any) -> Any:
    """The same uuid anywhere is the same machine at once."""
    same = [g for g in matching.guests.values() if g.fingerprint == record.fingerprint is not None]
    if not same:
        return None, key, False, None
    matching.used.add(same[0].key)
    return same[0], same[0].key, False, None


def _moved_at_once(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(guest_matching.GuestMatching, "_moved", _one_at_the_address)
    _without("left")(patch)


def _nowhere_else(patch: pytest.MonkeyPatch) -> None:
    for module in (decide, deletes, updates, possible_locations):
        patch.setattr(module, "seen_elsewhere", lambda *_: ())


def _nobody_is_unknown(patch: pytest.MonkeyPatch) -> None:
    for module in (deletes, duplicates, updates):
        patch.setattr(module, "why_maybe_elsewhere", lambda *_: None)


def _told_long_ago(patch: pytest.MonkeyPatch) -> None:
    """Whatever stands at an address has stood there since before the orders were read."""
    real = guest_matching.GuestMatching._reinstalled

    def reinstalled(matching: Any, order: Any, guest: Any) -> bool:
        return real(matching, order, replace(guest, fingerprint_since=LONG_AGO))

    patch.setattr(guest_matching.GuestMatching, "_reinstalled", reinstalled)


def _pending_is_active(patch: pytest.MonkeyPatch) -> None:
    real = table.cell

    def cell(order: Any, *rest: Any) -> Any:
        return real(cases.OrderView.ACTIVE if order is cases.OrderView.PENDING else order, *rest)

    patch.setattr(decide, "cell", cell)


def _locks(change: Callable[[Any, Any], Any]) -> Break:
    """Look at every guest with its lock changed."""

    def breaks(patch: pytest.MonkeyPatch) -> None:
        real = cases._present_guest_view
        patch.setattr(cases, "_present_guest_view", lambda g, world, policy: real(change(g, world), world, policy))

    return breaks


def _by_its_looks(patch: pytest.MonkeyPatch) -> None:
    """Whoever looks the same in every list is the same machine: neither a start nor a switch-over is a doubt."""
    real = identity_doubts.listed

    def listed(*guests: Any, **rest: Any) -> Any:
        found = real(*guests, **rest)
        return found if found in (identity_doubts.Doubt.UNLISTED, identity_doubts.Doubt.CHANGED) else None

    patch.setattr(identity_doubts, "listed", listed)


def _in_doubt_all_the_same(patch: pytest.MonkeyPatch) -> None:
    """A doubt is noted, and what the guest says is taken nevertheless."""

    def identified(case: Any, world: Any) -> bool:
        record, guest = case.record, case.guest
        return None not in (record, guest) and record.fingerprint in (None, guest.fingerprint)

    patch.setattr(updates, "_identified", identified)
    patch.setattr(panel, "_known", lambda record, guest: guest.fingerprint == record.fingerprint)
    patch.setattr(memory.Memory, "read_doubted", lambda *_: None)


def _whoever_claims_it(patch: pytest.MonkeyPatch) -> None:
    """Nobody asks who else names a guest, before the link or after it."""
    _always(address_claims.AddressClaims, "why_not_own", value=None)(patch)
    _always(address_claims.AddressClaims, "sold_to", value=None)(patch)


def _a_template_is_a_machine(patch: pytest.MonkeyPatch) -> None:
    real = cases._present_guest_view
    patch.setattr(cases, "_present_guest_view", lambda g, w, p: real(replace(g, template=False), w, p))


def _templates_stay_where_they_are(patch: pytest.MonkeyPatch) -> None:
    """A template that nobody names is nobody's machine, whatever it was."""
    real = match._Matching.__init__

    def init(self: Any, world: Any, policy: Any) -> None:
        named = {o.guest_key for o in world.orders} | {r.guest_key for r in world.records}
        listed = tuple(g for g in world.guests if not g.template or g.key in named)
        real(self, replace(world, guests=listed), policy)

    patch.setattr(match._Matching, "__init__", init)
    for module in (decide, deletes, updates, possible_locations):
        patch.setattr(module, "seen_elsewhere", lambda *_: ())


def _no_limit(patch: pytest.MonkeyPatch) -> None:
    """No number of changes is too many."""
    for module in (gate, delete_limits):
        patch.setattr(module, "over", lambda *_: None)


GUARDS = (
    Guard("proof", "an absence counts only after several complete looks", _always(cases.Policy, "proven", value=True)),
    Guard("confirm-guest", "the guest is asked for singly before a delete or an alarm", _without("guest")),
    Guard("confirm-order", "the order is asked for singly before a delete, a create or a new owner", _without("order")),
    Guard("freshness", "a read older than the last call changes nothing", _always(fact_updates, "_fresh", value=True)),
    Guard("two-sights", "running becomes stopped only when seen twice", _single_sight),
    Guard("owner-twice", "an owner changes only after two complete sweeps", _owner_at_once),
    Guard("fingerprint", "another machine at the same address is not the same machine",
          _set(guest_matching.GuestMatching, "guest_of_record", _as_is)),
    Guard("claims", "no record is linked unseen to a guest that another order names",
          _whoever_claims_it, _for("late-create")),
    Guard("budget", "many deletes at once wait for an operator", _no_limit),
    Guard("unproven-is-held", "an ended order whose guest is only unseen is held", _hold_is_delete),
    Guard("hindrances", "a delete has every guard of its own", _always(decide, "delete_hindrance", value=None)),
    Guard("protection", "what an operator restored is not deleted again", _unprotected),
    Guard("power-authority", "the power state that the feed tells counts only where there is no guest",
          _status_of_the_feed),
    Guard("unknown-power", "an unknown power state writes nothing", _unknown_is_stopped, _for("odd-state")),
    Guard("partners", "an order has no record made while an unlinked one may be its own",
          _always(match._Matching, "_hold_possible_partners", value=None), _for("loose", "twin")),
    Guard("names", "a name pairs only what is unique on both sides",
          _set(match._Matching, "_pair_group", _by_chance), _for("plans", "equal")),
    Guard("plans", "of equal names only an equal plan pairs", _any_plan_pairs, _for("plans")),
    Guard("clones", "two guests of one cluster with one uuid are quarantined",
          _always(guest_matching.GuestMatching, "clone_doubt", value=None), _for("clone")),
    Guard("moving", "a machine that has not provably left its address has not moved", _moved_at_once, _for("clone")),
    Guard("seen-elsewhere", "a machine that moved is not gone with its old address", _nowhere_else,
          _for("move", "renumber", "move-unread")),
    Guard("unidentified", "no machine is gone while a guest of unknown identity may be it", _nobody_is_unknown,
          _for("move-unread", "forbid")),
    Guard("sold-on", "a machine made anew is its order's once all orders were read since", _told_long_ago,
          _for("resold", *SWAPS)),
    Guard("first-sight", "a machine that came after its order named the address is linked once all orders were read",
          _always(newcomers.Newcomers, "may_be_sold_to_another", value=False), _for("unmade-vmid", "misnamed")),
    Guard("pending", "nothing is made of an order that is still being set up", _pending_is_active, _for("pending")),
    Guard("new-owner-waits", "no record is made for an owner seen once",
          _always(creates, "_owner_seen_once", value=False), _for("blink-owner")),
    Guard("pauses", "nothing is concluded from a paused source",
          _set(Paused, "without_paused", lambda _, plan: plan), _for("pause-feed", "pause-cluster")),
    Guard("locks", "a locked guest is left alone",
          _locks(lambda guest, _: replace(guest, lock=None)), _for("backup", "lock-forgotten")),
    Guard("forgotten-locks", "a lock that is never taken away protects for two hours",
          _locks(lambda guest, world: replace(guest, lock_since=world.now)), _for("lock-forgotten")),
    Guard("doubt-start", "a guest that was started or switched over since it was read may be another one",
          _by_its_looks, _for(*SWAPS)),
    Guard("doubt-silence", "nothing is taken of a guest in doubt before it was read again",
          _in_doubt_all_the_same, _for(*SWAPS)),
    Guard("sold-to", "a machine that another order names is not shown to the customer whose order ended",
          _always(address_claims.AddressClaims, "sold_to", value=None), _for("sold-on")),
    Guard("template", "a sold machine that is a template now is told", _a_template_is_a_machine, _for("template")),
    Guard("template-moved", "a sold machine that is a template at another address is not gone",
          _templates_stay_where_they_are, _for("template-moved")),
    Guard("disputed", "a guest that a call named is linked only once it is no other record's",
          _always(address_claims.Disputes, "_against", value=None), _for("claimed", "misnamed")),
)  # fmt: skip


def _any_version(patch: pytest.MonkeyPatch) -> None:
    real = repairs._unchanged

    def unchanged(vps_id: int, queue: Any, row: Any, expected: int) -> Any:
        return real(vps_id, queue, row, row["version"] if row is not None else expected)

    patch.setattr(repairs, "_unchanged", unchanged)


VERSION = Guard("version", "a record that changed since it was looked at is not written", _any_version)
"""Compare-and-set is the database's: it takes stories through PostgreSQL to break."""


@contextmanager
def broken(guard: Guard) -> Iterator[None]:
    """Break one guard for a while."""
    with pytest.MonkeyPatch.context() as patch:
        guard.breaks(patch)
        yield
