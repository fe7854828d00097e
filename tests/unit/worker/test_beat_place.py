"""Where beat's lock is: the same place, by the same reading of DATABASE_URL, as everybody else's."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from tests.support.stand_ins.fake_postgres import refusing_postgres
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
        BeatLock(url).hold()
    assert given["dbname"] == "panel"
    assert place.items() <= given.items()


def test_what_libpq_refuses_is_waited_for_without_quoting_it(capsys: pytest.CaptureFixture[str]) -> None:
    lock = BeatLock("postgresql://panel@127.0.0.1/panel?no-such-option=s3cr3t-value")
    assert not lock.hold()
    said = capsys.readouterr()
    assert "beat_database_away" in said.out
    assert "ProgrammingError" in said.out
    assert "s3cr3t" not in said.out + said.err


def test_what_the_server_says_is_logged_without_the_password(capsys: pytest.CaptureFixture[str]) -> None:
    with refusing_postgres("28P01", "ВАЖНО", "пароль s3cr3t-value не подошёл") as port:
        assert not BeatLock(f"postgresql://panel:s3cr3t-value@127.0.0.1:{port}/panel").hold()
    said = capsys.readouterr().out
    assert "beat_database_away" in said
    assert "не подошёл" in said
    assert "s3cr3t" not in said
