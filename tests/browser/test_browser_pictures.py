"""The pictures of the pages: `make screenshots` writes them to docs/images/. A test run throws them away.

Names and addresses are those of documents (RFC 5737, RFC 3849), and always the same. Only the ages differ.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Visit
from tests.browser.support.shop import FRIDA, HANNA, HeldSet, Shop, Sold
from tests.browser.support.visitor import looks_again_until

pytestmark = [pytest.mark.browser]

WIDE = {"width": 1200, "height": 800}
NARROW = {"width": 390, "height": 844}
LARGEST_BYTES = 200_000


@dataclass(frozen=True, slots=True)
class Album:
    """Where the pictures go."""

    folder: Path

    def keep(self, page: Page, name: str, height: int | None = None) -> None:
        """What the window shows, or the page down to that height."""
        page.evaluate("document.fonts.ready")
        if height is not None:
            page.set_viewport_size({"width": WIDE["width"], "height": height})
        file = self.folder / f"{name}.png"
        page.screenshot(path=file, animations="disabled", caret="hide")
        assert file.stat().st_size < LARGEST_BYTES, f"{name} is too large for a document"


@pytest.fixture
def album(tmp_path: Path) -> Album:
    return Album(Path(os.environ.get("SCREENSHOTS_TO") or tmp_path))


@pytest.fixture(scope="module")
def fleet(shop: Shop) -> dict[str, Sold]:
    """Frida's VPS, one of each kind, by name."""
    large: dict[str, Any] = {"cpu": 4, "ram_mb": 8192, "disk_gb": 160, "os": "Debian 13"}
    (mail,) = shop.sell(FRIDA, "mail", status="stopped", ip_address="192.0.2.25", os="Debian 12")
    (staging,) = shop.sell(FRIDA, "staging", status="suspended", ip_address="192.0.2.40")
    (web,) = shop.sell(FRIDA, "web", ip_address="192.0.2.10", ip6_address="2001:db8:7::10", **large)
    (fresh,) = shop.sell(FRIDA, "database", status="creating", cpu=8, ram_mb=16384, disk_gb=320, os="Debian 13")
    return {vps.name: vps for vps in (mail, staging, web, fresh)}


def test_pictures_of_the_customers_pages(visit: Visit, shop: Shop, fleet: dict[str, Sold], album: Album) -> None:
    web = fleet["web"]
    frida = visit(viewport=WIDE)
    page = frida.comes_as(FRIDA)
    expect(page.locator("li.vps")).to_have_count(len(fleet))
    album.keep(page, "customer-list")
    frida.goes(web.path)
    page.get_by_text("If it does not react").click()
    expect(page.get_by_role("button", name="Reset")).to_be_visible()
    album.keep(page, "customer-vps", height=900)
    dark = visit(viewport=WIDE, color_scheme="dark")
    page = dark.comes_as(FRIDA)
    dark.goes(web.path)
    album.keep(page, "customer-vps-dark", height=700)

    phone = visit(viewport=NARROW, color_scheme="dark", device_scale_factor=1.5)
    page = phone.comes_as(FRIDA)
    album.keep(page, "customer-phone")

    russian = visit(viewport=WIDE, locale="ru-RU")
    page = russian.comes_as(FRIDA)
    album.keep(page, "customer-list.ru")


def test_a_picture_of_the_graphs(visit: Visit, shop: Shop, album: Album) -> None:
    (vps,) = shop.sell(HANNA, "measured")
    shop.has_run_for(vps, days=2)
    hanna = visit(viewport={"width": WIDE["width"], "height": 720})
    page = hanna.comes_as(HANNA)
    hanna.goes(f"{vps.path}?timeframe=day")
    expect(page.locator("#statistics .uplot")).to_have_count(4)
    page.locator("#statistics").evaluate("one => one.scrollIntoView()")
    album.keep(page, "customer-graphs")


def test_pictures_of_the_operators_pages(
    visit: Visit, shop: Shop, fleet: dict[str, Sold], to_look_at: HeldSet, album: Album
) -> None:
    web = fleet["web"]
    shop.world.pve.add_guest(9200, name="build-runner")
    olga = visit(viewport=WIDE)
    page = olga.signs_in_as_operator("olga")
    found = page.get_by_role("link", name="unmanaged-guest")
    looks_again_until(page, lambda: found.count() > 0, "the guest that nobody bought to be found")
    album.keep(page, "operators-overview", height=1000)
    olga.goes(f"{to_look_at.path}/approve")
    album.keep(page, "operators-approve", height=620)
    shop.sell(HANNA, "crm", create_guest=False)
    shop.world.pve.add_guest(9210, name="crm")
    olga.goes("/ops/inbox")
    adopt = page.get_by_role("button", name=re.compile("Adopt into order"))
    looks_again_until(page, lambda: adopt.count() > 0, "the guest of the order to be offered")
    album.keep(page, "operators-inbox", height=1000)

    olga.goes(f"/ops{web.path}")
    page.get_by_text("Let runs leave this VPS alone").click()
    page.get_by_label("Reason").fill("moving its disk")
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_role("status")).to_be_visible()
    shop.world.pve.set_status(shop.vmid(web), "stopped")
    differing = page.locator("td.differs")
    looks_again_until(page, lambda: differing.count() > 0, "the page to show the difference")
    album.keep(page, "operators-vps", height=1000)
    page.get_by_role("button", name=re.compile("Resume")).click()
    expect(page.get_by_role("status")).to_contain_text("is resumed")
