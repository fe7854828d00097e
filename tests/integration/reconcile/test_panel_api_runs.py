"""Runs with the ``panel-api`` feed: the roll through the users outlives every run, and a sweep costs few statements."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine, event, text

from domain.orders import Order
from domain.source_protocols import Gone, Lookup
from panel.observations import snapshots
from panel.observations.proof import Proof
from panel.runs import run_log
from reconcile.observation import observe
from reconcile.observation.observe import Observed
from reconcile.observation.parallel_reads import ReadDeadline
from sources.main_site import PanelApiFeed
from tests.support.fleets.world import add_user
from tests.support.stand_ins.listed_cluster import make_record
from tests.unit.sources.canned import Canned, StillClock, answer, main_site, order

AGE_MAX = timedelta(days=36_500)
"""The canned site answers from another year."""

PROOF = Proof(5, timedelta(0))


class Site(Canned):
    """``size`` users with an order each, of the user's own number. ``broken``: whose orders are not answered.
    ``lost``: orders that are not listed any more. ``read``: whose orders were asked for."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.broken: set[int] = set()
        self.lost: set[int] = set()
        self.read: list[int] = []
        super().__init__(self._answer)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path.removeprefix("/api/panel/users").strip("/")
        if not path:
            return answer({"data": [{"id": n, "username": f"u{n}"} for n in range(1, self.size + 1)]})
        user = int(path.removesuffix("/vps"))
        self.read.append(user)
        if user in self.broken:
            return answer({}, status=404)
        return answer({"data": [] if user in self.lost else [order(user, userId=user)]})


class Runs:
    """Reads of a site by one run after the other, each with a feed of its own, as tasks make them."""

    def __init__(self, engine: Engine, site: Site) -> None:
        self.engine, self.site = engine, site
        self.statements = 0
        """What the last run sent while it had the lease."""

    def read(self, *, sweep: bool = False) -> Observed:
        self.site.read.clear()
        feed = PanelApiFeed(main_site(panel_api_cluster="main"), StillClock().clock(), self.site)
        run_id, _ = run_log.begin_run(self.engine, "full", "test", 1)
        with self.engine.connect() as connection:
            snapshots.make_stages(connection)
            staged = observe.stage_orders(connection, feed, timedelta(0) if sweep else timedelta(days=1))
            seen = Observed()
            with self._counting():
                observe.take_orders(connection, run_id, staged, seen, AGE_MAX, PROOF)
            connection.invalidate()
        return seen

    @contextmanager
    def _counting(self) -> Iterator[None]:
        self.statements = 0

        def count(*_: Any) -> None:
            self.statements += 1

        event.listen(self.engine, "before_cursor_execute", count)
        try:
            yield
        finally:
            event.remove(self.engine, "before_cursor_execute", count)

    def rows(self, statement: str) -> list[dict[str, Any]]:
        with self.engine.connect() as connection:
            return [dict(row._mapping) for row in connection.execute(text(statement))]


def test_all_users_are_read_in_as_few_runs_as_can_be(engine: Engine) -> None:
    """450 users, 200 a run: each run goes on where the one before it stopped, whoever made its feed."""
    runs, seen = Runs(engine, Site(450)), list[int]()
    runs.read(sweep=True)
    assert len(runs.site.read) == 450
    for _ in range(3):
        runs.read()
        assert len(runs.site.read) == 200
        seen += runs.site.read
    assert set(seen) == set(range(1, 451))
    assert len(seen) - len(set(seen)) == 150, "nobody is read again before everybody was"


def test_suspects_are_read_in_every_run_and_hold_nobody_up(engine: Engine) -> None:
    runs, seen = Runs(engine, Site(450)), set[int]()
    runs.read(sweep=True)
    add_user(engine, 5, main_site_user_id="430")
    make_record(engine, 1, 100, "pve1")  # of user 5, and linked with no order
    for _ in range(3):
        runs.read()
        assert runs.site.read[0] == 430
        seen |= set(runs.site.read)
    assert seen == set(range(1, 451))


@pytest.mark.parametrize("broken", [set[int](), {3}], ids=["whole", "one user's orders are not answered"])
def test_a_sweep_costs_as_many_statements_for_many_users_as_for_few(engine: Engine, broken: set[int]) -> None:
    counts = []
    for size in (10, 300):
        site = Site(size)
        site.broken, site.lost = broken, set()
        runs = Runs(engine, site)
        runs.read(sweep=True)
        site.lost = {n for n in range(1, size + 1) if n % 100 == 5}
        runs.read(sweep=True)
        counts.append(runs.statements)
    assert counts[0] == counts[1] < 40, counts


def test_where_one_user_fails_the_absences_of_the_others_count_with_evidence(engine: Engine) -> None:
    site = Site(150)
    runs = Runs(engine, site)
    runs.read(sweep=True)
    with engine.begin() as connection:  # the sweep took its time, by the site's clock, and this one comes later
        connection.execute(text("UPDATE orders_seen SET effective_at = effective_at - interval '1 minute'"))
    site.broken, site.lost = {3}, {3, 5, 99}
    for _ in range(2):
        assert not runs.read(sweep=True).orders_swept
    absences = runs.rows("SELECT subject, consecutive, evidence FROM absences ORDER BY subject")
    assert [(a["subject"], a["consecutive"]) for a in absences] == [("5", 2), ("99", 2)]
    scopes = {r["id"]: (r["scope"], r["complete"]) for r in runs.rows("SELECT id, scope, complete FROM snapshots")}
    assert {scopes[i] for a in absences for i in a["evidence"]} == {("user:5", True), ("user:99", True)}
    assert sum(complete for _, complete in scopes.values()) == 1 + 2 * 2, "who lacks nothing needs no evidence"
    assert [r["scope"] for r in runs.rows("SELECT scope FROM scopes")] == ["all"]

    site.broken, site.lost = set(), {5}
    assert runs.read(sweep=True).orders_swept
    absences = runs.rows("SELECT subject, consecutive FROM absences")
    assert absences == [{"subject": "5", "consecutive": 3}], "a whole sweep goes on counting"


def test_a_read_that_takes_too_long_ends_and_says_so(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site(50)
    runs = Runs(engine, site)
    runs.read(sweep=True)
    monkeypatch.setattr(observe, "FEED_FOR_S", -1.0)
    seen = runs.read(sweep=True)
    assert len(site.read) < 50
    assert any("not all of it was read within" in problem for problem in seen.problems)
    assert runs.rows("SELECT subject FROM absences") == [], "who was not read is not missed"


def test_users_that_do_not_answer_take_no_longer_than_the_others_may(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each failure takes its time, too: the bound holds also where not one user is answered."""
    site = Site(50)
    site.broken = set(range(1, 51))
    monkeypatch.setattr(observe, "FEED_FOR_S", -1.0)
    seen = Runs(engine, site).read()
    assert len(site.read) == 1
    assert any("not all of it was read within" in problem for problem in seen.problems)
    assert any("orders of user 1: answered 404" in problem for problem in seen.problems)


def test_a_user_list_of_many_slow_pages_ends_in_time(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    def endless(request: httpx.Request) -> httpx.Response:
        number = int(request.url.params.get("cursor", "0")) + 1
        return answer({"data": [{"id": number, "username": f"u{number}"}], "next_cursor": str(number)})

    pages = Canned(endless)
    monkeypatch.setattr(observe, "FEED_FOR_S", -1.0)
    feed = PanelApiFeed(main_site(panel_api_cluster="main", max_pages=9), StillClock().clock(), pages)
    with engine.connect() as connection:
        snapshots.make_stages(connection)
        staged = observe.stage_orders(connection, feed, timedelta(0))
        connection.invalidate()
    assert len(pages.requests) == 2
    assert "not all of it was read within" in (staged.sweep.problem or "")


def test_a_sweep_that_does_not_fit_reads_every_user_once_before_anybody_again(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs, seen = Runs(engine, Site(5)), list[int]()
    monkeypatch.setattr(observe, "FEED_FOR_S", -1.0)  # one user a read
    for _ in range(7):
        problems = runs.read().problems
        assert any("the next read goes on where this one ended" in problem for problem in problems)
        seen += runs.site.read
    assert seen == [1, 2, 3, 4, 5, 1, 2]


def test_orders_that_are_looked_for_in_vain_keep_no_run_waiting(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five orders are lost at once, and the look-up of each hangs: that proves nothing, and ends in time."""
    site, hangs, asked = Site(50), threading.Event(), list[str]()
    runs = Runs(engine, site)
    runs.read(sweep=True)

    def order(_: PanelApiFeed, order_id: str, control_id: str | None) -> Lookup[Order]:
        asked.append(order_id)
        hangs.wait()
        return Gone(f"while {control_id} is there")

    monkeypatch.setattr(PanelApiFeed, "order", order)
    monkeypatch.setattr(observe, "FULL", ReadDeadline("full", 4.0))
    site.lost = set(range(1, 6))
    try:
        seen = runs.read(sweep=True)
    finally:
        hangs.set()
    assert len(asked) == 1, "who gave no answer in time is asked nothing more"
    assert any("5 of 50 known entries vanished at once" in problem for problem in seen.problems)
    assert runs.rows("SELECT subject FROM absences") == []
