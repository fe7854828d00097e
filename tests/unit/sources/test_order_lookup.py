"""Gone needs a site that is well: 404, another order found, 404 again."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from domain.source_protocols import Found, Gone, OrderFeed, Unclear
from sources.config import FeedKind
from sources.main_site import OrdersFeed, PanelApiFeed, make_feed
from tests.unit.sources.canned import CANARY, KEY, Canned, StillClock, answer, html, main_site, order


def row(number: int, **fields: object) -> httpx.Response:
    return answer({"status": "success", "data": order(number, **fields)})


def row_as_of(moment: str) -> httpx.Response:
    return answer({"status": "success", "data": order(41), "as_of": moment})


NOT_FOUND = answer({"status": "error", "message": "Not found"}, status=404)
Step = httpx.Response | Callable[[httpx.Request], httpx.Response]


def wait_in_vain(request: httpx.Request) -> httpx.Response:
    raise httpx.ReadTimeout("slow", request=request)


CASES: dict[str, tuple[list[Step], type, str]] = {
    "there": ([row(41)], Found, ""),
    "there, cancelled": ([row(41, status="cancelled")], Found, ""),
    "gone": ([NOT_FOUND, row(1), NOT_FOUND], Gone, "404 twice while order 1 was answered"),
    "back at the second look": ([NOT_FOUND, row(1), row(41)], Found, ""),
    "404 for everything": ([NOT_FOUND, NOT_FOUND], Unclear, "order 1, which exists, is not found"),
    "the control is another order": ([NOT_FOUND, row(2)], Unclear, "is not found"),
    "the control fails": ([NOT_FOUND, answer({}, status=500)], Unclear, "answered 500"),
    "the second look fails": ([NOT_FOUND, row(1), answer({}, status=500)], Unclear, "answered 500"),
    "a proxy's 404": ([html(404), row(1), html(404)], Unclear, "answered 404 with something that is not JSON"),
    "a proxy's second 404": ([NOT_FOUND, row(1), html(404)], Unclear, "not JSON"),
    "410": ([answer({}, status=410)], Unclear, "answered 410"),
    "500": ([answer({"message": CANARY}, status=500)], Unclear, "answered 500"),
    "503 for good": ([answer({}, status=503)], Unclear, "answered 503"),
    "HTML": ([html()], Unclear, "not JSON"),
    "401": ([answer({}, status=401)], Unclear, "MAIN_SITE_API_KEY is refused"),
    "timeout": ([wait_in_vain], Unclear, "no answer within 30 s"),
    "another order": ([row(42)], Unclear, "order 41 was asked for and order 42 answered"),
    "unreadable": ([row(41, ram=CANARY)], Unclear, "row cannot be read (ram)"),
    "a copy of just now": ([row_as_of("2026-03-01T11:59:31Z")], Found, ""),
    "an old copy": ([row_as_of("2026-03-01T11:59:30Z")], Unclear, "a copy 31 s old"),
    "an old copy that has no such order": (
        [answer({"message": "Not found", "as_of": "2026-03-01T11:00:00Z"}, status=404)],
        Unclear,
        "a copy 3601 s old",
    ),
    "a moment that cannot be told": ([row_as_of("yesterday"), row_as_of("2026-03-01T13:00:00Z")], Found, ""),
    "no row": ([answer({"status": "success", "data": None})], Unclear, "without"),
}


def feeds(transport: httpx.BaseTransport) -> list[OrderFeed]:
    clock = StillClock().clock()
    return [OrdersFeed(main_site(), clock, transport), PanelApiFeed(main_site(), clock, transport)]


@pytest.mark.parametrize("index", [0, 1], ids=["orders", "panel-api"])
@pytest.mark.parametrize("name", CASES)
def test_a_look_up(name: str, index: int) -> None:
    steps, kind, sentence = CASES[name]
    found = feeds(Canned(*steps))[index].order("41", "1")
    assert type(found) is kind
    assert sentence in (found.why if isinstance(found, Unclear) else found.how if isinstance(found, Gone) else "")
    assert CANARY not in repr(found)
    assert KEY not in repr(found)
    if isinstance(found, Found):
        assert found.value.order_id == "41"


@pytest.mark.parametrize("control", [None, "41"])
def test_nothing_is_gone_without_another_order_to_check_by(control: str | None) -> None:
    for feed in feeds(Canned(NOT_FOUND)):
        assert isinstance(feed.order("41", control), Unclear)


def test_an_id_is_one_path_segment() -> None:
    transport = Canned(NOT_FOUND)
    for feed in feeds(transport):
        feed.order("../users?x=1#", None)
    assert transport.asked == ["/orders/..%2Fusers%3Fx%3D1%23", "/vps/..%2Fusers%3Fx%3D1%23"]


def test_the_configuration_chooses_the_feed() -> None:
    assert make_feed(main_site()).name == "orders"
    panel_api = make_feed(main_site(feed=FeedKind.PANEL_API))
    assert panel_api.name == "panel-api"
    assert not panel_api.names_are_authoritative
