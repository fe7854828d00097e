"""What a customer does: find a VPS, see it change, switch it. With JavaScript and without."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Visit
from tests.browser.support.shop import ANNA, CLARA, Shop, Sold
from tests.browser.support.visitor import badge, is_marked, looks_again_until, mark
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.browser]

NUMBERED = [f"node-{number:02}" for number in range(1, 28)]
"""More than a page of the list shows."""


@pytest.fixture(scope="module")
def many(shop: Shop) -> list[Sold]:
    """All of Clara's VPS, the oldest first."""
    return [*shop.sell(CLARA, *NUMBERED), *shop.sell(CLARA, "mail", status="stopped", ip_address="198.51.100.77")]


@contextmanager
def power_waits(shop: Shop) -> Iterator[None]:
    """The worker that switches machines stands still, so that what is going on can be looked at."""
    worker = shop.panel.process("worker-power")
    worker.pause()
    try:
        yield
    finally:
        worker.resume()


def presses(page: Page, button: str) -> None:
    """Press a button of the power of the VPS that is open, once the panel is sure of the machine."""
    wanted = page.locator("#power").get_by_role("button", name=button)
    refused = page.get_by_role("alert")

    def accepted() -> bool:
        page.goto(page.url.removesuffix("/power"))
        if wanted.count() == 0:
            return False
        with page.expect_navigation():
            wanted.click()
        return refused.count() == 0

    wait_until(accepted, f"{button} to be accepted")


def lists(page: Page, names: list[str]) -> None:
    """The list comes to show these, in this order."""
    expect(page.locator("li.vps a.name")).to_have_text(names)


@pytest.mark.parametrize("scripts", [True, False], ids=["with JavaScript", "without"])
def test_a_list_is_searched_filtered_and_turned(visit: Visit, many: list[Sold], scripts: bool) -> None:
    clara = visit(java_script_enabled=scripts)
    page = clara.comes_as(CLARA)
    newest_first = [vps.name for vps in reversed(many)]
    lists(page, newest_first[:25])
    page.get_by_role("link", name="Older ones").click()
    lists(page, newest_first[25:])
    page.get_by_role("link", name="Back to the newest").click()
    lists(page, newest_first[:25])

    search = page.get_by_role("searchbox", name="Name or address")
    for wanted in ("mail", "198.51.100.77"):
        search.fill(wanted)
        page.get_by_role("button", name="Search").click()
        expect(page).to_have_url(re.compile(f"q={wanted}"))
        lists(page, ["mail"])
        expect(search).to_have_value(wanted)
    search.fill("")
    page.get_by_role("combobox", name="State").select_option(label="Stopped")
    page.get_by_role("button", name="Search").click()
    expect(page).to_have_url(re.compile("status=stopped"))
    lists(page, ["mail"])
    search.fill("node")
    search.press("Enter")
    expect(page.get_by_text("No VPS fits your search.")).to_be_visible()
    page.get_by_role("link", name="Show all").click()
    expect(page.get_by_role("link", name="mail", exact=True)).to_be_visible()


def test_a_change_is_seen_without_a_reload(visit: Visit, shop: Shop, annas: Sold) -> None:
    (vps,) = shop.sell(ANNA, "lively")
    anna = visit()
    page = anna.comes_as(ANNA)
    expect(badge(page, vps.name)).to_have_text("Running")
    one = anna.goes(vps.path, page=anna.context.new_page())
    expect(one.locator(".head .badge")).to_have_text("Running")
    for tab in (page, one):
        mark(tab)
    shop.world.site.set_status(vps.order_id, "suspended")
    expect(badge(page, vps.name)).to_have_text("Suspended")
    expect(one.locator(".head .badge")).to_have_text("Suspended")
    expect(one.locator("ol.activity li").first).to_contain_text("Running → Suspended")
    (sold,) = shop.sell(ANNA, "just-bought")
    expect(badge(page, sold.name)).to_have_text("Running")
    assert all(is_marked(tab) for tab in (page, one)), "it is still the page that was opened"
    expect(badge(page, annas.name)).to_have_text("Running")


def test_a_vps_that_ends_leaves_the_page_that_shows_it(visit: Visit, shop: Shop, annas: Sold) -> None:
    (vps,) = shop.sell(ANNA, "leaving")
    anna = visit(refusals={404})
    page = anna.comes_as(ANNA)
    one = anna.goes(vps.path, page=anna.context.new_page())
    expect(one.get_by_role("heading", name=vps.name)).to_be_visible()
    shop.world.site.cancel_order(vps.order_id)
    expect(page.get_by_role("link", name=vps.name)).to_have_count(0)
    expect(one.get_by_role("heading", name="Not found")).to_be_visible()
    expect(badge(page, annas.name)).to_have_text("Running")


def test_a_button_its_progress_and_its_outcome(visit: Visit, shop: Shop) -> None:
    (vps,) = shop.sell(ANNA, "switched")
    anna = visit(refusals={409, 503})
    page = anna.comes_as(ANNA)
    anna.goes(vps.path)
    power = page.locator("#power")
    with power_waits(shop):
        presses(page, "Shut down")
        expect(power.get_by_role("status")).to_contain_text("Shutting down")
        expect(power.get_by_role("button")).to_have_count(0)
        assert page.url == f"{shop.panel.url}{vps.path}"
        mark(page)
    expect(power.locator(".last")).to_contain_text(re.compile("Shut down, .*: done"))
    expect(page.locator(".head .badge")).to_have_text("Stopped")
    expect(power.get_by_role("button", name="Start")).to_be_visible()
    assert is_marked(page), "the page renewed itself"
    assert shop.power(vps) == "stopped"

    presses(page, "Start")
    expect(power.locator(".last")).to_contain_text(re.compile("Start, .*: done"))
    expect(page.locator(".head .badge")).to_have_text("Running")
    shop.has_long_run(vps)
    anna.goes(vps.path)
    power.get_by_text("If it does not react").click()
    cut = power.locator("#power-cut")
    cut.get_by_role("button", name="Cut the power").click()
    assert cut.locator("[name=sure]").evaluate("box => !box.validity.valid"), "the browser asks for the tick first"
    expect(power.get_by_role("status")).to_have_count(0)
    cut.get_by_label("Yes, data may be lost").check()
    cut.get_by_role("button", name="Cut the power").click()
    expect(power.locator(".last")).to_contain_text(re.compile("Cut the power, .*: done"))
    assert shop.power(vps) == "stopped"


def test_all_but_liveness_works_without_javascript(visit: Visit, shop: Shop) -> None:
    (vps,) = shop.sell(ANNA, "plain")
    anna = visit(java_script_enabled=False, refusals={409, 422, 503})
    page = anna.goes("/sign-in")
    page.get_by_text("Sign in with a token").click()
    page.get_by_label("Token").fill(shop.panel.token(ANNA.user_id))
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("link", name=vps.name).click()
    expect(page.get_by_role("button", name="Copy")).to_have_count(0)
    presses(page, "Shut down")
    last = page.locator("#power .last")
    looks_again_until(page, lambda: last.count() == 1, "the machine to be shut down")
    expect(last).to_contain_text(re.compile("Shut down, .*: done"))
    expect(page.locator(".head .badge")).to_have_text("Stopped")
    presses(page, "Start")
    looks_again_until(page, lambda: last.filter(has_text="Start, ").count() == 1, "the machine to be started")
    expect(last).to_contain_text(re.compile("Start, .*: done"))
    assert shop.power(vps) == "running"
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("status")).to_have_text("You are signed out.")


def test_an_address_is_copied(visit: Visit, annas: Sold) -> None:
    anna = visit(permissions=["clipboard-read", "clipboard-write"])
    page = anna.comes_as(ANNA)
    anna.goes(annas.path)
    page.get_by_role("button", name="Copy 198.51.100.11").click()
    answer = page.locator("#copied")
    expect(answer).to_have_text("Copied")
    with page.expect_response(lambda response: response.url.endswith(annas.path)):
        page.evaluate("htmx.trigger('#live', 'look-again')")
    expect(answer).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == "198.51.100.11"
