"""An answer in time, whatever the work does."""

from __future__ import annotations

import asyncio

import pytest

from api.http.deadline import within


async def test_work_in_time_gives_its_result_or_its_error() -> None:
    async def good() -> int:
        return 7

    async def bad() -> int:
        raise LookupError("nothing there")

    assert await within(1, good()) == 7
    with pytest.raises(LookupError):
        await within(1, bad())


async def test_work_that_resists_cancelling_is_left_behind() -> None:
    asked_to_stop = asyncio.Event()
    may_end = asyncio.Event()
    ended = asyncio.Event()

    async def stubborn() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            asked_to_stop.set()
            await may_end.wait()
            ended.set()
            raise

    with pytest.raises(TimeoutError):
        await within(0.01, stubborn())
    await asyncio.wait_for(asked_to_stop.wait(), 60)
    assert not ended.is_set(), "the caller was answered before the work ended"
    may_end.set()
    await asyncio.wait_for(ended.wait(), 60)


async def test_a_caller_that_is_cancelled_cancels_the_work() -> None:
    began, stopped = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    caller = asyncio.create_task(within(60, work()))
    await began.wait()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    await asyncio.wait_for(stopped.wait(), 60)
