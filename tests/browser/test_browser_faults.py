"""Redis, Proxmox or the panel itself is away: the pages show the records all the same, say how old what they know is,
and come back."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Route, expect

from tests.browser.conftest import Visit
from tests.browser.support.shop import ANNA, BORIS, Shop, Sold
from tests.browser.support.visitor import badge, is_marked, looks_again_until, mark
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.browser]


def test_without_redis_everything_is_shown_and_wishes_are_kept(visit: Visit, shop: Shop, boriss: Sold) -> None:
    (vps,) = shop.sell(ANNA, "patient")
    anna, olga = visit(), visit()
    page = anna.comes_as(ANNA)
    operator = olga.signs_in_as_operator("olga")
    shop.panel.redis.stop()
    try:
        anna.goes("/")
        expect(badge(page, vps.name)).to_have_text("Running")
        anna.goes(vps.path)
        expect(page.locator("dl.aged")).to_contain_text(re.compile(r"ago, seen on the server"))
        page.get_by_role("button", name="Shut down").click()
        expect(page.locator("#power").get_by_role("status")).to_contain_text("Shutting down")
        assert shop.power(vps) == "running"
        visit().comes_as(BORIS)
        for path in ("/ops", "/ops/runs", f"/ops{vps.path}"):
            olga.goes(path)
            expect(operator.get_by_role("heading", level=1)).to_be_visible()
        mark(page)
    finally:
        shop.panel.redis.start()
    expect(page.locator("#power .last")).to_contain_text(re.compile("Shut down, .*: done"))
    expect(page.locator(".head .badge")).to_have_text("Stopped")
    assert is_marked(page)


def test_without_proxmox_the_pages_say_how_old_they_are(visit: Visit, shop: Shop, annas: Sold) -> None:
    anna, olga = visit(), visit()
    page = anna.comes_as(ANNA)
    operator = olga.signs_in_as_operator("olga")
    shop.world.pve.set_endpoint_up(0, up=False)
    try:
        source = operator.locator("tr", has_text="proxmox:")
        olga.goes("/ops/sources")
        good = source.locator(".badge.good")
        looks_again_until(operator, lambda: good.count() == 0, "Proxmox not to be believed")
        shop.age_reads_of_proxmox(minutes=14)
        anna.goes("/")
        expect(badge(page, annas.name)).to_have_text(re.compile(r"Unknown, last seen 1\d minutes ago"))
        expect(page.locator("body")).to_contain_text("198.51.100.11")
        page.get_by_role("link", name=annas.name, exact=True).click()
        expect(page.get_by_text("That does not say that it is off.")).to_be_visible()
        expect(page.locator("#power").get_by_role("button")).to_have_count(0)
        expect(page.locator("#power .none")).to_contain_text("Try again later")
        expect(page.locator("dl.aged")).to_contain_text(re.compile(r"1\d minutes ago, seen on the server"))
        olga.goes(f"/ops{annas.path}")
        expect(operator.locator("main")).to_contain_text("is not believed")
    finally:
        shop.world.pve.set_endpoint_up(0, up=True)
    looks_again_until(page, lambda: page.locator(".head .badge.running").count() == 1, "the machine to be seen again")
    expect(page.locator("#power").get_by_role("button", name="Reboot")).to_be_visible()
    olga.goes("/ops/sources")
    looks_again_until(operator, lambda: good.count() == 1, "Proxmox to be believed again")


def test_a_page_hears_of_changes_on_a_slow_line(visit: Visit, shop: Shop) -> None:
    """The script of the streams arrives long after htmx has run."""
    anna = visit()
    page = anna.comes_as(ANNA)
    held = list[Route]()
    page.route("**/hx-sse.min.js*", lambda route: held.append(route))  # noqa: PLW0108 - it looks at the parameters
    page.goto("/", wait_until="commit")
    wait_until(lambda: page.evaluate("'htmx' in window") and held, "the script of the streams to be asked for")
    page.evaluate("new Promise((done) => setTimeout(done))")
    events = f"{shop.panel.url}/api/vps/events"
    with page.expect_response(lambda answer: answer.url == events and answer.status == 200):
        held[0].continue_()


def test_a_stream_that_could_not_be_opened_is_opened_soon(visit: Visit, shop: Shop) -> None:
    """The page was loaded, and its stream met a panel that was away."""
    (vps,) = shop.sell(ANNA, "early")
    anna = visit(refusals={503})
    page = anna.comes_as(ANNA)
    events = f"{shop.panel.url}/api/vps/events"
    asked = list[str]()

    def away(route: Route) -> None:
        asked.append(route.request.url)
        route.fulfill(status=503)

    page.route(events, away)
    anna.goes("/")
    # Playwright hands over the page's requests only while it is called.
    wait_until(lambda: page.evaluate("true") and len(asked) > 1, "a second try to open the stream")
    with page.expect_response(lambda answer: answer.url == events and answer.status == 200):
        page.unroute(events, away)
    mark(page)
    shop.world.site.set_status(vps.order_id, "suspended")
    expect(badge(page, vps.name)).to_have_text("Suspended")
    assert is_marked(page)


def test_a_renewal_that_failed_is_made_again_soon(visit: Visit, shop: Shop) -> None:
    """The only event that tells of the change meets a panel that is away. The clock of the page stands still, so its
    renewal of each minute does not help."""
    (vps,) = shop.sell(ANNA, "steady")
    anna = visit(refusals={503})
    page = anna.comes_as(ANNA)
    page.clock.install()
    anna.goes("/")
    expect(badge(page, vps.name)).to_have_text("Running")
    page.clock.pause_at(page.evaluate("Date.now() / 1000 + 30"))  # later than now also on a slow machine
    mark(page)
    page.evaluate("document.addEventListener('htmx:response:error', () => { window.failed = true; })")

    def away(route: Route) -> None:
        route.fulfill(status=503)

    page.route(f"{shop.panel.url}/", away)
    shop.world.site.set_status(vps.order_id, "suspended")
    wait_until(lambda: shop.status(vps) == "suspended", "the record to change")
    wait_until(lambda: page.evaluate("window.failed"), "a renewal to fail")
    page.unroute(f"{shop.panel.url}/", away)
    page.clock.fast_forward(10_000)
    expect(badge(page, vps.name)).to_have_text("Suspended")
    assert is_marked(page)
