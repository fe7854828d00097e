"""The graphs of a VPS: drawn under the strict policy, in words without JavaScript, by period, and in Russian."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Visit
from tests.browser.support.shop import ANNA, Shop, Sold
from tests.browser.support.visitor import PHONE, looks_again_until

pytestmark = [pytest.mark.browser]

TITLES = ["Processor", "Memory", "Network", "Disk"]
PERIODS = ["Hour", "Day", "Week", "Month", "Year"]

PAINTED = """
plot => {
    const canvas = plot.querySelector("canvas");
    const seen = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
    return canvas.width > 100 && seen.some(value => value !== 0);
}
"""
"""Whether something is drawn."""


@pytest.fixture(scope="module")
def measured(shop: Shop) -> Sold:
    """A VPS of Anna that she has had for two days, and whose machine ran all the time."""
    (vps,) = shop.sell(ANNA, "measured")
    shop.has_run_for(vps, days=2)
    return vps


def draws(page: Page) -> None:
    """Every graph comes to be drawn."""
    plots = page.locator("#statistics .uplot")
    expect(plots).to_have_count(len(TITLES))
    for plot in plots.all():
        assert plot.evaluate(PAINTED)


def test_graphs_are_drawn_under_the_strict_policy_and_by_period(visit: Visit, measured: Sold) -> None:
    """That the browser complains of nothing is judged by the visitor."""
    anna = visit()
    page = anna.comes_as(ANNA)
    answer = page.goto(measured.path)
    assert answer is not None
    policy = answer.headers["content-security-policy"]
    assert {"default-src 'none'", "script-src 'self'", "style-src 'self'"} <= set(re.split("; ?", policy))
    expect(page.locator("#statistics figcaption")).to_have_text(TITLES)
    draws(page)
    periods = page.get_by_role("navigation", name="Period")
    expect(periods.get_by_role("listitem")).to_have_text(PERIODS)
    hours = page.locator("#graph-cpu-words").inner_text()
    for period in ("Day", "Hour"):
        periods.get_by_role("link", name=period).click()
        expect(page).to_have_url(re.compile(f"timeframe={period.lower()}"))
        expect(periods.locator("[aria-current]")).to_have_text(period)
        draws(page)
        expect(page.locator("#graph-cpu-words")).to_contain_text("on average")
        if period == "Day":
            assert page.locator("#graph-cpu-words").inner_text() != hours, "a day has another average than an hour"


def test_without_javascript_the_graphs_are_words(visit: Visit, measured: Sold) -> None:
    anna = visit(java_script_enabled=False)
    page = anna.comes_as(ANNA)
    anna.goes(measured.path)
    words = page.locator("#graph-cpu-words")
    looks_again_until(page, lambda: words.filter(has_text="now").count() == 1, "the statistics to be read")
    expect(words).to_have_text(re.compile(r"Busy\s*:\s*now .*%, on average .*%, at most .*%"))
    expect(page.locator("#statistics canvas")).to_have_count(0)
    page.get_by_role("link", name="Day", exact=True).click()
    looks_again_until(page, lambda: words.count() == 1, "the statistics of a day to be read")
    expect(page.locator("#statistics [aria-current]")).to_have_text("Day")


def test_graphs_in_russian_on_a_phone(visit: Visit, measured: Sold) -> None:
    anna = visit(locale="ru-RU", viewport=PHONE, color_scheme="dark")
    page = anna.comes_as(ANNA)
    anna.goes(measured.path)
    expect(page.locator("#statistics").get_by_role("heading", name="Нагрузка")).to_be_visible()
    draws(page)
    expect(page.locator("#statistics figcaption")).to_have_text(["Процессор", "Память", "Сеть", "Диск"])
    expect(page.locator("#graph-cpu-words")).to_contain_text("в среднем")
    expect(page.locator(".u-legend").nth(0)).to_contain_text("Время")
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
