"""What operators read: a report as a file, and what another repair policy would do."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Visit
from tests.browser.support.shop import BORIS, Shop
from tests.browser.support.visitor import looks_again_until

pytestmark = [pytest.mark.browser]


def test_what_is_paid_and_missing_is_downloaded(visit: Visit, shop: Shop, tmp_path: Path) -> None:
    (lost,) = shop.sell(BORIS, "boris-missing", create_guest=False)
    olga = visit(accept_downloads=True)
    page = olga.signs_in_as_operator("olga")
    olga.goes("/ops/money")
    expect(page).to_have_url(re.compile("/ops/money/running-unpaid$"))
    olga.goes(f"/ops/money/paid-missing?user={BORIS.user_id}")
    shown = page.locator("main", has_text=lost.name)
    looks_again_until(page, lambda: shown.count() == 1, "the order without a machine to be reported")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download as CSV").click()
    assert download.value.suggested_filename.endswith(".csv")
    file = tmp_path / "missing.csv"
    download.value.save_as(file)
    with file.open(encoding="utf-8-sig", newline="") as opened:
        rows = list(csv.DictReader(opened))
    assert lost.name in {value for row in rows for value in row.values()}


def test_a_what_if_is_asked_and_shown(visit: Visit) -> None:
    """Whoever does not wait for the page to look again by itself looks."""
    olga = visit()
    page = olga.signs_in_as_operator("olga")
    olga.goes("/ops/what-if")
    page.get_by_label("Class").select_option("orphan")
    page.get_by_label("What is done with it").select_option(label="hold for an approval")
    page.get_by_role("button", name="Ask").click()
    expect(page).to_have_url(re.compile(r"/ops/what-if/\d+$"))
    expect(page.locator("p.lead")).to_have_text("orphan: hold for an approval")
    number = page.url.rpartition("/")[2]
    answered = page.get_by_role("heading", name="What would be different")
    looks_again_until(page, lambda: answered.count() == 1, "the answer")
    page.get_by_role("link", name="What if").first.click()
    asked = page.locator("tr", has=page.locator(f"a[href$='/{number}']"))
    expect(asked).to_contain_text("olga")
    expect(asked).to_contain_text("Answered")
