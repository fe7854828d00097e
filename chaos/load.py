"""A steady load of sync calls, and how long each answer took."""

from __future__ import annotations

import threading
import time
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import httpx

from chaos.world import Sale

SYNC_PATH = "/api/vps/sync"
TIMEOUT_S = 10.0
SLOW_S = 2.0


@dataclass(frozen=True, slots=True)
class Slow:
    """An answer that took longer than promised. ``at``: seconds of the monotonic clock when it was asked for."""

    at: float
    took_s: float
    status: int | None


@dataclass(slots=True)
class Load:
    """``rate`` calls a second in all, by ``callers`` threads. Each says of a machine what is true of it already, so
    that nothing but the journal grows.

    ``asked_at`` (seconds of the monotonic clock) and ``took_s`` tell of every call that was answered, whatever the
    answer; ``operations`` of those that were accepted, ``statuses`` of all, None for those without an answer.
    """

    url: str
    key: str
    sales: Sequence[tuple[Sale, int]]  # with the record's id
    rate: float
    callers: int = 4
    operations: array[int] = field(default_factory=lambda: array("q"))
    asked_at: array[float] = field(default_factory=lambda: array("d"))
    took_s: array[float] = field(default_factory=lambda: array("d"))
    statuses: Counter[int | None] = field(default_factory=Counter)
    slow: list[Slow] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        """Begin to call."""
        for number in range(self.callers):
            thread = threading.Thread(target=self._call_on, args=(number,), name=f"load-{number}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """End after the calls that are under way."""
        self._stop.set()
        for thread in self._threads:
            thread.join(TIMEOUT_S + 5)

    def _call_on(self, number: int) -> None:
        mine = list(self.sales[number :: self.callers])
        every_s, turn = self.callers / self.rate, 0
        due = time.monotonic() + every_s * number / self.callers
        with httpx.Client(base_url=self.url, headers={"X-API-Key": self.key}, timeout=TIMEOUT_S, trust_env=False) as c:
            while mine and not self._stop.wait(max(0.0, due - time.monotonic())):
                sale, vps_id = mine[turn % len(mine)]
                turn += 1
                # Behind time it goes on at once, but never makes up for more than a second.
                due = max(due + every_s, time.monotonic() - 1.0)
                self._call(c, vps_id, sale.status)

    def _call(self, client: httpx.Client, vps_id: int, status: str) -> None:
        began = time.monotonic()
        body = {"action": "update", "vps": {"id": vps_id, "status": status}}
        code: int | None = None
        operation: int | None = None
        try:
            answer = client.post(SYNC_PATH, json=body)
            code = answer.status_code
            if code == 202:
                operation = int(answer.json()["operation"]["id"])
        except httpx.TransportError:
            code = None  # the API was killed on purpose; what was not answered was not promised
        took_s = time.monotonic() - began
        with self._lock:
            self.statuses[code] += 1
            if operation is not None:
                self.operations.append(operation)
            if code is not None:
                self.asked_at.append(began)
                self.took_s.append(took_s)
            if took_s > SLOW_S:
                self.slow.append(Slow(began, took_s, code))
