"""What operators decide on the pages: a large delete that takes two of them, whose a guest is, and what comes back."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Visit
from tests.browser.support.shop import GLEB, HANNA, HeldSet, Shop, Sold
from tests.browser.support.visitor import Visitor, badge, looks_again_until

pytestmark = [pytest.mark.browser]


def approves(operator: Visitor, held: HeldSet, status: int = 200) -> Page:
    """By the page that asks once more."""
    page = operator.goes(f"{held.path}/approve")
    expect(page.get_by_text("Two operators must approve it")).to_be_visible()
    with page.expect_response(lambda answer: answer.request.method == "POST") as sent:
        page.get_by_role("button", name="Approve", exact=True).click()
    assert sent.value.status == (status if status != 200 else 303)
    return page


def test_a_large_delete_takes_two_operators_and_one_vps_comes_back(visit: Visit, shop: Shop, for_two: HeldSet) -> None:
    gleb, olga, oleg = visit(), visit(refusals={409}), visit(java_script_enabled=False)
    list_ = gleb.comes_as(GLEB)
    page, others = olga.signs_in_as_operator("olga"), oleg.signs_in_as_operator("oleg")
    olga.goes(for_two.path)
    expect(page.get_by_text("needs two operators")).to_be_visible()
    approves(olga, for_two)
    expect(page.get_by_role("status")).to_contain_text("first of two approvals")
    expect(page.get_by_text("needs a second operator", exact=True)).to_be_visible()
    expect(page.get_by_role("link", name="Approve…")).to_have_count(0)
    approves(olga, for_two, 409)
    expect(page.locator("main")).to_contain_text("a second operator must approve it")
    shop.await_runs()
    gleb.goes("/")
    for vps in for_two.gone:
        expect(list_.get_by_role("link", name=vps.name)).to_be_visible()

    oleg.goes(for_two.path)
    expect(others.locator("main")).to_contain_text("Approved by api:olga")
    approves(oleg, for_two)
    expect(others.get_by_text("needs a second operator", exact=True)).to_have_count(0)
    for vps in for_two.gone:
        expect(list_.get_by_role("link", name=vps.name)).to_have_count(0)

    back = for_two.gone[0]
    oleg.goes(f"/ops/deleted?user={GLEB.user_id}")
    one = others.locator("article", has_text=back.name)
    looks_again_until(others, lambda: others.locator("article").count() == len(for_two.gone), "all three to be listed")
    expect(one).to_contain_text("deleted it:")
    one.get_by_label("Reason").fill("paid after all")
    one.get_by_role("button", name="Restore").click()
    expect(others.get_by_role("status")).to_contain_text(f"VPS {back.vps_id}")
    expect(list_.get_by_role("link", name=back.name)).to_be_visible()
    oleg.goes(f"/ops/deleted?user={GLEB.user_id}")
    expect(one).to_have_count(0)


@pytest.fixture
def strayed(shop: Shop) -> Sold:
    """An order of Hanna whose guest the main site lost, and the guest."""
    (sold,) = shop.sell(HANNA, "strayed", create_guest=False)
    shop.world.pve.add_guest(9301, name=sold.name)
    return sold


def test_a_guest_is_adopted_and_its_customer_sees_it(visit: Visit, shop: Shop, strayed: Sold) -> None:
    hanna, olga = visit(), visit(java_script_enabled=False)
    list_, page = hanna.comes_as(HANNA), olga.signs_in_as_operator("olga")
    olga.goes("/ops/inbox")
    guest = page.locator("article", has=page.get_by_role("heading", name="9301"))
    adopt = page.get_by_role("button", name=f"Adopt into order {strayed.order_id}", exact=True)
    offered = guest.locator("section", has=adopt)
    looks_again_until(page, lambda: offered.count() == 1, "the guest to be offered")
    expect(guest.get_by_text("For", exact=True).first).to_be_visible()
    offered.get_by_label("Reason").fill("Hanna named its address")
    offered.get_by_role("button").click()
    expect(page.get_by_role("status")).to_be_visible()
    olga.goes("/ops/inbox/adoptions?ended=true")
    ended = page.locator("article", has_text="Hanna named its address")
    looks_again_until(page, lambda: ended.get_by_text("Linked").count() == 1, "a run to link the guest")
    expect(badge(list_, strayed.name)).to_have_text("Running")
    hanna.goes(strayed.path)
    expect(list_.locator("#power").get_by_role("button", name="Reboot")).to_be_visible()
    olga.goes("/ops/inbox")
    expect(guest).to_have_count(0)
    (linked,) = shop.panel.rows("SELECT vmid, link_state FROM vps WHERE id = :id", id=strayed.vps_id)
    assert linked == {"vmid": 9301, "link_state": "verified"}
