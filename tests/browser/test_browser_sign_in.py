"""Who gets in by which way, in a real browser, and where those go who do not."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, Route, expect

from tests.browser.conftest import Visit
from tests.browser.support.shop import ANNA, MAIN_SITE, Shop, Sold

pytestmark = [pytest.mark.browser]


def goes_back_to_the_main_site(page: Page) -> None:
    """By the button of the page. The main site answers with a page of its own."""

    def answer(route: Route) -> None:
        route.fulfill(content_type="text/html", body="<!doctype html><title>shop</title><h1>Your account</h1>")

    page.route(f"{MAIN_SITE}**", answer)
    page.get_by_role("link", name="Go to the site").click()
    expect(page.get_by_role("heading", name="Your account")).to_be_visible()
    page.unroute(f"{MAIN_SITE}**")


def test_a_link_signs_in_once_and_then_leads_back(visit: Visit, shop: Shop, annas: Sold) -> None:
    link = shop.link(ANNA)
    anna = visit().page
    anna.goto(link)
    expect(anna).to_have_url(f"{shop.panel.url}/")
    expect(anna.get_by_role("link", name=annas.name)).to_be_visible()
    assert "signature" not in anna.evaluate("document.referrer + location.href"), "nothing of the link stays behind"

    later = visit(refusals={410})
    later.goes(link, 410)
    expect(later.page.get_by_role("alert")).to_contain_text("was used already")
    goes_back_to_the_main_site(later.page)

    late = visit(refusals={410})
    late.goes(shop.link(ANNA, ago_s=301), 410)
    expect(late.page.get_by_role("alert")).to_contain_text("has expired")
    goes_back_to_the_main_site(late.page)
    late.goes("/")
    expect(late.page).to_have_url(f"{shop.panel.url}/sign-in")


def test_a_token_is_pasted(visit: Visit, shop: Shop, annas: Sold) -> None:
    anna = visit(refusals={401})
    page = anna.goes("/")
    expect(page).to_have_url(f"{shop.panel.url}/sign-in")
    page.get_by_text("Sign in with a token").click()
    page.get_by_label("Token").fill("hello")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("This token is not valid")
    page.get_by_label("Token").fill(shop.panel.token(ANNA.user_id))
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("link", name=annas.name)).to_be_visible()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("status")).to_have_text("You are signed out.")


def test_operators_sign_in_by_their_key_and_come_to_the_page_they_asked_for(visit: Visit, shop: Shop) -> None:
    olga = visit(refusals={401})
    page = olga.goes("/ops/runs")
    expect(page).to_have_url(re.compile(r"/ops/sign-in\?next="))
    page.get_by_label("Your key").fill("not the key of anybody")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("not the key of an operator")
    page.get_by_label("Your key").fill(shop.keys["olga"])
    page.get_by_role("button", name="Sign in").click()
    expect(page).to_have_url(f"{shop.panel.url}/ops/runs")
    expect(page.locator(".who")).to_have_text("olga (operate)")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("status")).to_have_text("You are signed out.")
    olga.goes("/ops/runs")
    expect(page).to_have_url(re.compile("/ops/sign-in"))


def test_the_language_is_the_browsers_until_the_visitor_chooses(visit: Visit, shop: Shop, annas: Sold) -> None:
    anna = visit(locale="ru-RU")
    page = anna.goes("/sign-in")
    expect(page.get_by_role("heading", name="Вход в панель")).to_be_visible()
    anna.comes_as(ANNA)
    anna.goes(annas.path)
    expect(page.locator(".badge")).to_have_text("Работает")
    page.get_by_role("link", name="English").click()
    expect(page.locator(".badge")).to_have_text("Running")
    expect(page).to_have_url(f"{shop.panel.url}{annas.path}")
    anna.goes("/ops/sign-in")
    expect(page.get_by_role("heading", name="Sign in as an operator")).to_be_visible()
    page.get_by_role("link", name="Русский").click()
    expect(page.get_by_role("heading", name="Вход для оператора")).to_be_visible()
