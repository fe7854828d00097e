"""The ``orders`` feed: what it shows, and all the ways in which it must refuse to prove an absence."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from domain.guests import GuestType
from domain.orders import Order, OrderState
from sources.clock import EARLIEST, OLDEST_S
from tests.unit.sources.canned import (
    AS_OF,
    CANARY,
    DATE,
    KEY,
    NO_DATES,
    Canned,
    answer,
    html,
    main_site,
    order,
    page,
)
from tests.unit.sources.read_orders import feed_of, ids, read


def test_a_row_becomes_an_order_field_by_field() -> None:
    row = order(
        41,
        panelVpsId=5,
        proxmoxId=100,
        cluster="main",
        node="pve1",
        guestType="lxc",
        name=" web ",
        status="stopped",
        cpu=2,
        ram=4096,
        disk=50,
        os="Ubuntu 22.04",
        ipAddress="192.0.2.7",
        ip6Address="2001:DB8::7",
        hypervisor="Proxmox",
        createdAt="2026-01-01T00:00:00Z",
        updatedAt="2026-01-02T03:00:00+03:00",
    )
    pages, sweep = read(Canned(page([row])))
    assert sweep.complete
    assert sweep.count == 1
    (found,) = pages[0].items
    assert found == Order(
        order_id="41",
        state=OrderState.ACTIVE,
        status="stopped",
        owner="7",
        panel_vps_id=5,
        name="web",
        cpu=2,
        ram_mb=4096,
        disk_gb=50,
        os="Ubuntu 22.04",
        hypervisor="proxmox",
        ip_address="192.0.2.7",
        ip6_address="2001:db8::7",
        cluster="main",
        node="pve1",
        vmid=100,
        guest_type=GuestType.LXC,
        created_at=DATE.replace(month=1, day=1, hour=0),
        updated_at=DATE.replace(month=1, day=2, hour=0),
        panel_vps_id_given=True,
    )


def test_pages_are_followed_by_cursor_and_timed_from_the_first_request() -> None:
    transport = Canned(page([order(1), order(2)], next_cursor="c/2", total=3), page([order(10)], total=3))
    pages, sweep = read(transport, page_limit=2)
    assert ids(pages) == ["1", "2", "10"]
    assert sweep.complete_scopes == {"all"}
    assert transport.asked == ["/orders?limit=2", "/orders?limit=2&cursor=c%2F2"]
    assert [shown.scope for shown in pages] == ["all", "all"]
    assert pages[0].began_s == 0.0
    assert all(request.headers["X-API-Key"] == KEY for request in transport.requests)


def test_nothing_is_asked_before_the_first_page_is_taken() -> None:
    transport = Canned(page([]))
    sweep = feed_of(transport).orders()
    assert transport.requests == []
    assert not sweep.complete


def test_a_sweep_that_is_not_read_to_its_end_completes_nothing() -> None:
    sweep = feed_of(Canned(page([order(1)], next_cursor="c", total=2), page([order(2)], total=2))).orders()
    next(sweep.pages)
    assert sweep.complete_scopes == set()


def test_an_empty_list_is_complete_with_count_zero() -> None:
    pages, sweep = read(Canned(page([])))
    assert (len(pages), sweep.complete, sweep.count) == (1, True, 0)


FIRST = page([order(1), order(2)], next_cursor="c2", total=4)

# Each: the answers, the ids that are still shown, and what the sentence must say.
FAULTS: dict[str, tuple[list[httpx.Response], list[str], str]] = {
    "total changes under one as_of": (
        [FIRST, page([order(3), order(4)], total=5)],
        ["1", "2", "3", "4"],
        "page 2 of orders: says total 5 where page 1 said 4",
    ),
    "as_of changes under one cursor chain": (
        [FIRST, page([order(3), order(4)], total=4, as_of="2026-03-01T11:59:59Z")],
        ["1", "2", "3", "4"],
        "page 2 of orders: has another as_of than page 1",
    ),
    "an id repeats": (
        [FIRST, page([order(2), order(3)], total=4)],
        ["1", "2"],
        "page 2 of orders: id 2 came after id 2 (repeated or out of order)",
    ),
    "a page repeats": (
        [FIRST, page([order(1), order(2)], total=4)],
        ["1", "2"],
        "page 2 of orders: id 1 came after id 2 (repeated or out of order)",
    ),
    "ids out of order within a page": (
        [page([order(1), order(3), order(2)])],
        ["1", "3"],
        "page 1 of orders: id 2 came after id 3",
    ),
    "empty page with a cursor": (
        [FIRST, page([], next_cursor="c3", total=4)],
        ["1", "2"],
        "page 2 of orders: is empty but has a next_cursor",
    ),
    "fewer rows than total": (
        [FIRST, page([order(3)], total=4)],
        ["1", "2", "3"],
        "orders: 3 rows arrived on 2 page(s) where total says 4",
    ),
    "more rows than total": (
        [page([order(1), order(2)], total=1)],
        ["1", "2"],
        "orders: 2 rows arrived on 1 page(s) where total says 1",
    ),
    "a cursor repeats": (
        [FIRST, page([order(3)], next_cursor="c2", total=4)],
        ["1", "2", "3"],
        "page 2 of orders: repeats a next_cursor",
    ),
    "no total": (
        [answer({"status": "success", "data": [order(1)], "next_cursor": None, "as_of": AS_OF})],
        ["1"],
        "page 1 of orders: carries no total",
    ),
    "a total that is no number": ([page([order(1)], total="1")], [], "page 1 of orders: carries a total"),
    "a total beyond counting": ([page([order(1)], total=10**4000)], [], "page 1 of orders: carries a total"),
    "a total that is true": ([page([order(1)], total=True)], [], "page 1 of orders: carries a total"),
    "500": ([FIRST, answer({"message": CANARY}, status=500)], ["1", "2"], "page 2 of orders: answered 500"),
    "404": ([answer({}, status=404)], [], "page 1 of orders: answered 404"),
    "a redirect": (
        [httpx.Response(302, headers={"Location": "https://elsewhere.test/"})],
        [],
        "page 1 of orders: answered 302",
    ),
    "204": ([httpx.Response(204)], [], "page 1 of orders: answered 204"),
    "HTML": (
        [FIRST, html()],
        ["1", "2"],
        "page 2 of orders: answered 200 with something that is not JSON (text/html)",
    ),
    "JSON told as text": (
        [httpx.Response(200, text='{"status":"success","data":[]}')],
        [],
        "not JSON (text/plain)",
    ),
    "half a document": (
        [httpx.Response(200, content=b'{"data":[', headers={"Content-Type": "application/json"})],
        [],
        "page 1 of orders: answered 200 with something that is not JSON (application/json)",
    ),
    "not a number": (
        [httpx.Response(200, content=b'{"data":[NaN]}', headers={"Content-Type": "application/json"})],
        [],
        "not JSON",
    ),
    "nested without end": (
        [httpx.Response(200, content=b"[" * 100_000, headers={"Content-Type": "application/json"})],
        [],
        "not JSON",
    ),
    "a bare list": ([answer([order(1)])], [], "page 1 of orders: is not an object"),
    "data that is no list": ([answer({"data": {"1": order(1)}})], [], "carries no list of data"),
    "an error told as 200": ([page([], status="error")], [], "page 1 of orders: does not say success"),
    "a cursor that is no text": ([page([order(1)], next_cursor=7)], [], "next_cursor that is not a text"),
    "the key is refused": ([answer({}, status=401)], [], "page 1 of orders: MAIN_SITE_API_KEY is refused"),
    "no as_of": ([page([order(1)], as_of=None)], ["1"], "nothing of it counts as fresh"),
    "no Date": ([page([order(1)], date=None)], ["1"], "nothing of it counts as fresh"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_whatever_does_not_agree_proves_no_absence(name: str) -> None:
    answers, shown, sentence = FAULTS[name]
    pages, sweep = read(Canned(*answers))
    assert ids(pages) == shown
    assert sweep.count == len(shown)
    assert sweep.problem is not None
    assert sentence in sweep.problem
    assert sweep.complete_scopes == set()
    assert not sweep.complete


def test_a_row_that_cannot_be_read_is_skipped_told_without_its_values_and_spoils_completeness() -> None:
    rows = [order(1), order(2, cpu="two " + CANARY, ram=4), order(3)]
    pages, sweep = read(Canned(page(rows)))
    assert ids(pages) == ["1", "3"]
    assert sweep.problem == "orders: 1 row(s) could not be read (page 1, row 2: cpu, ram)"
    assert sweep.refused == 1
    assert not sweep.complete


def test_too_many_pages_end_the_read() -> None:
    def endless(request: httpx.Request) -> httpx.Response:
        number = int(request.url.params.get("cursor", "0")) + 1
        return page([order(number)], next_cursor=str(number), total=99)

    pages, sweep = read(Canned(endless), max_pages=3)
    assert len(pages) == 3
    assert sweep.problem == "page 3 of orders: is not the last, and no more than 3 pages are read"


def test_an_oversize_answer_ends_the_read() -> None:
    _, sweep = read(Canned(page([order(1, name="x" * 200)] * 50)), max_body_bytes=1_000)
    assert sweep.problem == "page 1 of orders: the answer is larger than 1000 bytes"


# Date counts whole seconds: up to one more second may have passed, and is counted as age.
@pytest.mark.parametrize(
    ("as_of", "age"),
    [
        pytest.param(DATE, 1.0, id="of the same second"),
        pytest.param(DATE + timedelta(seconds=1), 0.0, id="within the Date header's resolution"),
        pytest.param(DATE + timedelta(milliseconds=1_001), None, id="in the future"),
        pytest.param(DATE - timedelta(hours=2), 7_201.0, id="two hours old"),
        pytest.param(datetime(1, 1, 1, tzinfo=UTC), (DATE - EARLIEST).total_seconds() + 1, id="of year 1"),
    ],
)
def test_the_age_of_a_page_is_told_on_the_sources_own_clock(as_of: object, age: float | None) -> None:
    assert hasattr(as_of, "isoformat")
    pages, sweep = read(Canned(page([order(1)], as_of=as_of.isoformat())))
    assert pages[0].staleness_s == age
    assert sweep.complete == (age is not None)


@pytest.mark.parametrize("date", NO_DATES)
def test_a_date_header_that_names_no_moment_is_none(date: str) -> None:
    undated = page([order(1)], date=None)
    undated.headers["Date"] = date
    pages, sweep = read(Canned(undated))
    assert pages[0].staleness_s is None
    assert sweep.problem is not None


def test_no_age_is_beyond_what_time_can_be_reckoned_from() -> None:
    (shown,), _ = read(Canned(page([order(1)], date=datetime(9999, 12, 31, tzinfo=UTC))))
    assert shown.staleness_s == OLDEST_S
    assert DATE - timedelta(seconds=OLDEST_S) > datetime.min.replace(tzinfo=UTC)


@pytest.mark.parametrize("as_of", ["yesterday", "2026-03-01T11:59:58", 1772366398, ""])
def test_an_as_of_that_names_no_moment_is_not_fresh(as_of: object) -> None:
    pages, sweep = read(Canned(page([order(1)], as_of=as_of)))
    assert pages[0].staleness_s is None
    assert not sweep.complete


@pytest.mark.parametrize(
    ("given", "ordered"),
    [
        ([9, 10, 11], True),
        (["9", "10", "11"], True),
        (["10", "11", "9"], True),
        (["a-1", "a-10", "a-2"], True),
        (["10", "9", "11"], False),
        (["b", "a"], False),
        ([9, 10, 9], False),
    ],
)
def test_ids_ascend_as_numbers_or_as_texts_from_first_to_last(given: list[object], ordered: bool) -> None:
    _, sweep = read(Canned(page([order(0, id=identity) for identity in given])))
    assert sweep.complete == ordered


def test_a_delta_is_asked_for_by_time_and_proves_no_absence() -> None:
    transport = Canned(page([order(1)]))
    sweep = feed_of(transport).orders(updated_since="2026-03-01T11:00:00Z", suspects=("7",))
    assert ids(list(sweep.pages)) == ["1"]
    assert transport.asked == ["/orders?limit=1000&updated_since=2026-03-01T11%3A00%3A00Z"]
    assert sweep.problem is None
    assert sweep.complete_scopes == set()
    assert not sweep.complete


def test_users_are_read_by_the_same_rules() -> None:
    rows = [
        {"id": 1, "username": "ann", "email": "a@x.test", "emailVerified": True, "panelUserId": 5},
        {"id": 2, "username": "bob", "rootPassword": CANARY},
    ]
    sweep = feed_of(Canned(page(rows))).users()
    users = [user for shown in sweep.pages for user in shown.items]
    assert sweep.complete
    assert [(user.main_site_user_id, user.username, user.panel_user_id) for user in users] == [
        ("1", "ann", 5),
        ("2", "bob", None),
    ]
    assert [(user.email, user.email_verified) for user in users] == [("a@x.test", True), (None, False)]
    cut = feed_of(Canned(page(rows, total=3))).users()
    assert list(cut.pages)
    assert cut.problem == "users: 2 rows arrived on 1 page(s) where total says 3"


def test_a_root_password_and_the_key_never_leave_the_adapter(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    rows = [order(1, name="ok"), order(2, status={"nested": CANARY}), CANARY, [CANARY]]
    feed = feed_of(Canned(page(rows, next_cursor="c", total=4), html()))
    sweep = feed.orders()
    pages = list(sweep.pages)
    told = repr((pages, sweep, feed, vars(feed), main_site())) + str(sweep.problem) + caplog.text
    assert CANARY not in told
    assert KEY not in told
    assert ids(pages) == ["1"]
