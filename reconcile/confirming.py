"""Ask the sources once more just before a write. Each question of ``domain.confirmations`` has its look-up here.

The lists that a run decided by may be old, cut short or a copy. A single look-up is none of these. A change is written
only if every one of its look-ups confirms it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from sqlalchemy import Engine

from domain.changes import Change
from domain.confirmations import (
    Confirmation,
    GuestIsGone,
    GuestIsTheSameMachine,
    GuestLeftItsAddress,
    NextOrderNamesGuest,
    OneGuestIsGone,
    OrderConfirmation,
    OrderGoesOn,
    OrderIsOver,
    OrderNamesGuest,
    OrderNamesOwner,
    OrderNamesSurvivor,
    PaidGuestIsMissing,
)
from domain.guests import GuestKey, GuestType
from domain.orders import Order, OrderState
from domain.records import LinkState, Record
from domain.source_protocols import Found, Gone, GuestConfig, Lookup, Unclear
from panel.observations.absences import control_order


class AskableFeed(Protocol):
    """A feed that can be asked for one order."""

    def order(self, order_id: str, control_id: str | None) -> Lookup[Order]: ...


class AskableCluster(Protocol):
    """A cluster that can be asked whether one guest is gone."""

    def confirm(self, node: str, guest_type: GuestType, vmid: int) -> Lookup[GuestConfig]: ...


class OutOfTimeError(Exception):
    """The run's time is over: nothing more is confirmed or written in it."""


class ChangeCheck(Protocol):
    """Gives the reason why a change may not be made (None: it may), and what the look-ups answered. May raise
    OutOfTimeError."""

    def hindrance(self, change: Change) -> tuple[str | None, dict[str, Any]]: ...


@dataclass(frozen=True, slots=True)
class Yes:
    """Confirmed. ``how``: a sentence for the journal."""

    how: str


@dataclass(frozen=True, slots=True)
class No:
    """Contradicted, or not clear. ``why``: a sentence for operators."""

    why: str


Answer = Yes | No


@dataclass(frozen=True, slots=True)
class Confirmer:
    """Looks up one order or guest. ``complete``: clusters read completely this run; ``clusters``: all configured."""

    engine: Engine
    feed: AskableFeed | None
    sources: Mapping[str, AskableCluster]
    complete: frozenset[str]
    clusters: frozenset[str]
    one_at_a_time: threading.Lock = field(default_factory=threading.Lock)

    def hindrance(self, change: Change) -> tuple[str | None, dict[str, Any]]:
        """(why the change may not be made, what the look-ups answered)."""
        confirmed: dict[str, Any] = {}
        for question in change.confirm:
            answer = self._ask(question)
            if isinstance(answer, No):
                return answer.why, confirmed
            word = f"confirmed_{question.word}"
            confirmed[word] = f"{confirmed[word]}; {answer.how}" if word in confirmed else answer.how
        return None, confirmed

    def _ask(self, question: Confirmation) -> Answer:
        match question:
            case OrderIsOver():
                return self._order_is_over(question)
            case OrderNamesGuest():
                return self._order(question, lambda now: _contradicts_link(question, now))
            case OrderGoesOn():
                return self._order(question, lambda now: _does_not_go_on(question, now))
            case OrderNamesOwner():
                return self._order(question, lambda now: _another_owner(question.order_id, question.owner, now.owner))
            case OrderNamesSurvivor():
                return self._order(question, lambda now: _contradicts_merge(question, now))
            case NextOrderNamesGuest():
                return self._next_order_names_guest(question)
            case GuestIsGone():
                return self._guest_is_gone(question)
            case PaidGuestIsMissing():
                return self._paid_guest_is_missing(question)
            case GuestLeftItsAddress():
                return self._guest_left_its_address(question)
            case OneGuestIsGone():
                return self._one_guest_is_gone(question)
            case GuestIsTheSameMachine():
                return self._guest_is_the_same_machine(question)
        raise TypeError(f"there is no look-up for {question!r}")

    # --- orders

    def _order_is_over(self, question: OrderIsOver) -> Answer:
        match self._look_up(question.order_id):
            case Gone(how=how):
                return Yes(how)
            case Found(value=now) if now.state is OrderState.ENDED:
                return Yes(f"order {question.order_id} is {now.status}")
            case Found(value=now):
                return No(f"order {question.order_id} is {now.status} after all")
            case unknown:
                return _unanswered(question.order_id, unknown)

    def _order(self, question: OrderConfirmation, contradiction: Callable[[Order], str | None]) -> Answer:
        """Whether the order is there, and nothing in it stands against the change now."""
        match self._look_up(question.order_id):
            case Found(value=now):
                why = contradiction(now)
                return No(why) if why is not None else Yes(f"order {question.order_id} is {now.status}")
            case unknown:
                return _unanswered(question.order_id, unknown)

    def _next_order_names_guest(self, question: NextOrderNamesGuest) -> Answer:
        order_id, key = question.order_id, question.guest_key
        match self._look_up(order_id):
            case Found(value=now) if now.guest_key == key and _is_active_or_suspended(now):
                return Yes(f"order {order_id} is {now.status} and names {key}")
            case Found(value=now):
                return No(f"order {order_id} is {now.status} and names {now.guest_key or 'no guest'} by now")
            case unknown:
                return _unanswered(order_id, unknown)

    def _look_up(self, order_id: str | None) -> Lookup[Order] | None:
        """What the feed says of one order; None if no feed may be asked, or no order is known."""
        if self.feed is None or order_id is None:
            return None
        # The process has few connections to the database, so the look-ups take one in turns, each for a moment.
        with self.one_at_a_time, self.engine.connect() as connection:
            control = control_order(connection, other_than=order_id)
        return self.feed.order(order_id, control)

    # --- guests

    def _guest_is_gone(self, question: GuestIsGone) -> Answer:
        if (no := self._unsure(question.record, order_ended=question.order_ended)) is not None:
            return no
        # A machine whose identity was never read cannot be told from another one: any guest there may be it.
        any_guest = question.record.link_state is not LinkState.VERIFIED
        places = (question.guest_key, *question.elsewhere)
        return _all(self._gone(question.record, place, any_guest=any_guest) for place in places)

    def _paid_guest_is_missing(self, question: PaidGuestIsMissing) -> Answer:
        if (no := self._unsure(question.record, order_ended=False)) is not None:
            return no
        # With any guest at the address that is paid for, nothing is missing.
        here, places = question.guest_key, (question.guest_key, *question.elsewhere)
        return _all(self._gone(question.record, place, any_guest=place == here) for place in places)

    def _guest_left_its_address(self, question: GuestLeftItsAddress) -> Answer:
        if question.guest_key.cluster not in self.clusters:
            return Yes("its cluster is not configured any more")
        return self._gone(question.record, question.guest_key)

    def _one_guest_is_gone(self, question: OneGuestIsGone) -> Answer:
        answer: Answer = No("no guest is known that could be looked for")
        for record in question.records:
            if (key := record.guest_key) is None:
                continue
            places = (key, *(place for place in question.elsewhere if place != key))
            answer = _all(self._gone(record, place) for place in places)
            if isinstance(answer, Yes):
                break
        return answer

    def _guest_is_the_same_machine(self, question: GuestIsTheSameMachine) -> Answer:
        known, key = question.known, question.guest_key
        source = self.sources.get(key.cluster)
        if source is None or known.node is None or known.guest_type is None:
            return No(f"guest {key} cannot be asked now")
        match source.confirm(known.node, known.guest_type, key.vmid):
            case Found(value=config) if config.fingerprint is not None and config.fingerprint == known.fingerprint:
                return Yes(f"guest {key} on {config.node} is {config.fingerprint}")
            case Found():
                return No(f"guest {key} is another machine by now")
            case Gone():
                return No(f"guest {key} is gone by now")
            case Unclear(why=why):
                return No(f"the identity of guest {key} could not be read: {why}")

    def _unsure(self, record: Record, *, order_ended: bool) -> No | None:
        """Why no look-up can prove that the record's guest is gone; None if one can. ``order_ended``: if the order did
        not end, the guest may be in a cluster that was not read."""
        if record.node is None or record.guest_type is None:
            return No("the guest's last node is not known")
        if not order_ended and self.complete < self.clusters:
            return No("not every cluster was read completely, and the order is not ended")
        return None

    def _gone(self, record: Record, key: GuestKey, *, any_guest: bool = False) -> Answer:
        """Whether the record's guest is not at that address. ``any_guest``: whether no guest at all is there."""
        source = self.sources.get(key.cluster)
        if source is None:
            return No(f"cluster {key.cluster} cannot be asked now")
        if record.node is None or record.guest_type is None:
            return No("the guest's last node is not known")
        match source.confirm(record.node, record.guest_type, key.vmid):
            case Found(value=config) if any_guest:
                return No(f"a guest stands at {key}, on node {config.node}")
            case Gone(how=how):
                return Yes(how)
            case Found(value=config) if None not in (record.fingerprint, config.fingerprint) and (
                config.fingerprint != record.fingerprint
            ):
                return Yes(f"another guest stands at {key} on {config.node} now")
            case Found(value=config):
                return No(f"guest {key} is there after all, on node {config.node}")
            case Unclear(why=why):
                return No(f"guest {key} could not be confirmed absent: {why}")


def _all(answers: Iterable[Answer]) -> Answer:
    """The first no, or a yes with all answers. After a no, nothing more is asked."""
    confirmed = []
    for answer in answers:
        if isinstance(answer, No):
            return answer
        confirmed.append(answer.how)
    return Yes("; ".join(confirmed))


def _unanswered(order_id: str | None, lookup: Lookup[Order] | None) -> No:
    match lookup:
        case None:
            return No("no order could be looked up: none is known, or the main site is paused or not configured")
        case Unclear(why=why):
            return No(f"order {order_id} could not be confirmed: {why}")
        case _:
            return No(f"order {order_id} is gone by now")


def _is_active_or_suspended(order: Order) -> bool:
    """Stricter than "has not ended": nothing is written for an order that waits or whose word is unknown."""
    return order.state in (OrderState.ACTIVE, OrderState.SUSPENDED)


def _another_owner(order_id: str | None, planned: str | None, now: str | None) -> str | None:
    return f"order {order_id} does not name the same owner any more" if now != planned else None


def _not_its_owner(order_id: str | None, planned_by: Order | None, now: Order) -> str | None:
    """An order that names no owner contradicts nothing."""
    if planned_by is None or now.owner is None:
        return None
    return _another_owner(order_id, planned_by.owner, now.owner)


def _does_not_go_on(question: OrderGoesOn, now: Order) -> str | None:
    if (why := _not_its_owner(question.order_id, question.planned_by, now)) is not None:
        return why
    return None if _is_active_or_suspended(now) else f"order {question.order_id} is {now.status} by now"


def _contradicts_link(question: OrderNamesGuest, now: Order) -> str | None:
    if (why := _does_not_go_on(question, now)) is not None:
        return why
    named = question.guest_key if question.or_none and now.guest_key is None else now.guest_key
    return f"order {question.order_id} names another guest by now" if named != question.guest_key else None


def _contradicts_merge(question: OrderNamesSurvivor, now: Order) -> str | None:
    if (why := _not_its_owner(question.order_id, question.planned_by, now)) is not None:
        return why
    if question.planned_by is None or now.panel_vps_id == question.planned_by.panel_vps_id:
        return None
    return f"order {question.order_id} names another VPS by now"
