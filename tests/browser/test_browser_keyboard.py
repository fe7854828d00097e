"""Both panels by the keyboard alone: the order of Tab, the link that skips the head, and that the focus is seen."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Visit
from tests.browser.support.shop import ANNA, HeldSet, Shop, Sold
from tests.browser.support.visitor import badge

pytestmark = [pytest.mark.browser]

FOCUSED = """
() => {
    const one = document.activeElement;
    if (!one || one === document.body) return null;
    const seen = () => {
        const style = getComputedStyle(one);
        const ring = style.outlineStyle === "none" ? "" : style.outline;
        return [ring, style.boxShadow, style.borderColor, style.backgroundColor, style.textDecoration].join("|");
    };
    const box = one.getBoundingClientRect(), with_focus = seen();
    one.blur();
    const without = seen();
    one.focus({focusVisible: true});
    const name = (one.getAttribute("aria-label") || one.labels?.[0]?.textContent || one.textContent || "").trim();
    return {
        name: name.replace(/\\s+/g, " "), tag: one.localName, differs: with_focus !== without,
        top: box.top + scrollY, left: box.left, inside: box.right > 0 && box.bottom > 0, id: one.id,
    };
}
"""


SHOWN = """
() => [...document.querySelectorAll("a[href], button, input:not([type=hidden]), select, textarea, summary")]
    .filter(one => one.checkVisibility({visibilityProperty: true})).length
"""
"""How many things there are to press or to fill in."""


TO_THE_TOP = """
() => {
    document.body.tabIndex = -1; // where the next Tab starts from is where the focus was last, if it was anywhere
    document.body.focus();
    document.body.removeAttribute("tabindex");
}
"""


def walk(page: Page, limit: int = 200) -> list[dict[str, Any]]:
    """Every stop of Tab from the top of the page to its end."""
    page.evaluate(TO_THE_TOP)
    stops: list[dict[str, Any]] = []
    for _ in range(limit):
        page.keyboard.press("Tab")
        stop = page.evaluate(FOCUSED)
        if stop is None or (stops and stop["name"] == stops[0]["name"]):  # out of the page, or round to its top
            return stops
        stops.append(stop)
    raise AssertionError(f"Tab goes round: {stops[-3:]}")


def tabs_to(page: Page, name: str) -> None:
    """Press Tab until the thing of that name has the focus."""
    for _ in range(200):
        page.keyboard.press("Tab")
        stop = page.evaluate(FOCUSED)
        if stop is not None and stop["name"] == name:
            return
    raise AssertionError(f"Tab never comes to {name}. The page says: {page.locator('body').inner_text()}")


def test_tab_comes_to_everything_in_the_order_in_which_it_stands(
    visit: Visit, shop: Shop, annas: Sold, to_look_at: HeldSet
) -> None:
    still = {"reduced_motion": "reduce"}  # or the focus fades in and out while it is looked at
    anna, olga = visit(**still), visit(**still)
    anna.comes_as(ANNA)
    olga.signs_in_as_operator("olga")
    walks = [(anna, path) for path in ("/", annas.path)]
    walks += [(olga, path) for path in ("/ops", "/ops/held", f"{to_look_at.path}/approve", "/ops/vps", "/ops/pauses")]
    for visitor, path in walks:
        page = visitor.goes(path)
        stops = walk(page)
        assert stops[0]["name"] == "Skip to the content", path
        assert [stop for stop in stops if not stop["differs"]] == [], f"{path}: the focus is not seen"
        assert [stop for stop in stops if not stop["inside"]] == [], f"{path}: the focus is outside"
        assert [stop for stop in stops if not stop["name"]] == [], f"{path}: it has no name"
        rows = [stop["top"] for stop in stops[1:]]
        backwards = [stop["name"] for stop, before in zip(stops[2:], rows, strict=False) if stop["top"] < before - 60]
        assert backwards == [], f"{path}: Tab goes up the page"
        shown = page.evaluate(SHOWN)
        assert len(stops) == shown, f"{path}: Tab comes to {len(stops)} of {shown}"


def test_the_skip_link_leads_past_the_head(visit: Visit, annas: Sold) -> None:
    anna = visit()
    page = anna.comes_as(ANNA)
    page.keyboard.press("Tab")
    skip = page.get_by_role("link", name="Skip to the content")
    expect(skip).to_be_focused()
    expect(skip).to_be_in_viewport()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.get_by_role("searchbox", name="Name or address")).to_be_focused()


def test_a_customer_and_an_operator_need_no_mouse(visit: Visit, shop: Shop) -> None:
    (vps,) = shop.sell(ANNA, "typed")
    anna = visit()
    page = anna.goes("/sign-in")
    tabs_to(page, "Sign in with a token")
    page.keyboard.press("Enter")
    tabs_to(page, "Token")
    page.keyboard.insert_text(shop.panel.token(ANNA.user_id))
    tabs_to(page, "Sign in")
    page.keyboard.press("Space")
    expect(badge(page, vps.name)).to_be_visible()
    tabs_to(page, vps.name)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name=vps.name)).to_be_visible()
    tabs_to(page, "If it does not react")
    page.keyboard.press("Space")
    tabs_to(page, "Yes, data may be lost")
    page.keyboard.press("Space")
    tabs_to(page, "Cut the power")
    page.keyboard.press("Enter")
    expect(page.locator("#power .last")).to_contain_text(re.compile("Cut the power, .*: done"))

    olga = visit()
    page = olga.goes("/ops/sign-in")
    expect(page.get_by_label("Your key")).to_be_focused()
    page.keyboard.insert_text(shop.keys["olga"])
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{shop.panel.url}/ops")
    tabs_to(page, "VPS")
    page.keyboard.press("Enter")
    expect(page.get_by_role("searchbox", name="What to find")).to_be_focused()
    page.keyboard.insert_text(vps.name)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_contain_text(vps.name)
    tabs_to(page, "Reconcile this VPS now")
    page.keyboard.press("Space")
    expect(page.get_by_role("status")).to_contain_text(f"vps:{vps.vps_id}")
