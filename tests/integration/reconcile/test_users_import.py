"""The import of users writes what is new and nothing else, in short transactions, and guesses nothing."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, event, text

from domain.repair_policy.budget import Budget
from domain.source_protocols import Page, Sweep, User
from reconcile import users
from reconcile.decision.cases import Policy
from reconcile.run import Reconciler
from reconcile.users import Imported, import_users
from tests.support.fleets.random_fleet import NoFeed
from tests.support.fleets.world import add_user


class Users(NoFeed):
    """A feed of these users. ``problem``: why they are not all of them, if they are not."""

    def __init__(self, *shown: User, problem: str | None = None) -> None:
        super().__init__(names=True)
        self.shown, self.problem = shown, problem

    def users(self) -> Sweep[User]:
        complete = {"all"} if self.problem is None else set[str]()
        return Sweep(iter([Page(self.shown, 0.0, 0.0)]), complete_scopes=complete, problem=self.problem)


def imported(engine: Engine, *shown: User, shared: bool = False, problem: str | None = None) -> Imported:
    nothing = timedelta(0)
    return import_users(
        Reconciler(
            engine, Users(*shown, problem=problem), (), Policy(), Budget(), shared_ids=shared, sweep_interval=nothing,
            users_interval=nothing,
        )
    )  # fmt: skip


def stored(engine: Engine) -> dict[int, tuple[str | None, str | None]]:
    """Each user's main-site id and who mapped it."""
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT id, main_site_user_id, map_source FROM users"))
        return {row.id: (row.main_site_user_id, row.map_source) for row in rows}


def versions(engine: Engine) -> list[tuple[Any, ...]]:
    """Every row with the transactions that wrote and that locked it."""
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text("SELECT u.*, xmin::text, xmax::text FROM users u"))]


def user(number: int, **values: Any) -> User:
    return replace(User(str(number), f"user{number}", f"user{number}@example.test"), **values)


@pytest.mark.parametrize("shared", [True, False], ids=["shared", "mapped"])
def test_an_import_without_news_writes_and_locks_no_user(
    engine: Engine, shared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(users, "BATCH", 10)
    everybody = [user(n, panel_user_id=None if shared else 1000 + n) for n in range(1, 26)]
    first = imported(engine, *everybody, shared=shared)
    assert (first.seen, first.added, first.mapped, first.conflicts) == (25, 25, 25, [])
    before = versions(engine)
    again = imported(engine, *everybody, shared=shared)
    assert (again.seen, again.added, again.mapped, again.conflicts) == (25, 0, 0, [])
    assert versions(engine) == before


def test_an_import_costs_as_many_statements_for_many_users_as_for_few(engine: Engine) -> None:
    counts = []
    for size in (5, 400):
        statements = list[str]()

        def count(*arguments: Any, kept: list[str] = statements) -> None:
            kept.append(arguments[2])

        event.listen(engine, "before_cursor_execute", count)
        imported(engine, *(user(n) for n in range(1, size + 1)), shared=True)
        event.remove(engine, "before_cursor_execute", count)
        counts.append(len(statements))
    assert counts[0] == counts[1], counts


def test_no_transaction_writes_more_than_a_batch(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(users, "BATCH", 10)
    assert imported(engine, *(user(n) for n in range(1, 26)), shared=True).added == 25
    with engine.connect() as connection:
        most = connection.scalar(text("SELECT max(n) FROM (SELECT count(*) AS n FROM users GROUP BY xmin::text) x"))
    assert most == 10


def test_shared_ids_add_and_map_and_report_what_contradicts(engine: Engine) -> None:
    add_user(engine, 1)
    add_user(engine, 2, main_site_user_id="77")
    add_user(engine, 9, main_site_user_id="3")
    said = imported(
        engine, user(1), user(2), user(3), user(4), User("x4", "word"), User("0", "zero"), User("9" * 30, "huge"),
        User("6", "six"), User("06", "six again"), shared=True,
    )  # fmt: skip
    assert stored(engine) == {
        1: ("1", "import"), 2: ("77", "operator"), 9: ("3", "operator"), 4: ("4", "import"),
    }  # fmt: skip
    assert (said.added, said.mapped) == (1, 2)
    assert said.conflicts == ["2", "3", "x4", "0", "9" * 30, "6", "06"]


def test_mapped_ids_are_named_by_the_feed_or_by_a_verified_e_mail(engine: Engine) -> None:
    for number in range(5, 10):
        add_user(engine, number)
    with engine.begin() as connection:
        connection.execute(text("UPDATE users SET email = 'Mail' || id || '@example.test', email_verified = id <> 8"))
    said = imported(
        engine,
        user(1, panel_user_id=5),
        user(2, email="mail6@EXAMPLE.test", email_verified=True),
        user(3, email="mail7@example.test", email_verified=False),
        user(4, email="mail8@example.test", email_verified=True),
        user(11, email="mail9@example.test", email_verified=True),
        user(12, email="MAIL9@example.test", email_verified=True),
        user(13, panel_user_id=50),
        user(14, panel_user_id=-3),
    )
    assert stored(engine) == {
        5: ("1", "import"), 6: ("2", "email"), 7: (None, None), 8: (None, None), 9: (None, None), 50: ("13", "import"),
    }  # fmt: skip
    assert (said.added, said.mapped, said.conflicts) == (1, 3, ["14"])
    assert imported(engine, user(1, panel_user_id=6), user(2)).conflicts == ["1"]


def test_two_that_are_said_to_be_one_user_of_the_panel_are_neither(engine: Engine) -> None:
    """Whose machines they would see cannot be told; who has a map keeps it."""
    add_user(engine, 5)
    add_user(engine, 6, main_site_user_id="3")
    said = imported(engine, user(1, panel_user_id=5), user(2, panel_user_id=5), user(3, panel_user_id=6),
                    user(4, panel_user_id=6))  # fmt: skip
    assert said.conflicts == ["1", "2", "4"]
    assert stored(engine) == {5: (None, None), 6: ("3", "operator")}


@pytest.mark.parametrize("problem", ["page 2 of users: answered 500", "users: 1 row(s) could not be read (page 1)"])
def test_an_incomplete_list_of_users_maps_nobody(engine: Engine, problem: str) -> None:
    """Who does not arrive may say the same of himself as one who does; whose machines they would see cannot be told."""
    for number in (5, 6):
        add_user(engine, number)
    add_user(engine, 7, main_site_user_id="70")
    with engine.begin() as connection:
        connection.execute(text("UPDATE users SET email = 'mail6@example.test', email_verified = true WHERE id = 6"))
    first_page = (
        user(77, panel_user_id=5), user(79, email="mail6@example.test", email_verified=True),
        user(80, panel_user_id=8), user(70, panel_user_id=7), user(71, panel_user_id=7),
    )  # fmt: skip
    said = imported(engine, *first_page, problem=problem)
    assert (said.seen, said.added, said.mapped, said.conflicts) == (5, 0, 0, ["71"])
    before = {5: (None, None), 6: (None, None), 7: ("70", "operator")}
    assert stored(engine) == before, "known maps stay"

    rival = (user(78, panel_user_id=5), user(81, email="MAIL6@example.test", email_verified=True))
    said = imported(engine, *first_page, *rival)
    assert stored(engine) == before | {8: ("80", "import")}
    assert said.conflicts == ["77", "71", "78"]


def test_an_incomplete_list_of_shared_ids_adds_and_maps_whom_it_shows(engine: Engine) -> None:
    """There the id itself says who it is, whoever else arrives. Only another way to write the same number would not."""
    add_user(engine, 1)
    said = imported(engine, user(1), user(4), User("06", "six"), shared=True, problem="page 2 of users: answered 500")
    assert stored(engine) == {1: ("1", "import"), 4: ("4", "import")}
    assert (said.added, said.mapped, said.conflicts) == (1, 2, [])
