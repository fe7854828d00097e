"""Ask the sources once more just before a write: each question of ``domain.confirmations`` has its look-up here.

A list that a run was made of may be old, cut short or a copy; what is asked for singly is not. Nothing is written
unless every look-up of a change confirms it.
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


class LooksUp(Protocol):
    """A feed that can be asked for one order."""

    def order(self, order_id: str, control_id: str | None) -> Lookup[Order]: ...


class Confirms(Protocol):
    """A cluster that can be asked whether one guest is gone."""

    def confirm(self, node: str, guest_type: GuestType, vmid: int) -> Lookup[GuestConfig]: ...


class OutOfTimeError(Exception):
    """The run's time is over: nothing more is confirmed or written in it."""


class Confirming(Protocol):
    """Says why a change may not be made (None: it may), and what the look-ups said. May raise OutOfTimeError."""

    def hindrance(self, change: Change) -> tuple[str | None, dict[str, Any]]: ...


@dataclass(frozen=True, slots=True)
class Yes:
    """Confirmed; ``said`` goes to the journal."""

    said: str


@dataclass(frozen=True, slots=True)
class No:
    """Contradicted, or not to be found out; ``why`` is a sentence."""

    why: str


Answer = Yes | No


@dataclass(frozen=True, slots=True)
class Confirmer:
    """Looks up one order or guest. ``complete``: clusters read completely this run; ``clusters``: all configured."""

    engine: Engine
    feed: LooksUp | None
    sources: Mapping[str, Confirms]
    complete: frozenset[str]
    clusters: frozenset[str]
    one_at_a_time: threading.Lock = field(default_factory=threading.Lock)

    def hindrance(self, change: Change) -> tuple[str | None, dict[str, Any]]:
        """(why the change may not be made, what the look-ups said)."""
        said: dict[str, Any] = {}
        for asked in change.confirm:
            answer = self._ask(asked)
            if isinstance(answer, No):
                return answer.why, said
            said[f"confirmed_{asked.word}"] = answer.said
        return None, said

    def _ask(self, asked: Confirmation) -> Answer:
        match asked:
            case OrderIsOver():
                return self._order_is_over(asked)
            case OrderNamesGuest():
                return self._order(asked, lambda now: _contradicts_link(asked, now))
            case OrderGoesOn():
                return self._order(asked, lambda now: _does_not_go_on(asked, now))
            case OrderNamesOwner():
                return self._order(asked, lambda now: _another_owner(asked.order_id, asked.owner, now.owner))
            case OrderNamesSurvivor():
                return self._order(asked, lambda now: _contradicts_merge(asked, now))
            case NextOrderNamesGuest():
                return self._next_order_names_guest(asked)
            case GuestIsGone():
                return self._guest_is_gone(asked)
            case PaidGuestIsMissing():
                return self._paid_guest_is_missing(asked)
            case GuestLeftItsAddress():
                return self._guest_left_its_address(asked)
            case OneGuestIsGone():
                return self._one_guest_is_gone(asked)
            case GuestIsTheSameMachine():
                return self._guest_is_the_same_machine(asked)
        raise TypeError(f"nobody knows how to ask {asked!r}")

    # --- orders

    def _order_is_over(self, asked: OrderIsOver) -> Answer:
        match self._look_up(asked.order_id):
            case Gone(how=how):
                return Yes(how)
            case Found(value=now) if now.state is OrderState.ENDED:
                return Yes(f"order {asked.order_id} is {now.status}")
            case Found(value=now):
                return No(f"order {asked.order_id} is {now.status} after all")
            case unknown:
                return _unanswered(asked.order_id, unknown)

    def _order(self, asked: OrderConfirmation, contradiction: Callable[[Order], str | None]) -> Answer:
        """Whether the order is there, and nothing that it says now stands against the change."""
        match self._look_up(asked.order_id):
            case Found(value=now):
                why = contradiction(now)
                return No(why) if why is not None else Yes(f"order {asked.order_id} is {now.status}")
            case unknown:
                return _unanswered(asked.order_id, unknown)

    def _next_order_names_guest(self, asked: NextOrderNamesGuest) -> Answer:
        order_id, key = asked.order_id, asked.guest_key
        match self._look_up(order_id):
            case Found(value=now) if now.guest_key == key and _going(now):
                return Yes(f"order {order_id} is {now.status} and names {key}")
            case Found(value=now):
                return No(f"order {order_id} is {now.status} and names {now.guest_key or 'no guest'} by now")
            case unknown:
                return _unanswered(order_id, unknown)

    def _look_up(self, order_id: str | None) -> Lookup[Order] | None:
        """What the feed says of one order; None where nobody can be asked."""
        if self.feed is None or order_id is None:
            return None
        # The process has few connections, and this takes one for a moment only.
        with self.one_at_a_time, self.engine.connect() as connection:
            control = control_order(connection, other_than=order_id)
        return self.feed.order(order_id, control)

    # --- guests

    def _guest_is_gone(self, asked: GuestIsGone) -> Answer:
        if (no := self._unsure(asked.record, over=asked.order_ended)) is not None:
            return no
        # Nobody can be told from a machine that nobody ever identified.
        anybody = asked.record.link_state is not LinkState.VERIFIED
        places = (asked.guest_key, *asked.elsewhere)
        return _all(self._gone(asked.record, place, anybody=anybody) for place in places)

    def _paid_guest_is_missing(self, asked: PaidGuestIsMissing) -> Answer:
        if (no := self._unsure(asked.record, over=False)) is not None:
            return no
        # Any guest at an address that a going order names will do: what is paid for is not missing.
        here, places = asked.guest_key, (asked.guest_key, *asked.elsewhere)
        return _all(self._gone(asked.record, place, anybody=place == here) for place in places)

    def _guest_left_its_address(self, asked: GuestLeftItsAddress) -> Answer:
        if asked.guest_key.cluster not in self.clusters:
            return Yes("its cluster is not configured any more")
        return self._gone(asked.record, asked.guest_key)

    def _one_guest_is_gone(self, asked: OneGuestIsGone) -> Answer:
        answer: Answer = No("neither record has a guest that could be looked for")
        for record in asked.records:
            if (key := record.guest_key) is None:
                continue
            places = (key, *(place for place in asked.elsewhere if place != key))
            answer = _all(self._gone(record, place) for place in places)
            if isinstance(answer, Yes):
                break
        return answer

    def _guest_is_the_same_machine(self, asked: GuestIsTheSameMachine) -> Answer:
        record, key = asked.record, asked.guest_key
        source = self.sources.get(key.cluster)
        if source is None or record.node is None or record.guest_type is None:
            return No(f"guest {key} cannot be asked now")
        match source.confirm(record.node, record.guest_type, key.vmid):
            case Found(value=config) if config.fingerprint is not None and config.fingerprint == record.fingerprint:
                return Yes(f"guest {key} on {config.node} is {config.fingerprint}")
            case Found():
                return No(f"guest {key} is another machine by now")
            case Gone():
                return No(f"guest {key} is gone by now")
            case Unclear(why=why):
                return No(f"who guest {key} is could not be read: {why}")

    def _unsure(self, record: Record, *, over: bool) -> No | None:
        """Why the record's guest cannot be told to be gone. ``over``: its order ended; else it may be where nobody
        looked."""
        if record.node is None or record.guest_type is None:
            return No("the guest's last node is not known")
        if not over and self.complete < self.clusters:
            return No("not every cluster was read completely, and the order is not ended")
        return None

    def _gone(self, record: Record, key: GuestKey, *, anybody: bool = False) -> Answer:
        """Whether the record's guest, or ``anybody``, is not at that address."""
        source = self.sources.get(key.cluster)
        if source is None:
            return No(f"cluster {key.cluster} cannot be asked now")
        if record.node is None or record.guest_type is None:
            return No("the guest's last node is not known")
        match source.confirm(record.node, record.guest_type, key.vmid):
            case Found(value=config) if anybody:
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
    """The first no, else what all said. Asks no further after a no."""
    said = []
    for answer in answers:
        if isinstance(answer, No):
            return answer
        said.append(answer.said)
    return Yes("; ".join(said))


def _unanswered(order_id: str | None, said: Lookup[Order] | None) -> No:
    match said:
        case None:
            return No("there is no order to ask for")
        case Unclear(why=why):
            return No(f"order {order_id} could not be confirmed: {why}")
        case _:
            return No(f"order {order_id} is gone by now")


def _going(order: Order) -> bool:
    return order.state in (OrderState.ACTIVE, OrderState.SUSPENDED)


def _another_owner(order_id: str | None, planned: str | None, now: str | None) -> str | None:
    return f"order {order_id} does not say the same owner any more" if now != planned else None


def _not_its_owner(order_id: str | None, planned_by: Order | None, now: Order) -> str | None:
    """An order that names no owner contradicts nothing."""
    if planned_by is None or now.owner is None:
        return None
    return _another_owner(order_id, planned_by.owner, now.owner)


def _does_not_go_on(asked: OrderGoesOn, now: Order) -> str | None:
    if (why := _not_its_owner(asked.order_id, asked.planned_by, now)) is not None:
        return why
    return None if _going(now) else f"order {asked.order_id} is {now.status} by now"


def _contradicts_link(asked: OrderNamesGuest, now: Order) -> str | None:
    if (why := _does_not_go_on(asked, now)) is not None:
        return why
    named = asked.guest_key if asked.or_none and now.guest_key is None else now.guest_key
    return f"order {asked.order_id} names another guest by now" if named != asked.guest_key else None


def _contradicts_merge(asked: OrderNamesSurvivor, now: Order) -> str | None:
    if (why := _not_its_owner(asked.order_id, asked.planned_by, now)) is not None:
        return why
    if asked.planned_by is None or now.panel_vps_id == asked.planned_by.panel_vps_id:
        return None
    return f"order {asked.order_id} names another VPS by now"
