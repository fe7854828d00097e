"""A steady load of sync calls, each with a mark, and the answer to each."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from lab.chaos.calls import TIMEOUT_S, Said, mark_of, say
from lab.chaos.world import Sale

RETRY_S = 0.1
_ONCE, _AGAIN, _KEYED = range(3)
"""What a caller does when it does not know whether its call was accepted; each applies to a third of the machines. It
leaves the call alone. It repeats the call as it was, which may make a second entry. Or the call had a key, and it
repeats the call with that key, also after a refusal."""


@dataclass(slots=True)
class Load:
    """``rate`` calls a second in all, by ``callers`` threads. Each machine has one caller, which makes one call after
    the other. Each call states what is true of the machine already, and another address, its mark."""

    url: str
    key: str
    sales: Sequence[tuple[Sale, int]]  # with the record's id
    rate: float
    callers: int = 4
    said: dict[int, list[Said]] = field(default_factory=dict)  # by VPS, in the order of the calls
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        """Start calling."""
        self.said = {vps_id: [] for _, vps_id in self.sales}
        for number in range(self.callers):
            thread = threading.Thread(target=self._call_on, args=(number,), name=f"load-{number}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """Stop after the calls in progress."""
        self._stop.set()
        for thread in self._threads:
            thread.join(TIMEOUT_S + 5)

    def every(self) -> Iterator[Said]:
        """All calls so far, machine by machine."""
        return itertools.chain.from_iterable(list(queue) for queue in self.said.values())

    @contextmanager
    def _client(self) -> Iterator[httpx.Client]:
        headers = {"X-API-Key": self.key}
        with httpx.Client(base_url=self.url, headers=headers, timeout=TIMEOUT_S, trust_env=False) as client:
            yield client

    def _call_on(self, number: int) -> None:
        mine = list(self.sales[number :: self.callers])
        every_s, turn = self.callers / self.rate, 0
        due = time.monotonic() + every_s * number / self.callers
        with self._client() as client:
            while mine and not self._stop.wait(max(0.0, due - time.monotonic())):
                at = turn % len(mine)
                sale, vps_id = mine[at]
                turn += 1
                # A late caller continues at once, but makes up for at most a second.
                due = max(due + every_s, time.monotonic() - 1.0)
                self._call(client, vps_id, sale.status, mark_of(turn), at % 3)

    def _call(self, client: httpx.Client, vps_id: int, status: str, mark: str, manner: int) -> None:
        body: dict[str, Any] = {"action": "update", "vps": {"id": vps_id, "status": status, "ip_address": mark}}
        headers = {"Idempotency-Key": f"{vps_id}-{mark}"} if manner == _KEYED else None
        while True:
            one, _ = say(client, mark, body, headers)
            self.said[vps_id].append(one)
            again = one.operation is None if manner == _KEYED else one.open and manner == _AGAIN
            if not again or self._stop.wait(RETRY_S):
                return
