"""A steady load of marked sync calls, and the answer to each."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from lab.chaos.calls import TIMEOUT_S, MarkedCall, make_call, mark_of
from lab.chaos.world import Sale

RETRY_S = 0.1
_ONCE, _AGAIN, _KEYED = range(3)
"""What a caller does when it does not know whether its call was accepted; each rule is for a third of the machines.

``_ONCE``: nothing more. ``_AGAIN``: it repeats the call without a key, which may make a second entry. ``_KEYED``: the
call had a key, and the caller repeats it with that key, also after a refusal.
"""


@dataclass(slots=True)
class Load:
    """``rate`` calls a second in all, by ``callers`` threads. Each machine has one caller, which makes one call after
    the other. A call changes nothing but the machine's address, which is the call's mark."""

    url: str
    key: str
    sales: Sequence[tuple[Sale, int]]  # with the record's id
    rate: float
    callers: int = 4
    timeout_s: float = TIMEOUT_S
    calls: dict[int, list[MarkedCall]] = field(default_factory=dict)  # by VPS, in the order of the calls
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        """Start calling."""
        self.calls = {vps_id: [] for _, vps_id in self.sales}
        for number in range(self.callers):
            thread = threading.Thread(target=self._call_on, args=(number,), name=f"load-{number}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """Stop after the calls in progress."""
        self._stop.set()
        for thread in self._threads:
            thread.join(self.timeout_s + 5)

    def every(self) -> Iterator[MarkedCall]:
        """All calls so far, machine by machine."""
        return itertools.chain.from_iterable(list(queue) for queue in self.calls.values())

    @contextmanager
    def _client(self) -> Iterator[httpx.Client]:
        headers = {"X-API-Key": self.key}
        with httpx.Client(base_url=self.url, headers=headers, timeout=self.timeout_s, trust_env=False) as client:
            yield client

    def _call_on(self, number: int) -> None:
        own_sales = list(self.sales[number :: self.callers])
        every_s, turn = self.callers / self.rate, 0
        due = time.monotonic() + every_s * number / self.callers
        with self._client() as client:
            while own_sales and not self._stop.wait(max(0.0, due - time.monotonic())):
                at = turn % len(own_sales)
                sale, vps_id = own_sales[at]
                turn += 1
                # A caller that is late calls again at once, but it catches up on at most a second of calls.
                due = max(due + every_s, time.monotonic() - 1.0)
                self._call(client, vps_id, sale.status, mark_of(turn), at % 3)

    def _call(self, client: httpx.Client, vps_id: int, status: str, mark: str, manner: int) -> None:
        body: dict[str, Any] = {"action": "update", "vps": {"id": vps_id, "status": status, "ip_address": mark}}
        headers = {"Idempotency-Key": f"{vps_id}-{mark}"} if manner == _KEYED else None
        while True:
            call, _ = make_call(client, mark, body, headers)
            self.calls[vps_id].append(call)
            again = call.operation is None if manner == _KEYED else call.open and manner == _AGAIN
            if not again or self._stop.wait(RETRY_S):
                return
