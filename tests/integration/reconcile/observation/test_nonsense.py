"""One nonsense value of one source is that source's fault, or no value at all: no run of the others ends by it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine, text

from panel.runs.source_states import list_sources
from reconcile.run import Reconciler, RunResult, run_fast, run_full
from sources.main_site import OrdersFeed, PanelApiFeed
from tests.integration.reconcile.observation.test_nodes_away import reconciler
from tests.support.stand_ins.listed_cluster import ListedCluster
from tests.unit.sources.canned import NO_DATES, Canned, StillClock, answer, main_site, order, page
from tests.unit.sources.fake_cluster import FakeCluster, data, guest, source_of

AGE_MAX = timedelta(seconds=900)


def site(orders: httpx.Response) -> Canned:
    """A main site whose orders are answered with this."""
    return Canned(lambda request: page([]) if request.url.path.endswith("/users") else _copy(orders))


def _copy(given: httpx.Response) -> httpx.Response:
    return httpx.Response(given.status_code, headers=given.headers, content=given.content)


def beside(engine: Engine, feed: OrdersFeed | PanelApiFeed | None = None) -> Reconciler:
    """Runs of this feed and of a cluster that is well and has one guest."""
    well = ListedCluster("well")
    well.add(100, "pve1")
    return replace(reconciler(engine, well), feed=feed, feed_age_max=AGE_MAX)


def full(asked: Reconciler) -> RunResult:
    result = run_full(asked, trigger="test")
    assert result.state == "done"
    with asked.engine.connect() as connection:
        read = connection.scalar(text("SELECT fingerprint_state FROM guests WHERE cluster = 'well'"))
    assert read == "read", "the cluster that is well is read as ever"
    return result


def cause(engine: Engine, source: str) -> str | None:
    with engine.connect() as connection:
        return next(view.cause for view in list_sources(connection) if view.source == source)


def test_an_as_of_of_year_1_is_old(engine: Engine) -> None:
    dated = page([order(1)], as_of="0001-01-01T00:00:00Z", date=datetime.now(UTC) + timedelta(hours=1))
    feed = OrdersFeed(main_site(), StillClock().clock(), site(dated))
    asked = beside(engine, feed)
    for _ in range(2):  # the second run reads what changed since the first
        assert any("its content is of" in problem for problem in full(asked).problems)
        assert cause(engine, "orders") == "old"


@pytest.mark.parametrize("date", NO_DATES)
def test_a_date_header_that_overflows_is_its_source_s_trouble(engine: Engine, date: str) -> None:
    undated = page([order(1)], date=None)
    undated.headers["Date"] = date
    asked = beside(engine, OrdersFeed(main_site(), StillClock().clock(), site(undated)))
    odd = FakeCluster()
    for path, given in odd.answers.items():
        assert isinstance(given, httpx.Response)
        given.headers["Date"] = date
        odd.answers[path] = given
    result = full(replace(asked, sources=(source_of(odd), *asked.sources)))
    assert any("nothing of it counts as fresh" in problem for problem in result.problems)


@pytest.mark.parametrize(
    "fields", [{"maxmem": 2**51}, {"maxmem": 2**53 - 1}, {"maxcpu": 2**52}, {"maxdisk": 2**53 - 1}, {"uptime": 3e11}]
)
def test_a_guest_s_number_without_room_ends_no_lane(engine: Engine, fields: dict[str, Any]) -> None:
    asked = beside(engine)
    odd = FakeCluster().but("/cluster/resources", data([guest(**fields)]))
    asked = replace(asked, sources=(source_of(odd), *asked.sources))
    for _ in range(2):  # the second list is compared with what the first one showed
        assert full(asked).problems == ()
        assert run_fast(asked, trigger="test").state == "done"


def test_a_node_s_name_that_cannot_be_stored_ends_no_lane(engine: Engine) -> None:
    asked = beside(engine)
    odd = FakeCluster().but("/cluster/status", data([{"type": "node", "name": "pve1\0", "online": 1}]))
    result = full(replace(asked, sources=(source_of(odd), *asked.sources)))
    assert any("/cluster/status names no nodes" in problem for problem in result.problems)


def test_a_tariff_without_end_ends_no_run(engine: Engine) -> None:
    server = {"id": 3, "status": "running", "tariff": {"description": "4096TB RAM, 2 CPU"}}
    answers = Canned(
        lambda request: answer(
            {"data": [{"id": 7, "username": "u7"}] if request.url.path.endswith("/users") else [server]}
        )
    )
    full(beside(engine, PanelApiFeed(main_site(panel_api_cluster="well"), StillClock().clock(), answers)))
    with engine.connect() as connection:
        shown = connection.execute(text("SELECT cpu, ram_mb FROM orders_seen")).one()
    assert tuple(shown) == (2, None)


def test_a_row_made_in_year_1_is_refused_and_the_others_are_taken(engine: Engine) -> None:
    rows = [order(1, createdAt="0001-01-01T00:00:00Z", name="web"), order(2, name="db")]
    result = full(beside(engine, OrdersFeed(main_site(), StillClock().clock(), site(page(rows)))))
    assert any("1 row(s) could not be read (page 1, row 1: createdAt)" in problem for problem in result.problems)
    with engine.connect() as connection:
        assert list(connection.scalars(text("SELECT order_id FROM orders_seen"))) == ["2"]
