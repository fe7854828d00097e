"""The simulated main site leads its customers to the panel's pages, by links that the panel takes."""

from collections.abc import AsyncIterator
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest

from api.pages.signed_link import read_link
from lab.simulators.main_site.app import create_app
from lab.simulators.main_site.sign_in import PanelPages
from lab.simulators.main_site.site import MainSite
from tests.support.keys import random_key

PANEL = "http://127.0.0.1:5050"


@pytest.fixture
def secret() -> str:
    return random_key()


@pytest.fixture
async def browser(secret: str) -> AsyncIterator[httpx.AsyncClient]:
    site = MainSite()
    site.add_user(username="anna", email="anna@example.test", panel_user_id=5)
    site.add_user(username="<b>o/is", email="boris@example.test", panel_user_id=6)
    site.add_user(username="clara", email="clara@example.test")
    app = create_app(site, api_key=random_key(), control_key=random_key(), panel_pages=PanelPages(PANEL, secret))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop.test") as made:
        yield made


async def test_a_click_leads_to_the_panel_signed_in(browser: httpx.AsyncClient, secret: str) -> None:
    page = await browser.get("/")
    assert "Open the panel as anna" in page.text
    answer = await browser.get("/sign-in/anna")
    assert answer.status_code == 303
    where = urlsplit(answer.headers["Location"])
    assert f"{where.scheme}://{where.netloc}{where.path}" == f"{PANEL}/sign-in"
    link = read_link(parse_qsl(where.query, keep_blank_values=True), secret)
    assert (link.user_id, link.username, link.email) == (5, "anna", "anna@example.test"), (
        "the panel's id, not the site's"
    )


async def test_who_the_panel_does_not_know_is_led_nowhere(browser: httpx.AsyncClient) -> None:
    page = await browser.get("/")
    assert "clara" not in page.text, "she has no id of the panel"
    assert "<b>" not in page.text, "a name is text"
    for name in ("clara", "nobody", "<i>x"):
        answer = await browser.get(f"/sign-in/{name}")
        assert answer.status_code == 404
        assert f"knows no customer {name.replace('<', '&lt;').replace('>', '&gt;')}" in answer.text


async def test_without_the_secret_there_are_no_such_pages() -> None:
    app = create_app(MainSite(), api_key=random_key(), control_key=random_key())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop.test") as made:
        assert (await made.get("/")).status_code == 404
