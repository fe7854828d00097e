"""Which beat schedules. Redis shows it: every message names the process that sent it."""

from __future__ import annotations

import contextlib
import json
import math
import re
import socket
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

_PUSH = re.compile(rb'^\+(?P<at>\d+\.\d+) \[[^\]]*\] "LPUSH" "(?:sync|reconcile)" ')
_ORIGIN = re.compile(rb"origin\W+gen(?P<pid>\d+)@")
_TAKEN = '"event": "beat_started"'
_RECONNECT_S = 0.1


@dataclass(frozen=True, slots=True)
class Push:
    """One message of a beat. ``at``: Redis' clock, which is this machine's, in seconds since 1970."""

    at: float
    pid: int


def interleaved(pushes: Iterable[Push], took: Mapping[int, Sequence[float]]) -> list[str]:
    """Sentences about messages that a beat sent while another beat held the lock. Pure.

    ``took``: for each process, when it took the lock, in seconds since 1970. A beat that was frozen while it sent a
    message sends this message when it wakes up. Any further message without the lock is wrong.
    """
    wrong: list[str] = []
    holder: int | None = None
    in_hand: set[int] = set()
    last: dict[int, float] = {}
    for push in pushes:
        if push.pid != holder:
            if any(last.get(push.pid, -math.inf) < at <= push.at for at in took.get(push.pid, ())):
                in_hand.add(push.pid)
                holder = push.pid
            elif push.pid in in_hand:
                in_hand.remove(push.pid)
            else:
                wrong.append(f"beat {push.pid} sent at {push.at:.1f} without the lock, which beat {holder} had")
        last[push.pid] = push.at
    return wrong


def lock_times(log: Path) -> list[float]:
    """The times at which the beat with this log took the lock, in seconds since 1970."""
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    entries = [json.loads(line) for line in lines if _TAKEN in line]
    return [datetime.fromisoformat(entry["timestamp"]).timestamp() for entry in entries]


@dataclass(slots=True)
class BeatWatch:
    """Listens to Redis in a thread of its own, and reconnects after restarts of the server."""

    url: str
    pushes: list[Push] = field(default_factory=list)
    beats: dict[int, Path] = field(default_factory=dict)
    _stop: threading.Event = field(default_factory=threading.Event)
    _socket: socket.socket | None = None
    _thread: threading.Thread | None = None

    def start(self) -> None:
        """Start listening."""
        self._thread = threading.Thread(target=self._listen_forever, name="beat-watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop listening."""
        self._stop.set()
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
        if self._thread is not None:
            self._thread.join(5)

    def know(self, beats: Mapping[int, Path]) -> None:
        """Register processes as beats, with their logs. Other processes (relay, retries) push messages too."""
        self.beats.update(beats)

    def sent(self) -> list[Push]:
        """The messages that beats have sent so far, in order."""
        return [push for push in list(self.pushes) if push.pid in self.beats]

    def interleaved(self) -> list[str]:
        """Sentences about two beats that scheduled at the same time."""
        return interleaved(self.sent(), {pid: lock_times(log) for pid, log in self.beats.items()})

    @property
    def active(self) -> int | None:
        """The process that scheduled last."""
        sent = self.sent()
        return sent[-1].pid if sent else None

    def took_over(self, pid: int, since: float) -> float | None:
        """Seconds from ``since`` (since 1970) until a beat other than ``pid`` sent something; None if none did."""
        return next((push.at - since for push in self.sent() if push.at > since and push.pid != pid), None)

    def _listen_forever(self) -> None:
        while not self._stop.is_set():
            # Chaos restarts Redis on purpose, so an error only ends this connection.
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
