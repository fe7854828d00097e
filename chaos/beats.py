"""Which beat schedules, as Redis itself sees it: every message names the process that sent it."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from urllib.parse import urlsplit

_PUSH = re.compile(rb'^\+(?P<at>\d+\.\d+) \[[^\]]*\] "LPUSH" "(?:sync|reconcile)" ')
_ORIGIN = re.compile(rb"origin\W+gen(?P<pid>\d+)@")
_RECONNECT_S = 0.1


@dataclass(frozen=True, slots=True)
class Push:
    """One message of a beat. ``at``: Redis' clock, which is this machine's, in seconds since 1970."""

    at: float
    pid: int


def interleaved(pushes: Sequence[Push]) -> list[str]:
    """Where two beats scheduled at the same time: one that was succeeded and sent again. Pure."""
    wrong: list[str] = []
    over: dict[int, float] = {}
    for before, push in pairwise(pushes):
        if push.pid != before.pid:
            over[before.pid] = before.at
            if push.pid in over and push.at - over[push.pid] < _REBIRTH_S:
                wrong.append(f"beat {push.pid} sent {push.at - before.at:.1f} s after beat {before.pid} had taken over")
    return wrong


_REBIRTH_S = 3600.0
"""A process id is not given anew within an hour."""


@dataclass(slots=True)
class BeatWatch:
    """Listens to Redis from a thread of its own, through restarts of the server."""

    url: str
    pushes: list[Push] = field(default_factory=list)
    beats: set[int] = field(default_factory=set)
    _stop: threading.Event = field(default_factory=threading.Event)
    _socket: socket.socket | None = None
    _thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to listen."""
        self._thread = threading.Thread(target=self._listen_forever, name="beat-watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End listening."""
        self._stop.set()
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
        if self._thread is not None:
            self._thread.join(5)

    def know(self, pids: Iterable[int]) -> None:
        """These processes are beats; others push too (relay, retries)."""
        self.beats.update(pids)

    def sent(self) -> list[Push]:
        """What beats sent so far, in order."""
        return [push for push in list(self.pushes) if push.pid in self.beats]

    @property
    def active(self) -> int | None:
        """The process that scheduled last."""
        sent = self.sent()
        return sent[-1].pid if sent else None

    def took_over(self, pid: int, since: float) -> float | None:
        """Seconds from ``since`` (since 1970) until another beat than ``pid`` sent something; None if none did."""
        return next((push.at - since for push in self.sent() if push.at > since and push.pid != pid), None)

    def _listen_forever(self) -> None:
        while not self._stop.is_set():
            # Whatever ends the connection: Redis is restarted on purpose here.
            with contextlib.suppress(OSError):
                self._listen()
            time.sleep(_RECONNECT_S)

    def _listen(self) -> None:
        place = urlsplit(self.url)
        with socket.create_connection((place.hostname or "", place.port or 6379), timeout=2) as connection:
            self._socket = connection
            connection.settimeout(None)
            connection.sendall(_command("AUTH", place.password or "") + _command("MONITOR"))
            with connection.makefile("rb") as lines:
                for line in lines:
                    pushed = _PUSH.match(line)
                    origin = _ORIGIN.search(line) if pushed else None
                    if pushed and origin:
                        self.pushes.append(Push(float(pushed["at"]), int(origin["pid"])))


def _command(*words: str) -> bytes:
    parts = [f"*{len(words)}\r\n", *(f"${len(word.encode())}\r\n{word}\r\n" for word in words)]
    return "".join(parts).encode()
