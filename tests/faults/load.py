"""Calls that never end while parts fail, and a model of what they must have made of the panel."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from lab.chaos.calls import MarkedCall, make_call, mark_of

PLAN: dict[str, Any] = {"user_id": 5, "cpu": 1, "ram": 1024, "disk": 10, "os": "0", "hypervisor": "kvm"}
CALLERS, VPS_EACH, RATE = 5, 3, 60.0
MOST_WAITING, LOOK_S = 80, 0.3
CREATE_EVERY = 20
RETRY_S = 0.1
TIMEOUT_S = 60.0


@dataclass(slots=True)
class Load:
    """``RATE`` updates a second, less while ``waiting`` (how many calls are not applied yet) is high: a fault is
    to be judged, not the machine's speed. Each VPS has one caller, which makes one call after the
    other; creates have an Idempotency-Key, and are repeated until they are answered."""

    url: str
    key: str
    waiting: Callable[[], int]
    calls_by_vps: dict[int, list[MarkedCall]] = field(default_factory=dict)  # by VPS, in the order of the calls
    creates: list[MarkedCall] = field(default_factory=list)
    created: dict[str, set[int]] = field(default_factory=dict)  # name to the ids that answers gave
    is_unthrottled: bool = False
    _go: threading.Event = field(default_factory=threading.Event)
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def start(self) -> None:
        with self._client() as client:
            for number in range(CALLERS):
                ids = [self._create(client, f"load-{number}-{n}") for n in range(VPS_EACH)]
                self.calls_by_vps |= {vps_id: [] for vps_id in ids}
                caller = threading.Thread(target=self._call_on, args=(number, ids), daemon=True)
                self._threads.append(caller)
        self._threads.append(threading.Thread(target=self._throttle, daemon=True))
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(3 * TIMEOUT_S)
            assert not thread.is_alive()

    def since(self, at: float) -> list[MarkedCall]:
        """Every answer to a call that was made from that moment of the monotonic clock on."""
        with self._lock:
            calls: Iterable[list[MarkedCall]] = [self.creates, *self.calls_by_vps.values()]
            return [call for queue in calls for call in queue if call.at >= at]

    def snapshot(self) -> tuple[dict[int, list[MarkedCall]], dict[str, set[int]]]:
        """The answers so far, by VPS, and the ids that creates were given, by name."""
        with self._lock:
            calls_by_vps = {vps_id: list(queue) for vps_id, queue in self.calls_by_vps.items()}
            return calls_by_vps, {name: set(ids) for name, ids in self.created.items()}

    @contextmanager
    def unthrottled(self) -> Iterator[None]:
        """Calls go on, however many wait: a fault is to meet some."""
        self.is_unthrottled = True
        self._go.set()
        try:
            yield
        finally:
            self.is_unthrottled = False

    def _throttle(self) -> None:
        while not self._stop.wait(LOOK_S):
            try:
                may_call = self.waiting() < MOST_WAITING or self.is_unthrottled
            except (DBAPIError, PoolTimeoutError):
                may_call = True  # the database is away, which is what is tried
            (self._go.set if may_call else self._go.clear)()
        self._go.set()

    def _client(self) -> httpx.Client:
        headers = {"X-API-Key": self.key}
        return httpx.Client(base_url=self.url, headers=headers, timeout=TIMEOUT_S, trust_env=False)

    def _call_on(self, number: int, ids: list[int]) -> None:
        every_s, turn, due = CALLERS / RATE, 0, time.monotonic()
        with self._client() as client:
            while not self._stop.wait(max(0.0, due - time.monotonic())):
                self._go.wait()
                due = max(due + every_s, time.monotonic())
                turn += 1
                if turn % CREATE_EVERY == 0:
                    self._create(client, f"more-{number}-{turn}")
                    continue
                vps_id, status = ids[turn % len(ids)], ("running", "stopped")[turn % 2]
                mark = mark_of(turn)
                vps = {"id": vps_id, "status": status, "ip_address": mark}
                call, _ = make_call(client, mark, {"action": "update", "vps": vps})
                with self._lock:
                    self.calls_by_vps[vps_id].append(call)

    def _create(self, client: httpx.Client, name: str) -> int:
        """Repeat it, with its key, until it is answered for good; the id (0 if the load ended before)."""
        body = {"action": "create", "vps": PLAN | {"name": name}}
        while True:
            call, vps_id = make_call(client, name, body, {"Idempotency-Key": name})
            with self._lock:
                self.creates.append(call)
                if vps_id is not None:
                    self.created.setdefault(name, set()).add(vps_id)
                    return vps_id
            if self._stop.wait(RETRY_S):
                return 0
