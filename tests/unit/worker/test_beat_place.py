"""Where beat's lock is: the same place, by the same reading of DATABASE_URL, as everybody else's."""

from __future__ import annotations

import threading
from typing import Any

import psycopg
import pytest

from worker.beat import BeatLock


@pytest.mark.parametrize(
    ("url", "place"),
    [
        (
            "postgresql://panel:p%40ss%2525@db:5433/panel?sslmode=require",
            {"user": "panel", "password": "p@ss%25", "host": "db", "port": 5433, "sslmode": "require"},
        ),
        ("postgresql+psycopg://panel@/panel?host=/run/postgresql", {"user": "panel", "host": "/run/postgresql"}),
        ("postgresql://panel@db/panel?connect_timeout=60", {"connect_timeout": 3}),
    ],
)
def test_it_connects_there(monkeypatch: pytest.MonkeyPatch, url: str, place: dict[str, Any]) -> None:
    class ReachedError(Exception):
        pass

    given: dict[str, Any] = {}

    def connect(*conninfo: str, **arguments: Any) -> None:
        assert conninfo == ()
        given.update(arguments)
        raise ReachedError

    monkeypatch.setattr(psycopg, "connect", connect)
    with pytest.raises(ReachedError):
        BeatLock(url).wait(threading.Event())
    assert given["dbname"] == "panel"
    assert place.items() <= given.items()


def test_what_libpq_refuses_is_waited_for_without_quoting_it(capsys: pytest.CaptureFixture[str]) -> None:
    class Once(threading.Event):
        """Set as soon as somebody waits for it."""

        def wait(self, timeout: float | None = None) -> bool:  # noqa: ARG002 - the event's
            self.set()
            return True

    BeatLock("postgresql://panel@127.0.0.1/panel?no-such-option=s3cr3t-value").wait(Once())
    said = capsys.readouterr()
    assert "beat_database_away" in said.out
    assert "ProgrammingError" in said.out
    assert "s3cr3t" not in said.out + said.err
