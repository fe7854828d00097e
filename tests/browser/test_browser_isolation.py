"""No page, stream, guessed id or kept answer shows a customer another's VPS: two customers, also in one browser."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import Visit
from tests.browser.support.shop import ANNA, BORIS, Customer, Shop, Sold
from tests.browser.support.visitor import Visitor, badge, program

pytestmark = [pytest.mark.browser]


def strangers(customer: Customer) -> re.Pattern[str]:
    """What only another customer's pages may show: names and addresses of Anna's or of Boris' VPS."""
    other, address = ("boris", "198.51.100.22") if customer is ANNA else ("anna", "198.51.100.11")
    return re.compile(rf"{other}-|{re.escape(address)}")


def shows_only_own(page: Page, customer: Customer) -> None:
    assert strangers(customer).search(page.content()) is None, page.url


def becomes(visitor: Visitor, customer: Customer) -> None:
    """Another customer's link is opened in a new tab of this browser, and used after the question."""
    tab = visitor.goes(visitor.shop.link(customer), page=visitor.context.new_page())
    tab.get_by_role("button", name=f"Continue as {customer.name}").click()
    expect(tab.locator(".who")).to_have_text(customer.name)
    shows_only_own(tab, customer)


def test_no_guessed_id_shows_anything_of_another(visit: Visit, shop: Shop, annas: Sold, boriss: Sold) -> None:
    """Every id that there is and some beyond, by page and by API, with the cookie of the pages and with a token."""
    boris = visit(refusals={404})
    page = boris.comes_as(BORIS)
    ids = [row["id"] for row in shop.panel.rows("SELECT id FROM vps ORDER BY id")]
    own = {row["id"] for row in shop.panel.rows("SELECT id FROM vps WHERE user_id = :id", id=BORIS.user_id)}
    assert annas.vps_id in set(ids) - own
    bearer = {"Authorization": f"Bearer {shop.panel.token(BORIS.user_id)}"}
    asked = boris.context.request  # shares the cookies of the pages
    for number in [*ids, max(ids) + 1, max(ids) + 1000]:
        expected = 200 if number in own else 404
        for path, headers in ((f"/vps/{number}", {}), (f"/api/vps/{number}", bearer)):
            answer = asked.get(path, headers=headers)
            assert answer.status == expected, path
            assert strangers(BORIS).search(answer.text()) is None, path
        if number not in own:
            fields: dict[str, str | float | bool] = {
                "form_token": page.locator("[name=form_token]").first.input_value(),
                "action": "stop",
            }
            sent = asked.post(f"/vps/{number}/power", form=fields, headers={"Sec-Fetch-Site": "same-origin"})
            assert sent.status == 404
            switched = asked.post(f"/api/vps/{number}/stop", data={}, headers=bearer)
            assert switched.status == 404
    assert asked.get("/api/vps").status == 401, "the cookie of the pages opens no API but the stream"
    for query in ("q=anna", "q=198.51.100.11", "status=running"):
        boris.goes(f"/?{query}")
        assert strangers(BORIS).search(page.locator("#live").inner_text()) is None, query
    assert shop.panel.rows("SELECT 1 FROM power_actions WHERE user_id = :id", id=BORIS.user_id) == []


def test_two_customers_in_one_browser(visit: Visit, shop: Shop, annas: Sold, boriss: Sold) -> None:
    """Anna's tabs and their stream are still open when Boris signs in. The next event takes them from Anna's pages."""
    both = visit(refusals={404, 409})
    list_ = both.comes_as(ANNA)
    one = both.goes(annas.path, page=both.context.new_page())
    expect(one.get_by_role("heading", name=annas.name)).to_be_visible()
    stale = one.locator("[name=form_token]").first.input_value()  # the tab may renew itself at any moment
    becomes(both, BORIS)

    # A form of Anna's page does nothing in Boris' name, and nothing in hers.
    before = shop.panel.rows("SELECT count(*) AS n FROM power_actions")
    old = both.goes(boriss.path, page=both.context.new_page())
    sent = both.context.request.post(
        f"{boriss.path}/power", form={"form_token": stale, "action": "stop"}, headers={"Sec-Fetch-Site": "same-origin"}
    )
    assert sent.status == 403
    shows_only_own(old, BORIS)
    assert shop.panel.rows("SELECT count(*) AS n FROM power_actions") == before

    # The streams of the old tabs are Anna's. What they tell is that something changed, and the tabs ask again.
    shop.sell(ANNA, "anna-new")
    expect(list_.locator(".who")).to_have_text("boris")
    expect(one.get_by_role("heading", name="Not found")).to_be_visible()
    for tab in both.context.pages:
        shows_only_own(tab, BORIS)


def test_after_signing_out_nothing_is_left(visit: Visit, shop: Shop, annas: Sold) -> None:
    anna = visit(refusals={401})
    page = anna.comes_as(ANNA)
    anna.goes(annas.path)
    left_open = anna.goes("/", page=anna.context.new_page())
    expect(badge(left_open, annas.name)).to_be_visible()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_text("You are signed out.")).to_be_visible()
    for _ in range(2):  # the page of the VPS, and the list before it
        page.go_back()
        expect(page.get_by_role("heading", name="Sign in to the panel")).to_be_visible()
        assert annas.name not in page.content()
    shop.sell(ANNA, "anna-later")
    expect(left_open.get_by_role("heading", name="Sign in to the panel")).to_be_visible()
    assert annas.name not in left_open.content()


@pytest.fixture
def keeping_browser(chromium: Browser) -> Iterator[Browser]:
    """A Chromium that keeps pages in memory for its back button, as people's browsers do. Playwright's does not."""
    browser = chromium.browser_type.launch(
        executable_path=program(), ignore_default_args=["--disable-back-forward-cache"]
    )
    yield browser
    browser.close()


def test_no_page_is_kept_for_the_back_button(keeping_browser: Browser, shop: Shop, annas: Sold) -> None:
    """Whatever a browser keeps in memory: after the sign-out nothing of it is shown again."""
    anna = Visitor(keeping_browser, shop, refusals={401})
    page = anna.comes_as(ANNA)
    anna.goes(annas.path)
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_text("You are signed out.")).to_be_visible()
    page.evaluate("history.back()")
    expect(page).not_to_have_url(re.compile("signed-out"))  # which has the same heading
    expect(page.get_by_role("heading", name="Sign in to the panel")).to_be_visible()
    assert annas.name not in page.content()
    anna.close()
    assert anna.complaints == []


def test_what_a_browser_keeps_is_nobodys(visit: Visit, shop: Shop, annas: Sold, boriss: Sold) -> None:
    """Only styles and scripts may be kept, and their addresses are the same for everybody. An entity tag of one
    customer's list never answers another's question with "not changed"."""
    kept: dict[str, set[str]] = {}
    for customer, vps in ((ANNA, annas), (BORIS, boriss)):
        visitor = visit(refusals={404})
        kept[customer.name] = set()
        seen = kept[customer.name]
        stored: list[str] = []

        def note(response: object, seen: set[str] = seen, stored: list[str] = stored) -> None:
            headers, url = response.headers, response.url  # type: ignore[attr-defined]  # it is a Response
            control = headers.get("cache-control", "")
            if "no-store" not in control:
                seen.add(url)
                stored.append(control)

        visitor.context.on("response", note)
        visitor.comes_as(customer)
        visitor.goes(vps.path)
        visitor.goes("/vps/999999999", 404)
        assert set(stored) == {"public, max-age=31536000, immutable"}
    assert kept["anna"] == kept["boris"]
    assert all("/static/" in url for url in kept["anna"])

    asked = visit().context.request

    def lists(customer: Customer, tag: str) -> tuple[int, str, str]:
        headers = {"Authorization": f"Bearer {shop.panel.token(customer.user_id)}", "If-None-Match": tag}
        answer = asked.get("/api/vps", headers=headers)
        return answer.status, answer.headers["etag"], answer.text()

    _, hers, _ = lists(ANNA, '"none"')
    status, his, text = lists(BORIS, hers)
    assert (status, his != hers) == (200, True)
    assert strangers(BORIS).search(text) is None
