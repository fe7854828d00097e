"""The main site's feeds: their rows and paging, and every fault seen over HTTP."""

import time
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import pytest

from lab.simulators.main_site import ROOT_PASSWORD_CANARY, FeedFaultKind, MainSiteServer
from tests.support.waiting import PATIENCE_S

ALL_IDS = list(range(1001, 1011))


def sweep(feed: httpx.Client, path: str = "/orders", limit: int = 4) -> list[dict[str, Any]]:
    """Every page of a list, as a client that trusts it reads them."""
    pages: list[dict[str, Any]] = []
    cursor = None
    while cursor is not None or not pages:
        pages.append(get(feed, path, limit=limit, cursor=cursor).json())
        cursor = pages[-1]["next_cursor"]
    return pages


def get(feed: httpx.Client, path: str, **params: object) -> httpx.Response:
    known = {name: str(value) for name, value in params.items() if value is not None}
    return feed.get(path, params=known)


def ids(pages: list[dict[str, Any]]) -> list[int]:
    return [row["id"] for page in pages for row in page["data"]]


def second_page(feed: httpx.Client) -> httpx.Response:
    first = get(feed, "/orders", limit=4).json()
    return get(feed, "/orders", limit=4, cursor=first["next_cursor"])


def test_orders_come_in_pages_under_one_as_of_and_total(feed: httpx.Client) -> None:
    pages = sweep(feed)
    assert ids(pages) == ALL_IDS
    assert [len(page["data"]) for page in pages] == [4, 4, 2]
    assert {page["total"] for page in pages} == {10}
    assert len({page["as_of"] for page in pages}) == 1


def test_an_order_row_has_every_published_field_and_the_password_that_must_not_travel(
    feed: httpx.Client, site: MainSiteServer
) -> None:
    order = site.get_order(1001)
    row = get(feed, "/orders/1001").json()["data"]
    assert row.pop("rootPassword").startswith(ROOT_PASSWORD_CANARY)
    assert (row.pop("createdAt"), row.pop("updatedAt")) == (iso(order.created_at), iso(order.updated_at))
    assert row == {
        "id": 1001,
        "userId": 1,
        "panelVpsId": None,
        "proxmoxId": 100,
        "cluster": "main",
        "node": None,
        "guestType": "qemu",
        "name": "vps-1001",
        "status": "running",
        "cpu": 2,
        "ram": 4096,
        "disk": 50,
        "os": "Ubuntu 22.04",
        "ipAddress": None,
        "ip6Address": None,
        "hypervisor": "proxmox",
    }


def iso(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def test_a_cursor_pins_the_rows_of_its_first_page(feed: httpx.Client, site: MainSiteServer) -> None:
    first = get(feed, "/orders", limit=4).json()
    site.set_status(1005, "stopped")
    second = get(feed, "/orders", limit=4, cursor=first["next_cursor"]).json()
    assert second["as_of"] == first["as_of"]
    assert second["data"][0]["status"] == "running"
    assert get(feed, "/orders/1005").json()["data"]["status"] == "stopped"
    site.set_status(1005, "running")


def test_updated_since_lists_only_what_changed(feed: httpx.Client, site: MainSiteServer) -> None:
    changed = site.set_status(1003, "running")
    assert ids([get(feed, "/orders", updated_since=changed.updated_at.isoformat()).json()]) == [1003]
    later = changed.updated_at + timedelta(seconds=1)
    assert get(feed, "/orders", updated_since=later.isoformat()).json()["total"] == 0


def test_users_carry_the_sites_own_ids_beside_the_panels(feed: httpx.Client) -> None:
    rows = [row for page in sweep(feed, "/users", limit=1) for row in page["data"]]
    assert rows == [
        {"id": 1, "username": "ann", "email": "ann@example.org", "emailVerified": True, "panelUserId": 5},
        {"id": 2, "username": "bob", "email": "bob@example.org", "emailVerified": False, "panelUserId": None},
    ]


def test_panel_api_flat(feed: httpx.Client) -> None:
    answer = get(feed, "/users/1/vps").json()
    assert [row["id"] for row in answer["data"]] == [1001, 1002, 1003, 1004, 1005]
    row = answer["data"][0]
    assert set(row) == {
        *("id", "userId", "name", "status", "cpu", "ram", "disk", "os"),
        *("ipAddress", "ip6Address", "proxmoxId", "rootPassword", "createdAt"),
    }
    assert (row["name"], row["ram"], row["proxmoxId"]) == ("server-1001", 4096, 100)
    assert row == get(feed, "/vps/1001").json()["data"]


def test_panel_api_nested_with_real_names(feed: httpx.Client, site: MainSiteServer) -> None:
    site.set_shape("nested", invented_names=False)
    data = get(feed, "/users/2/vps").json()["data"]
    assert (data["user"]["id"], data["count"], len(data["servers"])) == (2, 5, 5)
    server = data["servers"][0]
    assert server["tariff"]["description"] == "2 CPU, 4GB RAM, 50GB SSD"
    assert (server["name"], server["os"]) == ("vps-1006", {"name": "Ubuntu 22.04"})
    assert server["rootPassword"].startswith(ROOT_PASSWORD_CANARY)


def test_a_cancelled_order_stays_in_orders_and_is_gone_from_panel_api() -> None:
    with MainSiteServer() as site, httpx.Client(headers={"X-API-Key": site.api_key}) as client:
        user = site.add_user(username="ann", email="ann@example.org")
        order = site.place_order(user_id=user.id, name="web")
        site.cancel_order(order.id)
        assert client.get(f"{site.url}/api/panel/orders/1").json()["data"]["status"] == "cancelled"
        assert client.get(f"{site.url}/api/panel/users/1/vps").json()["data"] == []
        assert client.get(f"{site.url}/api/panel/vps/1").status_code == 404
        site.remove_order(order.id)
        assert client.get(f"{site.url}/api/panel/orders/1").status_code == 404


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/health", 200),
        ("/vps/1001/status", 200),
        ("/vps/9999", 404),
        ("/vps/9999/status", 404),
        ("/orders/9999", 404),
        ("/users/9999/vps", 404),
        ("/orders?limit=0", 400),
        ("/orders?limit=1001", 400),
        ("/orders?cursor=nonsense", 400),
        ("/orders?updated_since=2026-01-01T00:00:00", 400),
        ("/orders/abc", 400),
    ],
)
def test_statuses_and_the_error_envelope(feed: httpx.Client, path: str, status: int) -> None:
    response = feed.get(path)
    assert response.status_code == status
    assert response.json()["status"] == ("success" if status == 200 else "error")
    assert ("message" in response.json()) == (status != 200)


@pytest.mark.parametrize("key", [None, b"", b"wrong", "ключ".encode()], ids=["none", "empty", "wrong", "non-ascii"])
def test_the_feeds_want_their_key(site: MainSiteServer, key: bytes | None) -> None:
    headers = {} if key is None else {b"X-API-Key": key}
    response = httpx.get(f"{site.url}/api/panel/orders", headers=headers)
    assert response.status_code == 401
    assert response.json() == {"status": "error", "message": "Invalid or missing API key"}


# Faults --------------------------------------------------------------------------------------------------


def test_cut_off_in_mid_body_on_page_2(feed: httpx.Client, site: MainSiteServer) -> None:
    site.fault_feed(FeedFaultKind.CUT_BODY, page=2)
    with pytest.raises(httpx.RemoteProtocolError):
        second_page(feed)


def test_status_on_page_2(feed: httpx.Client, site: MainSiteServer) -> None:
    site.fault_feed(FeedFaultKind.STATUS, page=2, value=502)
    response = second_page(feed)
    assert (response.status_code, response.json()["status"]) == (502, "error")


def test_status_for_the_next_two_answers_only(feed: httpx.Client, site: MainSiteServer) -> None:
    site.fault_feed(FeedFaultKind.STATUS, value=503, times=2, path="/orders")
    assert feed.get("/users").status_code == 200
    assert [feed.get("/orders").status_code for _ in range(3)] == [503, 503, 200]
    assert site.list_feed_faults() == []


def test_unauthorized_although_the_key_is_right(feed: httpx.Client, site: MainSiteServer) -> None:
    site.fault_feed(FeedFaultKind.UNAUTHORIZED)
    assert [feed.get(path).status_code for path in ("/orders", "/vps/1001", "/health")] == [401, 401, 401]


def test_html_in_place_of_json(feed: httpx.Client, site: MainSiteServer) -> None:
    site.fault_feed(FeedFaultKind.HTML)
    response = feed.get("/orders")
    assert (response.status_code, response.headers["content-type"].split(";")[0]) == (200, "text/html")


def test_slow(feed: httpx.Client, site: MainSiteServer) -> None:
    site.fault_feed(FeedFaultKind.SLOW, value=600)
    with pytest.raises(httpx.ReadTimeout):
        feed.get("/orders", timeout=httpx.Timeout(PATIENCE_S, read=0.1))
    site.clear_faults()
    site.fault_feed(FeedFaultKind.SLOW, value=0.3)
    started = time.monotonic()
    assert feed.get("/orders").status_code == 200
    assert time.monotonic() - started >= 0.3


def test_an_empty_list_that_looks_complete(feed: httpx.Client, site: MainSiteServer) -> None:
    site.fault_feed(FeedFaultKind.EMPTY)
    answer = feed.get("/orders").json()
    assert (answer["data"], answer["total"], answer["next_cursor"]) == ([], 0, None)
    assert feed.get("/users/1/vps").json()["data"] == []


def test_nine_rows_of_ten_are_gone_and_the_total_agrees(feed: httpx.Client, site: MainSiteServer) -> None:
    site.fault_feed(FeedFaultKind.SHRINK, value=0.1, path="/orders")
    answer = feed.get("/orders").json()
    assert (ids([answer]), answer["total"], answer["next_cursor"]) == ([1001], 1, None)


def test_the_total_changes_under_one_as_of(feed: httpx.Client, site: MainSiteServer) -> None:
    site.fault_feed(FeedFaultKind.TOTAL_CHANGES, page=2)
    pages = sweep(feed)
    assert [page["total"] for page in pages] == [10, 11, 10]
    assert len({page["as_of"] for page in pages}) == 1


def test_a_repeated_id(feed: httpx.Client, site: MainSiteServer) -> None:
    site.fault_feed(FeedFaultKind.REPEAT_ID, page=2)
    assert ids(sweep(feed)).count(1004) == 2


def test_an_empty_page_with_a_cursor(feed: httpx.Client, site: MainSiteServer) -> None:
    site.fault_feed(FeedFaultKind.EMPTY_PAGE, page=2)
    page = second_page(feed).json()
    assert page["data"] == []
    assert page["next_cursor"]


@pytest.mark.parametrize("lag", [600.0, -600.0], ids=["stale", "future"])
def test_as_of_is_elsewhere_in_time(feed: httpx.Client, site: MainSiteServer, lag: float) -> None:
    site.fault_feed(FeedFaultKind.AS_OF_LAG, value=lag)
    for path in ("/orders", "/vps/1001"):
        response = feed.get(path)
        assert age_of(response) == pytest.approx(lag, abs=60)


def test_as_of_is_missing(feed: httpx.Client, site: MainSiteServer) -> None:
    site.fault_feed(FeedFaultKind.NO_AS_OF)
    assert feed.get("/orders").json()["as_of"] is None


def test_a_frozen_feed_shows_old_rows_and_says_so(feed: httpx.Client, site: MainSiteServer) -> None:
    site.freeze_feed()
    before = feed.get("/orders").json()["as_of"]
    site.set_status(1002, "suspended")
    after = feed.get("/orders").json()
    assert after["as_of"] == before
    assert after["data"][1]["status"] == feed.get("/vps/1002").json()["data"]["status"] == "running"
    site.freeze_feed(frozen=False)
    assert feed.get("/orders").json()["data"][1]["status"] == "suspended"
    site.set_status(1002, "running")


@pytest.mark.parametrize("skew", [7200.0, -7200.0])
def test_the_sites_clock_is_wrong_in_date_as_of_and_rows(feed: httpx.Client, site: MainSiteServer, skew: float) -> None:
    site.skew_clock(skew)
    before = now()
    response = feed.get("/orders")
    date = parsedate_to_datetime(response.headers["date"]) - timedelta(seconds=skew)
    assert before - timedelta(seconds=1) < date <= now(), "to the second"
    assert age_of(response) == pytest.approx(0, abs=60), "by one clock"
    before = now()
    touched = site.set_status(1004, "running")
    assert before <= touched.updated_at - timedelta(seconds=skew) <= now()


def test_a_row_vanishes_from_both_feeds(feed: httpx.Client, site: MainSiteServer) -> None:
    site.hide_order(1003)
    assert 1003 not in ids(sweep(feed))
    assert [feed.get(path).status_code for path in ("/orders/1003", "/vps/1003")] == [404, 404]
    assert [row["id"] for row in feed.get("/users/1/vps").json()["data"]] == [1001, 1002, 1004, 1005]
    assert feed.get("/orders/1002").status_code == 200


def test_a_hundred_thousand_orders_in_pages_of_a_thousand() -> None:
    with MainSiteServer() as site, httpx.Client(headers={"X-API-Key": site.api_key}) as client:
        user = site.add_user(username="ann", email="ann@example.org")
        assert site.fill(100_000, user_id=user.id) == 100_000
        client.base_url = httpx.URL(f"{site.url}/api/panel")
        started = time.process_time()  # of the simulator, too; not what the machine does beside
        pages = sweep(client, limit=1000)
        assert len(pages) == 100
        assert ids(pages) == list(range(1, 100_001))
        # A page that cost the whole list would take minutes.
        assert time.process_time() - started < 60


def age_of(response: httpx.Response) -> float:
    date = parsedate_to_datetime(response.headers["date"])
    return (date - datetime.fromisoformat(response.json()["as_of"])).total_seconds()


def now() -> datetime:
    return datetime.now(UTC)
