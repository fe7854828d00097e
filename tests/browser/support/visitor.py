"""A person at a browser. What the browser complains of while they look around fails the test at its end."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from typing import Any

from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, WebError, expect

from tests.browser.support.shop import Customer, Shop
from tests.support.waiting import wait_until

PATIENCE_MS = 90_000
"""How long an event may take to come: longer than the minute after which a page renews itself in any case."""

DESKTOP = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}

REFUSED = re.compile(r"Failed to load resource: the server responded with a status of (\d+)")

expect.set_options(timeout=PATIENCE_MS)


def program() -> str:
    """Where Chromium is. Playwright's own browsers are not needed."""
    found = shutil.which("chromium")
    assert found is not None, "chromium is missing. As root: apt install chromium"
    return found


class Visitor:
    """A browser of its own, with its own cookies, on the panel's pages. ``page``: its first tab.

    ``refusals``: the status codes with which the panel may refuse this visitor. A browser reports each as an error.
    """

    def __init__(self, browser: Browser, shop: Shop, *, refusals: set[int] | None = None, **options: Any) -> None:
        self.shop = shop
        self.refusals = refusals or set()
        self.complaints: list[str] = []
        settings = {"base_url": shop.panel.url, "locale": "en-GB", "viewport": DESKTOP, **options}
        self.context = browser.new_context(**settings)
        self.context.set_default_timeout(PATIENCE_MS)
        self.context.on("console", self._hear)
        self.context.on("weberror", self._fail)
        self.page = self.context.new_page()

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type not in {"error", "warning"}:
            return
        refused = REFUSED.match(message.text)
        if refused is None or int(refused[1]) not in self.refusals:
            self.complaints.append(f"{message.type}: {message.text} ({message.location['url']})")

    def _fail(self, error: WebError) -> None:
        self.complaints.append(f"a script failed: {error.error}")

    def goes(self, path: str, status: int = 200, page: Page | None = None) -> Page:
        """Opens a page in a tab, and gets it with that status."""
        tab = page or self.page
        answer = tab.goto(path)
        assert answer is not None
        assert answer.status == status, f"{path}: {answer.status}"
        return tab

    def comes_as(self, customer: Customer) -> Page:
        """Signs in by the main site's link."""
        self.goes(self.shop.link(customer))
        expect(self.page).to_have_url(f"{self.shop.panel.url}/")
        expect(self.page.locator(".who")).to_have_text(customer.name)
        return self.page

    def signs_in_as_operator(self, name: str) -> Page:
        """Signs in to ``/ops`` with the operator's key."""
        self.goes("/ops/sign-in")
        self.page.get_by_label("Your key").or_(self.page.get_by_label("Ваш ключ")).fill(self.shop.keys[name])
        self.page.locator("main button[type=submit]").click()
        expect(self.page).to_have_url(f"{self.shop.panel.url}/ops")
        return self.page

    def close(self) -> None:
        self.context.close()


def badge(page: Page, name: str) -> Locator:
    """The state that a customer's list shows of the VPS of that name."""
    return page.locator("li.vps", has=page.get_by_role("link", name=name, exact=True)).locator(".badge")


def mark(page: Page) -> None:
    """Mark the document that is open, so that one that was loaded anew can be told from it."""
    page.evaluate("document.documentElement.dataset.seen = 'yes'")


def is_marked(page: Page) -> bool:
    """Whether it is still the same document."""
    return bool(page.evaluate("document.documentElement.dataset.seen === 'yes'"))


def looks_again_until(page: Page, seen: Callable[[], bool], what: str) -> None:
    """Reload the page until it shows that, as who has no JavaScript does."""

    def look() -> bool:
        return seen() or (page.reload() is not None and seen())

    wait_until(look, what)
