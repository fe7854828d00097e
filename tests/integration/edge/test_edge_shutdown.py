"""SIGTERM to the API: what is under way is answered, nothing new begins, and it ends by itself."""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from tests.integration.edge.conftest import Place, create_vps, posted, received
from tests.support.api_process import api_process
from tests.support.databases import Database
from tests.support.fleets.world import add_user
from tests.support.waiting import PATIENCE_S, wait_until

WAIT_S = 60
"""As long as a call may wait for its outcome."""


@pytest.fixture
def ending(database: Database, engine: Engine, tmp_path: Path) -> Iterator[Place]:
    """An API of one test, to be ended by it."""
    add_user(engine, 5)
    with api_process(database, tmp_path, {"WAIT_CAP_S": str(WAIT_S)}, ends_within_s=int(PATIENCE_S)) as api:
        yield Place(api, engine)


def _opened(place: Place, raw: bytes) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", place.api.port), timeout=120)
    connection.sendall(raw)
    return connection


def _refused(place: Place) -> bool:
    try:
        socket.create_connection(("127.0.0.1", place.api.port), timeout=120).close()
    except ConnectionRefusedError:
        return True
    return False


def _connections(place: Place) -> int:
    """How many the API has to its database."""
    left = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'panel-sync api%'"
    with place.engine.connect() as connection:
        return connection.scalar(text(f"{left} AND datname = current_database()")) or 0


def test_calls_under_way_are_answered_and_new_ones_are_not_taken(ending: Place) -> None:
    body = json.dumps(create_vps()).encode()
    prefer = ("Content-Type: application/json", f"Content-Length: {len(body)}", f"Prefer: wait={WAIT_S}")
    whole = posted(ending, body)
    with (
        _opened(ending, posted(ending, body, *prefer)) as waiting,
        _opened(ending, whole[:-20]) as uploading,
        _opened(ending, b"") as idle,
    ):
        wait_until(lambda: ending.counted()["operations"] == 1, "the first call is journaled")
        ending.api.process.send_signal(signal.SIGTERM)
        answer = received(waiting)
        assert answer is not None
        assert answer.status == 202, "accepted is all that can be said"
        uploading.sendall(whole[-20:])
        answer = received(uploading)
        assert answer is not None
        assert answer.status == 202
        wait_until(lambda: _refused(ending), "no new connection is taken")
        assert received(idle) is None
    assert ending.api.process.wait_exit(PATIENCE_S)
    assert ending.counted()["operations"] == 2
    # PostgreSQL's end of a connection is over a little after the process.
    wait_until(lambda: not _connections(ending), "no connection to be left")
    assert not [event for event in ending.api.log() if event["level"] == "error"]
