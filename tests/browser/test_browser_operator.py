"""What operators do: approve a held delete, bring a deleted record back, and look at one VPS from all sides."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Visit
from tests.browser.support.shop import ANNA, DORA, HeldSet, Shop, Sold
from tests.browser.support.visitor import looks_again_until

pytestmark = [pytest.mark.browser]


def approves(page: Page, held: HeldSet) -> None:
    """As an operator does: from the overview to the list, to the set, to the question, and yes."""
    page.goto("/ops")
    page.get_by_role("link", name="changes held").click()
    page.get_by_role("link", name=held.hash[:12]).first.click()
    page.get_by_role("link", name="Approve…").click()
    expect(page.get_by_role("heading", name=f"Approve {len(held.gone)} changes?")).to_be_visible()
    for vps in held.gone:
        expect(page.locator("ul.plain")).to_contain_text(vps.name)
    page.get_by_role("button", name="Approve", exact=True).click()
    expect(page.get_by_role("status")).to_contain_text(f"{len(held.gone)} approved")


def test_held_deletes_are_approved_and_one_is_brought_back(visit: Visit, shop: Shop, to_decide: HeldSet) -> None:
    """The operator's browser runs no scripts. The customer's list shows both changes by itself."""
    dora = visit(refusals={404})
    list_ = dora.comes_as(DORA)
    first, second = to_decide.gone
    for vps in to_decide.gone:
        expect(list_.get_by_role("link", name=vps.name)).to_be_visible()

    olga = visit(java_script_enabled=False)
    page = olga.signs_in_as_operator("olga")
    approves(page, to_decide)
    for vps in to_decide.gone:
        expect(list_.get_by_role("link", name=vps.name)).to_have_count(0)

    olga.goes("/ops/vps")
    page.get_by_role("searchbox", name="What to find").fill(first.name)
    page.get_by_role("button", name="Find").click()
    expect(page.locator(".head .badge")).to_have_text("Deleted")
    page.get_by_label("Reason").first.fill("paid after all")
    page.get_by_role("button", name="Restore").click()
    expect(page.get_by_role("status")).to_contain_text(f"VPS {first.vps_id}")
    expect(page.get_by_role("button", name="Restore")).to_have_count(0)
    expect(list_.get_by_role("link", name=first.name)).to_be_visible()
    dora.goes(first.path)
    expect(list_.get_by_text("The VPS was brought back.")).to_be_visible()
    dora.goes(second.path, 404)
    olga.goes("/ops/audit")
    decided = page.locator("table").first
    expect(decided).to_contain_text("vps restore")
    expect(decided).to_contain_text("approve")


def test_order_panel_and_proxmox_stand_side_by_side(visit: Visit, shop: Shop) -> None:
    """Proxmox shows another power state than the panel, which an operator let alone."""
    (vps,) = shop.sell(ANNA, "compared")
    olga = visit(java_script_enabled=False)
    page = olga.signs_in_as_operator("olga")
    olga.goes(f"/ops{vps.path}")
    page.get_by_text("Let runs leave this VPS alone").click()
    page.get_by_label("Reason").fill("moving it by hand")
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_role("status")).to_be_visible()
    shop.world.pve.set_status(shop.vmid(vps), "stopped")

    differing = page.locator("td.differs", has_text="stopped")
    looks_again_until(page, lambda: differing.count() > 0, "the page to show that the machine is stopped")
    expect(page.get_by_role("row", name="Power").get_by_role("cell").nth(1)).to_have_text("running")
    expect(page.locator("main")).to_contain_text("moving it by hand")
    page.get_by_role("button", name=f"Resume vps:{vps.vps_id}").click()
    expect(page.get_by_role("status")).to_contain_text("is resumed")
    looks_again_until(
        page,
        lambda: page.locator(".head .badge").inner_text() == "Stopped" and differing.count() == 0,
        "the record to follow its machine",
    )


def test_a_finding_is_answered(visit: Visit, shop: Shop) -> None:
    guest = shop.world.pve.add_guest(9001, name="nobodys")
    olga = visit()
    page = olga.signs_in_as_operator("olga")
    olga.goes("/ops/findings?class=unmanaged-guest")
    finding = page.locator("article", has_text=str(guest.vmid)).first
    looks_again_until(page, lambda: finding.count() > 0, "the guest that nobody bought to be found")
    finding.get_by_text("Answer").click()
    finding.get_by_role("button", name="Snooze").click()
    expect(page.get_by_role("status")).to_be_visible()
    expect(page.locator("article", has_text=str(guest.vmid))).to_have_count(0)


def test_everything_a_menu_leads_to_opens(visit: Visit, annas: Sold) -> None:
    page = visit().signs_in_as_operator("rita")
    menu = page.get_by_role("navigation", name="Sections").get_by_role("link")
    for index in range(menu.count()):
        name = menu.nth(index).inner_text()
        menu.nth(index).click()
        expect(page.locator("nav.sections [aria-current=page]")).to_have_text(name)
        expect(page.get_by_role("heading", level=1)).to_be_visible()
