"""Whether a pooler can pass for a session: in every order in which it may give out its connections, and whoever else
comes in between."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Self, cast

import psycopg
import pytest

from panel.sessions import NoSessionError, require_session

NEWEST_FIRST: Callable[[list[int]], int] = list.pop
OLDEST_FIRST: Callable[[list[int]], int] = lambda idle: idle.pop(0)  # noqa: E731 - beside its brother


class Pooler:
    """Gives a server's connection to each transaction. A stranger takes one before the ``comes``-th transaction and
    gives it back before the ``goes``-th."""

    def __init__(self, choose: Callable[[list[int]], int], idle: int, comes: int, goes: int) -> None:
        self.choose, self.idle = choose, list(range(1, idle + 1))
        self.comes, self.goes, self.stranger = comes, goes, 0
        self.count, self.made = 0, idle

    def take(self) -> int:
        if self.count == self.comes:
            self.stranger = self._next()
        if self.count == self.goes:
            self.idle.append(self.stranger)
        self.count += 1
        return self._next()

    def _next(self) -> int:
        if self.idle:
            return self.choose(self.idle)
        self.made += 1
        return self.made


class Client:
    """A connection as psycopg's: a transaction begins with the first statement."""

    def __init__(self, pooler: Pooler, *, autocommit: bool = False) -> None:
        self.pooler, self.autocommit, self.server = pooler, autocommit, 0
        self.info = SimpleNamespace(backend_pid=-1, dsn="", password="")

    def connect(self, _dsn: str, **_: Any) -> Client:
        return Client(self.pooler)

    def execute(self, _statement: str) -> Any:
        self.server = self.server or self.pooler.take()
        answer = (self.server,)
        if self.autocommit:
            self.rollback()
        return SimpleNamespace(fetchone=lambda: answer)

    def rollback(self) -> None:
        if self.server:
            self.pooler.idle.append(self.server)
        self.server = 0

    commit = rollback

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.rollback()


STRANGERS = [(99, 99), *itertools.combinations_with_replacement(range(8), 2), *((comes, 99) for comes in range(8))]


@pytest.mark.parametrize("choose", [NEWEST_FIRST, OLDEST_FIRST], ids=["newest first", "oldest first"])
@pytest.mark.parametrize("autocommit", [True, False])
def test_no_pooler_that_chooses_anew_passes(choose: Callable[[list[int]], int], autocommit: bool) -> None:
    passed = []
    for idle, (comes, goes) in itertools.product(range(5), STRANGERS):
        pooler = Pooler(choose, idle, comes, goes)
        client = Client(pooler, autocommit=autocommit)
        client.__class__ = type("Client", (Client,), {"connect": lambda *_, at=pooler, **__: Client(at)})
        try:
            require_session(cast("psycopg.Connection[Any]", client))
        except NoSessionError:
            continue
        passed.append((idle, comes, goes))
    assert not passed


def test_a_pooler_that_keeps_sessions_does() -> None:
    class Kept(Client):
        def __init__(self, pooler: Pooler) -> None:
            super().__init__(pooler)
            self.server = pooler.take()

        def rollback(self) -> None:
            """The session stays."""

        commit = rollback

    pooler = Pooler(NEWEST_FIRST, 3, 99, 99)
    kept = Kept(pooler)
    kept.__class__ = type("Kept", (Kept,), {"connect": lambda *_, **__: Kept(pooler)})
    require_session(cast("psycopg.Connection[Any]", kept))
