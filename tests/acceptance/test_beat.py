"""One scheduler at a time: the others stand by, one that lost its lock among them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from sqlalchemy import Engine, text

from cli.serving.stack import beat_part
from runtime.processes.supervisor import ManagedProcess
from tests.support.databases import Database
from tests.support.waiting import wait_until
from worker.beat import BEAT_LOCK

pytestmark = [pytest.mark.faults, pytest.mark.acceptance, pytest.mark.xdist_group("beat")]

StartBeat = Callable[[str], ManagedProcess]


@pytest.fixture
def start_beat(database: Database, redis_url: str, tmp_path: Path) -> Iterator[StartBeat]:
    environment = {
        **os.environ,
        **database.urls,
        "REDIS_URL": redis_url,
        "FAST_INTERVAL_S": "1",
        "FULL_INTERVAL_S": "1",
    }
    started: list[ManagedProcess] = []

    def start(name: str) -> ManagedProcess:
        part = beat_part()
        started.append(ManagedProcess(name, part.argv, environment, tmp_path / f"{name}.log", cwd=tmp_path))
        started[-1].start()
        return started[-1]

    with contextlib.ExitStack() as stack:
        yield start
        for process in started:
            stack.callback(process.stop)


def holders(engine: Engine) -> list[int]:
    """Process ids of the PostgreSQL sessions that hold beat's lock."""
    with engine.connect() as connection:
        return list(
            connection.scalars(
                text("SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND objid = :key"),
                {"key": BEAT_LOCK},
            )
        )


def says(process: ManagedProcess, event: str) -> bool:
    return any(event in line for line in process.tail(50))


def test_the_second_stands_by_and_takes_over(engine: Engine, start_beat: StartBeat, redis_url: str) -> None:
    first = start_beat("first")
    wait_until(lambda: says(first, "beat_started"), "the first scheduler")
    second = start_beat("second")
    wait_until(lambda: says(second, "beat_standing_by"), "the second to stand by")
    with redis.Redis.from_url(redis_url, socket_timeout=60) as client:
        wait_until(lambda: client.llen("reconcile"), "the first to schedule")
    assert not says(second, "beat_started")
    first.kill()
    wait_until(lambda: says(second, "beat_started"), "the second to take over")
    assert len(holders(engine)) == 1


def test_one_whose_lock_is_lost_stands_by_for_it_again(engine: Engine, start_beat: StartBeat) -> None:
    beat = start_beat("beat")
    wait_until(lambda: says(beat, "beat_started"), "the scheduler")
    lost = holders(engine)
    with engine.begin() as connection:
        for pid in lost:
            connection.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})
    wait_until(lambda: says(beat, "beat_lock_lost"), "it to notice")
    wait_until(lambda: set(holders(engine)) - set(lost), "it to hold the lock anew")
    wait_until(lambda: sum("beat_started" in line for line in beat.tail(50)) == 2, "it to say so once more")
    assert beat.running


def test_it_ends_in_good_order_and_gives_the_lock_back(engine: Engine, start_beat: StartBeat, tmp_path: Path) -> None:
    beat = start_beat("beat")
    wait_until(lambda: says(beat, "beat_started"), "the scheduler")
    assert beat.stop() == 0
    # PostgreSQL gives the lock back when it reads the end of the connection, a little after beat's end.
    wait_until(lambda: not holders(engine), "the lock to be free")
    assert not [path for path in tmp_path.iterdir() if path.suffix != ".log"], "it keeps nothing"
