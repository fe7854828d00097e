"""Confirmations side by side: what the next changes rest on is looked up while the ones before them are written.

The answers are taken in the plan's order, by the one writer. A source is asked few questions at once, and none is
waited for without end. A source that gave no answer in time is asked nothing more in this run: the changes of the
others must not wait for it.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from queue import Empty, SimpleQueue
from typing import Any, Self, TypeVar

from domain.changes import Change
from domain.guests import GuestType
from domain.orders import Order
from domain.source_protocols import GuestConfig, Lookup, Unclear
from reconcile.confirming import Confirmer, OutOfTimeError

T = TypeVar("T")

AHEAD = 8
"""So many changes are looked up or wait to be written, at most."""
CLUSTER_AT_ONCE = 2
"""Three workers serve a whole Proxmox node; one is left for everybody else."""
MAIN_SITE_AT_ONCE = 4
WITHIN_S = 60.0
"""No answer is waited for longer. A node that is not there is answered for after 30 s."""
SLOW_S = 20.0
"""An answer that took longer and said nothing counts as none."""
FRESH_S = 15.0
"""An older confirmation is asked for again: a change ahead of it was slow."""


class Turns:
    """The questions to one source: ``at_once`` at a time, and none any more once it gave no answer in time."""

    def __init__(self, name: str, at_once: int) -> None:
        self._name = name
        self.within_s = WITHIN_S
        self._left = at_once
        self._silent = False
        self._changed = threading.Condition()

    def ask(self, question: Callable[[], Lookup[T]]) -> Lookup[T]:
        """The answer; ``Unclear`` where none came in time, or an earlier one did not."""
        with self._changed:
            self._changed.wait_for(lambda: self._left > 0 or self._silent)
            if self._silent:
                return Unclear(f"{self._name} gave no answer in time to an earlier question of this run")
            self._left -= 1
        answers: SimpleQueue[Lookup[T] | BaseException] = SimpleQueue()
        threading.Thread(target=self._answer, args=(question, answers), name="confirmation", daemon=True).start()
        try:
            answer = answers.get(timeout=self.within_s)
        except Empty:
            self.end()
            return Unclear(f"{self._name} gave no answer within {self.within_s:g} s")
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def end(self) -> None:
        """Ask nothing more. A question under way keeps its place until the source's own time limits end it."""
        with self._changed:
            self._silent = True
            self._changed.notify_all()

    def _answer(self, question: Callable[[], Lookup[T]], answers: SimpleQueue[Lookup[T] | BaseException]) -> None:
        said: Lookup[T] | BaseException
        began = time.monotonic()
        try:
            said = question()
        except BaseException as error:  # noqa: BLE001 - raised where the answer is awaited
            said = error
        with self._changed:
            # Before the place is free: the next question must not slip in.
            self._silent = self._silent or (isinstance(said, Unclear) and time.monotonic() - began > SLOW_S)
            self._left += 1
            self._changed.notify_all()
        answers.put(said)


@dataclass(frozen=True, slots=True)
class _Feed:
    turns: Turns
    ask: Callable[[str, str | None], Lookup[Order]]

    def order(self, order_id: str, control_id: str | None) -> Lookup[Order]:
        return self.turns.ask(lambda: self.ask(order_id, control_id))


@dataclass(frozen=True, slots=True)
class _Cluster:
    turns: Turns
    ask: Callable[[str, GuestType, int], Lookup[GuestConfig]]

    def confirm(self, node: str, guest_type: GuestType, vmid: int) -> Lookup[GuestConfig]:
        return self.turns.ask(lambda: self.ask(node, guest_type, vmid))


Said = tuple[str | None, dict[str, Any]]


@dataclass(slots=True)
class _Look:
    """One change's look-up: what it said or raised, and when (monotonic clock)."""

    done: threading.Event = field(default_factory=threading.Event)
    said: Said | BaseException = (None, {})
    at: float = 0.0


class SideBySide:
    """What ``Confirmer`` says, asked for ahead.

    ``changes``: all of them, in the order in which they will be written. ``until`` (monotonic clock): an answer that
    has not come by then raises OutOfTimeError. Use as a context: at its end nothing more is asked.
    """

    def __init__(self, confirmer: Confirmer, changes: Iterable[Change], until: float) -> None:
        feed, site = confirmer.feed, Turns("the main site", MAIN_SITE_AT_ONCE)
        clusters = {name: Turns(f"cluster {name}", CLUSTER_AT_ONCE) for name in confirmer.sources}
        self._turns = (site, *clusters.values())
        self._confirmer = replace(
            confirmer,
            feed=_Feed(site, feed.order) if feed is not None else None,
            sources={name: _Cluster(clusters[name], source.confirm) for name, source in confirmer.sources.items()},
        )
        self._until = until
        self._waiting = deque(change for change in changes if change.confirm)
        self._looks: dict[int, _Look] = {}  # by the change's id(), in the plan's order

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for turns in self._turns:
            turns.end()

    def hindrance(self, change: Change) -> Said:
        """(why the change may not be made, what the look-ups said). Changes are asked about in order; some may be left
        out."""
        if not change.confirm:
            return None, {}
        look = self._look_of(change)
        self._begin_next()
        self._wait(look)
        if time.monotonic() - look.at > FRESH_S:
            look = self._begin(change)
            self._wait(look)
        if isinstance(look.said, BaseException):
            raise look.said
        return look.said

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
                look.said = self._confirmer.hindrance(change)
            except BaseException as error:  # noqa: BLE001 - raised where the answer is awaited
                look.said = error
            look.at = time.monotonic()
            look.done.set()

        threading.Thread(target=ask, name="confirming", daemon=True).start()
        return look

    def _wait(self, look: _Look) -> None:
        left = min(self._until - time.monotonic(), threading.TIMEOUT_MAX)
        if not look.done.wait(max(0.0, left)):
            raise OutOfTimeError
