"""How many questions one source is asked at a time, and for how long an answer is waited for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextvars import copy_context
from queue import Empty, SimpleQueue
from typing import TypeVar

from domain.source_protocols import Lookup, Unclear

T = TypeVar("T")

WITHIN_S = 60.0
"""How long an answer is waited for. Proxmox answers a question to a node that is away only after 30 s."""
SLOW_S = 20.0
"""An unclear answer that took longer than this counts as no answer."""


class QuestionSlots:
    """The questions to one source: ``at_once`` at a time, and none after one was not answered in time."""

    def __init__(self, name: str, at_once: int) -> None:
        self._name = name
        self.within_s = WITHIN_S
        self._left = at_once
        self._silent = False
        self._changed = threading.Condition()

    def ask(self, question: Callable[[], Lookup[T]]) -> Lookup[T]:
        """The answer; ``Unclear`` if none came in time, now or to an earlier question."""
        with self._changed:
            self._changed.wait_for(lambda: self._left > 0 or self._silent)
            if self._silent:
                return Unclear(f"{self._name} gave no answer in time to an earlier question of this run")
            self._left -= 1
        answers: SimpleQueue[Lookup[T] | BaseException] = SimpleQueue()
        arguments = (self._answer, question, answers)
        # In a copy of the context, so that a log line or a span of the thread belongs to the run, too.
        threading.Thread(target=copy_context().run, args=arguments, name="confirmation", daemon=True).start()
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
        answer: Lookup[T] | BaseException
        began = time.monotonic()
        try:
            answer = question()
        except BaseException as error:  # noqa: BLE001 - raised where the answer is awaited
            answer = error
        with self._changed:
            # The source is marked before its place is free, or the next question would slip in.
            self._silent = self._silent or (isinstance(answer, Unclear) and time.monotonic() - began > SLOW_S)
            self._left += 1
            self._changed.notify_all()
        answers.put(answer)
