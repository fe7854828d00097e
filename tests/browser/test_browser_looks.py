"""Every page of both panels: axe finds nothing in light and dark, nothing scrolls sideways, nothing is cut."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

from tests.browser.conftest import Visit
from tests.browser.support.shop import ANNA, BORIS, HeldSet, Shop, Sold
from tests.browser.support.tour import NO_PAGES, Stop, Tour, page_routes, set_out
from tests.browser.support.visitor import DESKTOP, PHONE, Visitor

pytestmark = [pytest.mark.browser]

CUT = """
() => {
    const hidden = one => one && (getComputedStyle(one).clipPath !== "none" || hidden(one.parentElement));
    const width = document.documentElement.clientWidth, found = [];
    if (document.documentElement.scrollWidth > width) found.push("the page scrolls sideways");
    for (const one of document.querySelectorAll("body *")) {
        const style = getComputedStyle(one), box = one.getBoundingClientRect();
        if (!box.width || style.visibility === "hidden") continue;
        if (box.right < 0 || hidden(one)) continue; // for screen readers only
        const name = `<${one.localName} class="${one.className}">${one.textContent.trim().slice(0, 40)}`;
        if (box.right > width + 1 || box.left < -1) found.push(`outside: ${name}`);
        const field = ["input", "select", "textarea"].includes(one.localName);
        const hides = style.overflowX !== "visible" && style.textOverflow !== "ellipsis" && !field;
        if (hides && one.scrollWidth > one.clientWidth + 1) found.push(`cut: ${name}`);
    }
    return found;
}
"""


@pytest.fixture(scope="module")
def tour(shop: Shop, annas: Sold, to_look_at: HeldSet) -> Tour:
    return set_out(shop, annas, to_look_at)


class Sightseers:
    """A browser for each who looks, all in one colour scheme and language."""

    def __init__(self, visit: Visit, locale: str, scheme: str) -> None:
        self._open: Callable[[], Visitor] = lambda: visit(
            locale=locale, color_scheme=scheme, refusals={400, 404}, bypass_csp=True
        )
        self._visitors: dict[str, Visitor] = {}

    def at(self, stop: Stop) -> Page:
        who = stop.visitor
        name = who if isinstance(who, str) else "nobody" if who is None else who.name
        if name not in self._visitors:
            self._visitors[name] = visitor = self._open()
            if isinstance(who, str):
                visitor.signs_in_as_operator(who)
            elif who is not None:
                visitor.comes_as(who)
        return self._visitors[name].goes(stop.path, stop.status)


@pytest.mark.parametrize(
    ("locale", "scheme", "axe_at"), [("en-GB", "light", DESKTOP), ("ru-RU", "dark", PHONE)], ids=["light", "dark"]
)
def test_every_page_is_accessible_and_whole(
    visit: Visit, shop: Shop, tour: Tour, locale: str, scheme: str, axe_at: dict[str, int], subtests: pytest.Subtests
) -> None:
    sightseers, axe = Sightseers(visit, locale, scheme), Axe()
    for stop in (Stop(shop.link(ANNA), BORIS), *tour.stops):  # the first one asks "Sign in as anna?"
        with subtests.test(stop.path.partition("&")[0]):
            page = sightseers.at(stop)
            for viewport in (DESKTOP, PHONE):
                page.set_viewport_size(viewport)  # type: ignore[arg-type]  # width and height
                page.evaluate("new Promise(drawn => requestAnimationFrame(() => requestAnimationFrame(drawn)))")
                assert page.evaluate(CUT) == [], f"at {viewport['width']} px"
                if viewport == axe_at:
                    found = axe.run(page)
                    assert found.violations_count == 0, found.generate_report()
            if locale == "ru-RU":
                assert english_left(page) == []


def english_left(page: Page) -> list[str]:
    """Words of the templates that were not translated: Latin sentences outside what is marked as English."""
    said = page.evaluate(
        "() => [...document.querySelectorAll('h1, h2, th, label, button, summary, p.lead, .empty')]"
        ".filter(one => !one.closest('[lang=en]') && !one.querySelector('[lang=en], code, bdi'))"
        ".map(one => one.textContent.trim())"
    )
    return [one for one in said if re.fullmatch(r"[A-Z][a-z]+( [a-z]+)+[.?]?", one)]


def test_no_page_is_left_out(tour: Tour) -> None:
    assert {route.path for route in page_routes()} - tour.visited == NO_PAGES
