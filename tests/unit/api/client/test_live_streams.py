"""Streams of live changes: how many there may be, who hears what, and how they end. The database is a stand-in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping
from typing import Any, cast

import pytest
import structlog

from api.client import live_changes
from api.client.live_changes import ALIVE, CHANGED, OPENED, LiveChanges, TooManyStreamsError
from panel.deadlines import DEFAULT
from panel.journal.calls import DatabaseAwayError
from tests.support.waiting import PATIENCE_S


class Records:
    """The marks of users' records, and for which users they were asked."""

    def __init__(self) -> None:
        self.marks: dict[int, str] = {}
        self.asked: list[list[int]] = []
        self.away = False
        self.looked = asyncio.Event()

    async def __call__(self, _engine: object, user_ids: Collection[int]) -> Mapping[int, str]:
        self.asked.append(sorted(user_ids))
        self.looked.set()
        if self.away:
            raise DatabaseAwayError("OperationalError")
        return {user: self.marks.get(user, "") for user in user_ids}

    async def look(self) -> None:
        """Wait for a look that begins from now on."""
        for _ in range(2):  # the first may have begun before
            self.looked.clear()
            await self.looked.wait()


@pytest.fixture
def records(monkeypatch: pytest.MonkeyPatch) -> Records:
    made = Records()
    monkeypatch.setattr(live_changes, "record_marks", made)
    monkeypatch.setattr(live_changes, "LOOK_S", 0)
    return made


@pytest.fixture
async def live(records: Records) -> AsyncIterator[LiveChanges]:
    made = LiveChanges(cast("Any", None), DEFAULT)
    await made.start()
    yield made
    await made.stop()


async def test_each_hears_of_its_own_user_and_first_of_what_was_before(live: LiveChanges, records: Records) -> None:
    records.marks = {5: "a", 6: "b"}
    anna, boris = live.open(5), live.open(6)
    annas, borises = live.messages(anna), live.messages(boris)
    for messages in (annas, borises):
        assert [await anext(messages), await anext(messages)] == [OPENED, CHANGED]
    await records.look()
    assert not anna.woken.is_set(), "nothing changed since"
    records.marks[5] = "c"
    assert await anext(annas) == CHANGED
    await records.look()
    assert not boris.woken.is_set()
    del records.marks[6]
    assert await anext(borises) == CHANGED, "the last record went"
    assert records.asked[-1] == [5, 6], "one question for all"
    again = live.open(6)
    assert [await anext(live.messages(again)), await anext(borises)] == [OPENED, CHANGED]


async def test_a_look_tells_only_so_many_users_and_the_next_ones_tell_the_others(
    live: LiveChanges, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_changes, "TOLD_AT_ONCE", 2)
    streams = [live.open(user) for user in range(1, 31)]
    await records.look()
    assert not all(stream.woken.is_set() for stream in streams)
    while not all(stream.woken.is_set() for stream in streams):
        await records.look()


async def test_nothing_is_asked_while_no_stream_is_open(live: LiveChanges, records: Records) -> None:
    await asyncio.sleep(0)
    assert records.asked == []
    stream = live.open(5)
    await records.look()
    live.close(stream)
    asked = len(records.asked)
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(records.asked) <= asked + 1
    assert live._marks == {}


async def test_a_database_that_is_away_delays_and_ends_nothing(live: LiveChanges, records: Records) -> None:
    messages = live.messages(live.open(5))
    assert [await anext(messages), await anext(messages)] == [OPENED, CHANGED]
    records.away = True
    records.marks[5] = "new"
    await records.look()
    records.away = False
    assert await anext(messages) == CHANGED


async def test_limits(live: LiveChanges, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_changes, "STREAMS", live_changes.STREAMS_OF_USER + 1)
    mine = [live.open(5) for _ in range(live_changes.STREAMS_OF_USER)]
    with pytest.raises(TooManyStreamsError):
        live.open(5)
    live.open(6)
    with pytest.raises(TooManyStreamsError):
        live.open(7)
    live.close(mine.pop())
    live.open(7)


async def test_silence_is_broken_and_a_stream_ends_in_time(
    live: LiveChanges, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_changes, "ALIVE_S", 0)
    messages = live.messages(live.open(5))
    assert await anext(messages) == OPENED
    while (message := await anext(messages)) == CHANGED:
        pass
    assert message == ALIVE
    monkeypatch.setattr(live_changes, "STREAM_S", 0)
    assert [message async for message in live.messages(live.open(6))] == [OPENED]


async def test_the_end_of_the_process_ends_streams_and_allows_no_more(live: LiveChanges) -> None:
    messages = live.messages(live.open(5))
    assert [await anext(messages), await anext(messages)] == [OPENED, CHANGED]
    live.release()
    assert [message async for message in messages] == []
    with pytest.raises(TooManyStreamsError):
        live.open(6)


async def test_a_bug_in_one_look_does_not_end_the_looking(
    live: LiveChanges, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(_engine: object, _user_ids: object) -> Mapping[int, str]:
        monkeypatch.setattr(live_changes, "record_marks", records)
        raise ValueError("a bug")

    monkeypatch.setattr(live_changes, "record_marks", broken)
    messages = live.messages(live.open(5))
    with structlog.testing.capture_logs() as logged:
        assert [await anext(messages), await anext(messages)] == [OPENED, CHANGED]
    assert [event["event"] for event in logged] == ["live_changes_failed"]


async def test_a_stream_ends_with_its_credential(live: LiveChanges, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_changes, "ALIVE_S", 600)
    ended = live.messages(live.open(5), left_s=0.0)
    assert [one async for one in ended] == [OPENED]
    short = live.messages(live.open(5), left_s=0.05)
    async with asyncio.timeout(PATIENCE_S):  # less than ALIVE_S
        heard = [one async for one in short]
    assert heard[0] == OPENED
    assert set(heard[1:]) <= {CHANGED, ALIVE}
