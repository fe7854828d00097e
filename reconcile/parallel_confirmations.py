"""Confirmations in parallel: while the writer writes one change, threads look up what the next changes need.

The one writer takes the answers in the plan's order. Each source is asked only a few questions at once, and every wait
has a limit. A source that gave no answer in time is asked nothing more in this run, so that the changes of the other
sources do not wait for it.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextvars import copy_context
from dataclasses import dataclass, field, replace
from typing import Any, Self

from domain.changes import Change
from domain.guests import GuestType
from domain.orders import Order
from domain.source_protocols import GuestConfig, Lookup
from reconcile.confirming import Confirmer, OutOfTimeError
from reconcile.question_slots import QuestionSlots

AHEAD = 8
"""How many changes, at most, are looked up or wait with their answers to be written."""
CLUSTER_AT_ONCE = 2
"""Three workers serve a whole Proxmox node; one is left for other callers."""
MAIN_SITE_AT_ONCE = 4
FRESH_S = 15.0
"""A confirmation that is older when its turn comes is asked for again: a change before it was slow. It is as old as the
first of its answers."""
TOO_OLD = (
    f"its look-ups took too long: the first answer was more than {FRESH_S:g} s old when the last one came; the next "
    "run asks again"
)


Hindrance = tuple[str | None, dict[str, Any]]
"""Why a change may not be made (None: it may), and what the look-ups answered."""


@dataclass(slots=True)
class _Look:
    """One change's look-up: what it returned or raised, and when its first answer came (monotonic clock)."""

    done: threading.Event = field(default_factory=threading.Event)
    result: Hindrance | BaseException = (None, {})
    at: float | None = None

    def answered(self) -> None:
        if self.at is None:
            self.at = time.monotonic()

    @property
    def is_old(self) -> bool:
        return self.at is not None and time.monotonic() - self.at > FRESH_S


@dataclass(frozen=True, slots=True)
class _Feed:
    slots: QuestionSlots
    ask: Callable[[str, str | None], Lookup[Order]]
    look: _Look

    def order(self, order_id: str, control_id: str | None) -> Lookup[Order]:
        answer = self.slots.ask(lambda: self.ask(order_id, control_id))
        self.look.answered()
        return answer


@dataclass(frozen=True, slots=True)
class _Cluster:
    slots: QuestionSlots
    ask: Callable[[str, GuestType, int], Lookup[GuestConfig]]
    look: _Look

    def confirm(self, node: str, guest_type: GuestType, vmid: int) -> Lookup[GuestConfig]:
        answer = self.slots.ask(lambda: self.ask(node, guest_type, vmid))
        self.look.answered()
        return answer


class ParallelConfirmations:
    """Gives the answers of ``Confirmer``, and asks for them ahead of the writer.

    ``changes``: all of them, in the order in which they will be written. ``until`` (monotonic clock): an answer that
    has not come by then raises OutOfTimeError. Use it as a context manager: at its end nothing more is asked.
    """

    def __init__(self, confirmer: Confirmer, changes: Iterable[Change], until: float) -> None:
        self._confirmer = confirmer
        self._site = QuestionSlots("the main site", MAIN_SITE_AT_ONCE)
        self._clusters = {name: QuestionSlots(f"cluster {name}", CLUSTER_AT_ONCE) for name in confirmer.sources}
        self._slots = (self._site, *self._clusters.values())
        self._until = until
        self._waiting = deque(change for change in changes if change.confirm)
        self._looks: dict[int, _Look] = {}  # by the change's id(), in the plan's order

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for slots in self._slots:
            slots.end()

    def hindrance(self, change: Change) -> Hindrance:
        """(why the change may not be made, what the look-ups answered). Ask for changes in the plan's order; some may
        be left out."""
        if not change.confirm:
            return None, {}
        look = self._look_of(change)
        self._begin_next()
        self._wait(look)
        if look.is_old:
            look = self._begin(change)
            self._wait(look)
        if isinstance(look.result, BaseException):
            raise look.result
        why, answers = look.result
        return (TOO_OLD if why is None and look.is_old else why), answers

    def _look_of(self, change: Change) -> _Look:
        for known in list(self._looks):
            look = self._looks.pop(known)
            if known == id(change):
                return look
        while self._waiting and self._waiting.popleft() is not change:
            pass
        return self._begin(change)

    def _begin_next(self) -> None:
        while self._waiting and len(self._looks) < AHEAD - 1:
            following = self._waiting.popleft()
            self._looks[id(following)] = self._begin(following)

    def _begin(self, change: Change) -> _Look:
        look = _Look()

        def ask() -> None:
            try:
                look.result = self._asking_for(look).hindrance(change)
            except BaseException as error:  # noqa: BLE001 - raised where the answer is awaited
                look.result = error
            look.answered()  # also where nothing had to be asked
            look.done.set()

        # In a copy of the context, so that a log line or a span of the thread belongs to the run, too.
        threading.Thread(target=copy_context().run, args=(ask,), name="confirming", daemon=True).start()
        return look

    def _asking_for(self, look: _Look) -> Confirmer:
        """The confirmer, whose sources note in ``look`` when they first answered."""
        feed, sources = self._confirmer.feed, self._confirmer.sources
        return replace(
            self._confirmer,
            feed=_Feed(self._site, feed.order, look) if feed is not None else None,
            sources={name: _Cluster(self._clusters[name], source.confirm, look) for name, source in sources.items()},
        )

    def _wait(self, look: _Look) -> None:
        left = min(self._until - time.monotonic(), threading.TIMEOUT_MAX)
        if not look.done.wait(max(0.0, left)):
            raise OutOfTimeError
