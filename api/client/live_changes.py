"""Tells the open streams of a process when what their users' pages show changed.

One query a second serves all streams, and there is none while no stream is open. A stream waits for an event of the
loop: it holds no connection to the database. While the database is away, streams stay open and hear of changes later.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import structlog
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from api.http.deadline import within
from panel.clients.record_marks import record_marks
from panel.deadlines import Deadlines
from panel.journal.calls import DatabaseAwayError

log = structlog.get_logger(__name__)

LOOK_S = 1.0
"""Seconds between two looks at the records."""

TOLD_AT_ONCE = 100
"""How many users one look tells at most. Each then reads their page. Hundreds change at the same time when a cluster
fails or the process was started again, and their reads must not hold up sync calls."""

STREAMS = 1_000
"""Of one process. They are no part of the connections that :mod:`api.http.protocol` allows other callers."""

STREAMS_OF_USER = 8
"""Of one user in one process: a stream for each open tab."""

ALIVE_S = 15.0
"""Seconds of silence before a comment. Proxies close connections that are silent for a minute."""

STREAM_S = 900.0
"""A stream's longest life. Its customer connects again, and so must still be signed in."""

OPENED = b": open\n\n"
ALIVE = b": alive\n\n"
CHANGED = b"event: vps-changed\ndata: {}\n\n"


class TooManyStreamsError(Exception):
    """The user or the process has as many streams as it may."""


@dataclass(eq=False, slots=True)
class Stream:
    """One open stream. ``woken``: its user's records changed, or the process ends."""

    user_id: int
    woken: asyncio.Event = field(default_factory=asyncio.Event)


class LiveChanges:
    """One per API process."""

    def __init__(self, engine: AsyncEngine, deadlines: Deadlines) -> None:
        self._engine, self._deadlines = engine, deadlines
        self._streams: set[Stream] = set()
        self._of_user: Counter[int] = Counter()
        self._marks: dict[int, str] = {}  # as last told, of users with a stream
        self._any_open = asyncio.Event()
        self._released = False
        self._away = False
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to look whenever a stream is open."""
        self._task = asyncio.create_task(self._look_forever(), name="live-changes")

    async def stop(self) -> None:
        """End all streams, and look no more."""
        self.release()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    def release(self) -> None:
        """The process is ending: every stream ends now."""
        self._released = True
        for stream in self._streams:
            stream.woken.set()

    def open(self, user_id: int) -> Stream:
        """A new stream of this user, to be closed by ``close``. Raises TooManyStreamsError."""
        if self._released or len(self._streams) >= STREAMS or self._of_user[user_id] >= STREAMS_OF_USER:
            raise TooManyStreamsError
        stream = Stream(user_id)
        self._streams.add(stream)
        self._of_user[user_id] += 1
        self._marks.pop(user_id, None)  # so that the next look wakes it: something may have changed before it was open
        self._any_open.set()
        return stream

    def open_streams(self) -> int:
        """How many streams are open in this process."""
        return len(self._streams)

    def close(self, stream: Stream) -> None:
        """Forget a stream."""
        self._streams.remove(stream)
        self._of_user[stream.user_id] -= 1
        if not self._of_user[stream.user_id]:
            del self._of_user[stream.user_id]
            self._marks.pop(stream.user_id, None)
        if not self._streams:
            self._any_open.clear()

    async def messages(self, stream: Stream, left_s: float = STREAM_S) -> AsyncIterator[bytes]:
        """What the stream says, in the form of server-sent events, until it ends. ``left_s``: how long the caller's
        token or session is still good."""
        clock = asyncio.get_running_loop().time
        ends_at = clock() + min(STREAM_S, left_s)
        yield OPENED
        while not self._released and clock() < ends_at:
            try:
                async with asyncio.timeout(min(ALIVE_S, ends_at - clock())):
                    await stream.woken.wait()
            except TimeoutError:
                yield ALIVE
                continue
            stream.woken.clear()
            if not self._released:
                yield CHANGED

    async def _look_forever(self) -> None:
        while True:
            await self._any_open.wait()
            try:
                await self._look()
            except Exception:  # it must look again: nobody would notice that all streams are silent
                log.exception("live_changes_failed")
            await asyncio.sleep(LOOK_S)

    async def _look(self) -> None:
        """Wake the streams of the users whose records changed since the last look."""
        users = list(self._of_user)
        try:
            marks = await within(self._deadlines.read_s, record_marks(self._engine, users))
        except (DatabaseAwayError, DBAPIError, TimeoutError) as error:
            if not self._away:
                log.warning("live_changes_database_away", error=type(error).__name__)
            self._away = True
            return
        self._away = False
        changed = [user for user in users if user in self._of_user and self._marks.get(user) != marks[user]]
        # Drawn by lot, so that nobody is left to later looks again and again.
        told = set(random.sample(changed, min(len(changed), TOLD_AT_ONCE)))
        for stream in self._streams:
            if stream.user_id in told:
                stream.woken.set()
        self._marks.update({user: marks[user] for user in told})
