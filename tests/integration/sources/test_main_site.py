"""Both feeds against the main-site simulator: whole reads, and every fault that it can be given."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from pydantic import SecretStr

from domain.orders import Order, OrderState
from domain.source_protocols import Found, Gone, Sweep, Unclear
from lab.simulators.main_site import ROOT_PASSWORD_CANARY, FeedFaultKind, MainSiteServer
from sources.config import FeedKind, MainSiteConfig
from sources.main_site import OrdersFeed, PanelApiFeed

ORDERS = 25


@pytest.fixture(scope="module")
def server() -> Iterator[MainSiteServer]:
    with MainSiteServer() as running:
        for name in ("ann", "bob", "eve"):
            running.add_user(username=name, email=f"{name}@customers.test")
        running.fill(ORDERS - 1, user_id=1, cluster="main")
        running.place_order(user_id=2, name="bobs", create_guest=False, notify=False)
        yield running


@pytest.fixture
def site(server: MainSiteServer) -> Iterator[MainSiteServer]:
    yield server
    server.clear_faults()
    server.set_shape("flat")


def config(site: MainSiteServer, **changes: object) -> MainSiteConfig:
    given: dict[str, object] = {
        "base_url": site.url,
        "api_key": SecretStr(site.api_key),
        "page_limit": 10,
        "attempts": 1,
        "read_timeout_s": 60.0,
        "requests_per_s": 1_000.0,
        "panel_api_cluster": "main",
        **changes,
    }
    return MainSiteConfig(**given)  # type: ignore[arg-type]


def read(site: MainSiteServer, **changes: object) -> tuple[list[Order], Sweep[Order]]:
    feed = OrdersFeed(config(site, **changes))
    sweep = feed.orders()
    found = [item for page in sweep.pages for item in page.items]
    feed.close()
    return found, sweep


def test_all_orders_and_users_are_read(site: MainSiteServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    found, sweep = read(site)
    assert sweep.problem is None
    assert sweep.complete
    assert [item.order_id for item in found] == [str(number) for number in range(1, ORDERS + 1)]
    assert found[0].owner == "1"
    assert found[-1].owner == "2"
    assert found[0].cluster == "main"
    feed = OrdersFeed(config(site))
    users = feed.users()
    assert [user.username for page in users.pages for user in page.items] == ["ann", "bob", "eve"]
    assert users.complete
    assert feed.health().ok
    told = repr((found, sweep)) + caplog.text
    assert ROOT_PASSWORD_CANARY not in told
    assert site.api_key not in told


def test_pages_are_fresh_on_the_sites_own_clock_however_wrong_it_is(site: MainSiteServer) -> None:
    site.skew_clock(7_200)
    feed = OrdersFeed(config(site))
    ages = [page.staleness_s for page in feed.orders().pages]
    assert len(ages) == 3
    assert all(age is not None and age < 60 for age in ages)
    skew = feed.health().clock_skew_s
    assert skew == pytest.approx(7_200, abs=60)


def test_a_delta_shows_what_changed_and_completes_nothing(site: MainSiteServer) -> None:
    since = site.get_order(ORDERS).created_at
    site.set_status(3, "stopped", notify=False)
    sweep = OrdersFeed(config(site)).orders(updated_since=since.isoformat())
    found = {item.order_id: item.status for page in sweep.pages for item in page.items}
    assert found["3"] == "stopped"
    assert len(found) < ORDERS
    assert sweep.problem is None
    assert not sweep.complete
    site.set_status(3, "running", notify=False)


FAULTS: dict[str, tuple[FeedFaultKind, float | None, int, str]] = {
    "cut on page 2": (FeedFaultKind.CUT_BODY, None, 10, "page 2 of orders: the connection ended"),
    "500 on page 2": (FeedFaultKind.STATUS, 500, 10, "page 2 of orders: answered 500"),
    "503 on page 2": (FeedFaultKind.STATUS, 503, 10, "page 2 of orders: answered 503"),
    "401 on page 2": (FeedFaultKind.UNAUTHORIZED, None, 10, "page 2 of orders: MAIN_SITE_API_KEY is refused"),
    "HTML on page 2": (FeedFaultKind.HTML, None, 10, "page 2 of orders: answered 200 with something that is not JSON"),
    "slow on page 2": (FeedFaultKind.SLOW, 60, 10, "page 2 of orders: no answer within 5 s"),
    "total changes": (FeedFaultKind.TOTAL_CHANGES, None, 20, "page 2 of orders: says total"),
    "id repeats": (FeedFaultKind.REPEAT_ID, None, 10, "repeated or out of order"),
    "empty page": (FeedFaultKind.EMPTY_PAGE, None, 10, "page 2 of orders: is empty but has a next_cursor"),
    "no as_of": (FeedFaultKind.NO_AS_OF, None, 20, "page 2 of orders: has another as_of than page 1"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_on_page_two_proves_no_absence(name: str, site: MainSiteServer) -> None:
    kind, value, shown, sentence = FAULTS[name]
    site.fault_feed(kind, page=2, value=value, path="/orders")
    # Long enough for page 1 on a busy machine.
    found, sweep = read(site, read_timeout_s=5.0 if kind is FeedFaultKind.SLOW else 60.0)
    assert len(found) == shown
    assert sentence in (sweep.problem or "")
    assert not sweep.complete


def test_a_fault_that_passes_is_tried_again(site: MainSiteServer) -> None:
    site.fault_feed(FeedFaultKind.STATUS, page=2, value=503, times=1)
    found, sweep = read(site, attempts=2)
    assert len(found) == ORDERS
    assert sweep.complete


@pytest.mark.parametrize(
    ("kind", "value", "shown"), [(FeedFaultKind.EMPTY, None, 0), (FeedFaultKind.SHRINK, 0.2, ORDERS // 5)]
)
def test_a_list_that_agrees_with_itself_is_complete_however_short(
    site: MainSiteServer, kind: FeedFaultKind, value: float | None, shown: int
) -> None:
    site.fault_feed(kind, value=value)
    found, sweep = read(site)
    assert len(found) == shown
    assert sweep.complete


@pytest.mark.parametrize(("lag_s", "age_s"), [(3_600, 3_600), (-3_600, None)])
def test_an_old_as_of_is_told_and_a_future_one_is_not_believed(
    site: MainSiteServer, lag_s: float, age_s: float | None
) -> None:
    site.fault_feed(FeedFaultKind.AS_OF_LAG, value=lag_s)
    sweep = OrdersFeed(config(site)).orders()
    ages = [page.staleness_s for page in sweep.pages]
    assert len(ages) == 3
    assert all(age == (None if age_s is None else pytest.approx(age_s, abs=5)) for age in ages)
    assert sweep.complete == (age_s is not None)


@pytest.mark.parametrize("kind", [OrdersFeed, PanelApiFeed])
def test_one_order_is_looked_up(site: MainSiteServer, kind: type[OrdersFeed | PanelApiFeed]) -> None:
    feed = kind(config(site))
    found = feed.order("3", "1")
    assert isinstance(found, Found)
    assert found.value.state is OrderState.ACTIVE
    site.hide_order(3)
    assert isinstance(feed.order("3", "1"), Gone)
    assert isinstance(feed.order("3", None), Unclear)
    site.hide_order(1)
    assert isinstance(feed.order("3", "1"), Unclear)
    site.fault_feed(FeedFaultKind.STATUS, value=500)
    assert isinstance(feed.order("2", "1"), Unclear)


@pytest.mark.parametrize("shape", ["flat", "nested"])
def test_the_panel_api_is_read_in_both_shapes(site: MainSiteServer, shape: str) -> None:
    site.set_shape("flat" if shape == "flat" else "nested")
    feed = PanelApiFeed(config(site, feed=FeedKind.PANEL_API))
    sweep = feed.orders(suspects=("2",))
    pages = list(sweep.pages)
    assert sweep.problem is None
    assert sweep.complete_scopes == {"all", "user:1", "user:2", "user:3"}
    assert [page.scope for page in pages] == ["user:2", "user:1", "user:3"]
    found = [item for page in pages for item in page.items]
    assert len(found) == ORDERS == sweep.count
    (bobs,) = pages[0].items
    assert (bobs.owner, bobs.cpu, bobs.ram_mb, bobs.disk_gb, bobs.os) == ("2", 2, 4096, 50, "Ubuntu 22.04")
    assert ROOT_PASSWORD_CANARY not in repr(found)
    assert feed.health().ok


def test_a_fault_in_one_users_list_leaves_the_others_complete(site: MainSiteServer) -> None:
    site.fault_feed(FeedFaultKind.HTML, path="/users/2/vps")
    sweep = PanelApiFeed(config(site)).orders()
    pages = list(sweep.pages)
    assert [page.scope for page in pages] == ["user:1", "user:2", "user:3"], (
        "the fault is a page, so the time is looked at"
    )
    assert pages[1].items == ()
    assert sweep.complete_scopes == {"user:1", "user:3"}
    assert "orders of user 2" in (sweep.problem or "")


def test_a_wrong_key_is_named(site: MainSiteServer) -> None:
    for kind in (OrdersFeed, PanelApiFeed):
        health = kind(config(site, api_key=SecretStr("another-key"))).health()
        assert not health.ok
        assert "MAIN_SITE_API_KEY is refused (401)" in health.problems[0]
        assert "another-key" not in repr(health)
