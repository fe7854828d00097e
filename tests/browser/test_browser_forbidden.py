"""What a browser is refused: other customers' VPS, operators' pages, and what another site would do in its name."""

from __future__ import annotations

import re
from functools import partial

import pytest
from playwright.sync_api import Locator, Page, Route, expect

from runtime.processes.free_ports import free_port
from tests.browser.conftest import Visit
from tests.browser.support.shop import ANNA, Shop, Sold
from tests.browser.support.visitor import looks_again_until

pytestmark = [pytest.mark.browser]


def test_a_customer_finds_no_way_to_another_or_to_operators(
    visit: Visit, shop: Shop, annas: Sold, boriss: Sold
) -> None:
    anna = visit(refusals={404, 405})
    page = anna.comes_as(ANNA)
    anna.goes(boriss.path, 404)
    expect(page.get_by_role("heading", name="Not found")).to_be_visible()
    expect(page.locator("body")).not_to_contain_text(boriss.name)
    stranger = page.locator("main").inner_text()
    anna.goes("/vps/999999999", 404)
    assert page.locator("main").inner_text() == stranger, "another's is told from none by nothing"
    anna.goes(annas.path)
    for path in ("/ops", "/ops/held", f"/ops{annas.path}", "/ops/audit"):
        anna.goes(path)
        expect(page).to_have_url(re.compile("/ops/sign-in"))
        expect(page.locator("body")).not_to_contain_text(annas.name)


TO_DECIDE = (
    "/ops", "/ops/pauses", "/ops/inbox", "/ops/deleted", "/ops/what-if", "/ops/webhooks", "/ops/findings",
)  # fmt: skip
"""Where there is something to do for who may decide."""
TO_READ = (
    "/ops/runs", "/ops/drift", "/ops/coverage", "/ops/money", "/ops/operations", "/ops/what-if/deletes",
    "/ops/inbox/orders", "/ops/inbox/adoptions",
)  # fmt: skip
WISHES = {
    "/ops/pauses/pause": {"target": "all", "reason": "x", "for_s": 3600},
    "/ops/what-if": {"class": "orphan", "mode": "hold"},
    "/ops/inbox/adopt": {
        "cluster": "main", "vmid": 9401, "guest_type": "qemu", "fingerprint": "x", "order_id": "1", "reason": "x",
    },
    "/ops/webhooks/replay": {"dead": "true"},
}  # fmt: skip
"""Forms that their pages do not have for who may only look."""

SEND = """
([action, fields]) => {
    const form = document.createElement("form");
    form.method = "post";
    form.action = action;
    const token = document.querySelector("[name=form_token]").value;
    for (const [name, value] of Object.entries({form_token: token, ...fields})) {
        const field = Object.assign(document.createElement("input"), {type: "hidden", name, value});
        form.append(field);
    }
    document.body.append(form);
    form.submit();
}
"""
"""With the token of this very session."""


def has_any(found: Locator) -> bool:
    return found.count() > 0


def test_who_may_only_look_finds_no_button_and_is_refused(visit: Visit, shop: Shop, annas: Sold) -> None:
    shop.world.pve.add_guest(9401, name="only-looked-at")
    (gone,) = shop.sell(ANNA, "only-looked-at")
    shop.world.site.cancel_order(gone.order_id)
    olga, rita = visit(java_script_enabled=False), visit(refusals={403})
    operator, page = olga.signs_in_as_operator("olga"), rita.signs_in_as_operator("rita")
    for path in (*TO_DECIDE, f"/ops{annas.path}"):
        olga.goes(path)
        forms = operator.locator("main form[method=post]")
        looks_again_until(operator, partial(has_any, forms), f"{path} to have something to decide")
    for path in (*TO_DECIDE, *TO_READ, f"/ops{annas.path}"):
        rita.goes(path)
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        expect(page.locator("main form[method=post]")).to_have_count(0)
    for action, fields in {**WISHES, f"/ops{gone.path}/restore": {"reason": "x"}}.items():
        rita.goes("/ops")
        page.evaluate(SEND, [action, fields])
        expect(page.get_by_text("Your key may only look.")).to_be_visible()
    assert shop.panel.rows("SELECT target FROM pauses WHERE target = 'all'") == []
    assert shop.panel.rows("SELECT 1 FROM vps WHERE id = :id AND deleted_at IS NULL", id=gone.vps_id) == []


@pytest.mark.parametrize("neighbour", [True, False], ids=["another port of this host", "another site"])
def test_forms_of_other_origins_do_nothing(visit: Visit, shop: Shop, annas: Sold, neighbour: bool) -> None:
    """To another port of the same host a browser sends its cookies along, even those that are SameSite=Lax."""
    origin = f"http://127.0.0.1:{free_port()}" if neighbour else "http://evil.example"
    anna = visit(refusals={403})
    page = anna.comes_as(ANNA)
    own_token = page.locator("[name=form_token]").first.input_value()
    olga = anna.context.new_page()
    anna.goes("/ops/sign-in", page=olga)
    olga.get_by_label("Your key").fill(shop.keys["olga"])
    olga.get_by_role("button", name="Sign in").click()
    expect(olga.locator(".who")).to_have_text("olga (operate)")
    operators_token = olga.locator("[name=form_token]").first.input_value()
    forms = {
        f"{annas.path}/power": {"form_token": own_token, "action": "cut", "sure": "yes"},
        "/sign-out": {"form_token": own_token},
        "/sign-in": {"token": shop.panel.token(ANNA.user_id)},
        "/ops/pauses/pause": {"form_token": operators_token, "target": "all", "reason": "x", "for_s": "3600"},
        "/ops/sign-in": {"key": shop.keys["rita"]},
        "/ops/sign-out": {"form_token": operators_token},
    }
    for path, fields in forms.items():
        status = send_from(page, origin, f"{shop.panel.url}{path}", fields)
        # A browser keeps SameSite cookies from another site, so what needs a session is not even refused.
        assert status == 403 or (not neighbour and status == 303), path
    anna.goes("/")
    expect(page.locator(".who")).to_have_text("anna")
    anna.goes("/ops", page=olga)
    expect(olga.locator(".who")).to_have_text("olga (operate)")
    assert shop.panel.rows("SELECT 1 FROM pauses WHERE target = 'all'") == []
    assert shop.panel.rows("SELECT 1 FROM power_actions WHERE vps_id = :id", id=annas.vps_id) == []


def send_from(page: Page, origin: str, to: str, fields: dict[str, str]) -> int:
    """The status with which the panel answers a form on a page of that origin."""
    inputs = "".join(f'<input type="hidden" name="{name}" value="{value}">' for name, value in fields.items())
    body = f'<!doctype html><title>evil</title><form method="post" action="{to}">{inputs}<button>win</button></form>'

    def answer(route: Route) -> None:
        route.fulfill(content_type="text/html", body=body)

    page.route(f"{origin}/**", answer)
    page.goto(f"{origin}/win.html")
    with page.expect_response(lambda response: response.request.method == "POST") as answered:
        page.get_by_role("button", name="win").click()
    page.wait_for_load_state()
    page.unroute(f"{origin}/**")
    return answered.value.status
