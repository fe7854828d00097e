"""The ``panel-api`` feed: two shapes, one request per user, completeness user by user."""

from __future__ import annotations

import httpx
import pytest

from domain.orders import Order, OrderState
from domain.source_protocols import Page, Sweep
from sources.main_site import PanelApiFeed
from tests.unit.sources.canned import CANARY, Canned, StillClock, answer, html, main_site, order


def users(*numbers: int) -> httpx.Response:
    rows = [{"id": number, "username": f"u{number}", "rootPassword": CANARY} for number in numbers]
    return answer({"status": "success", "data": rows})


def flat(*rows: object, **fields: object) -> httpx.Response:
    return answer({"status": "success", "data": list(rows), **fields})


def nested(user: object, *servers: object, count: object = None) -> httpx.Response:
    told = len(servers) if count is None else count
    return answer({"status": "success", "data": {"user": {"id": user}, "servers": list(servers), "count": told}})


class Site(Canned):
    """Answers by path below /api/panel; a path without an answer is a 404."""

    def __init__(self, **answers: httpx.Response) -> None:
        self.answers = answers
        super().__init__(self._by_path)

    def _by_path(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path.removeprefix("/api/panel/").replace("/", "_")
        return self.answers.get(path, answer({"status": "error"}, status=404))


def feed_of(site: httpx.BaseTransport, still: StillClock | None = None, **changes: object) -> PanelApiFeed:
    config = main_site(panel_api_cluster="main", **changes)
    return PanelApiFeed(config, (still or StillClock()).clock(), site)


def read(site: httpx.BaseTransport) -> tuple[list[Page[Order]], Sweep[Order]]:
    sweep = feed_of(site).orders()
    return list(sweep.pages), sweep


def test_the_flat_shape() -> None:
    row = order(3, name="server-3", cpu=2, ram=2048, disk=20, os="Debian 12", proxmoxId=104, status="suspended")
    pages, sweep = read(Site(users=users(7), users_7_vps=flat(row)))
    assert sweep.complete_scopes == {"all", "user:7"}
    assert [(shown.scope, shown.staleness_s) for shown in pages] == [("user:7", 0.0)]
    (found,) = pages[0].items
    assert found.ip6_address is None
    assert (found.order_id, found.owner, found.state) == ("3", "7", OrderState.SUSPENDED)
    assert (found.cpu, found.ram_mb, found.disk_gb, found.os) == (2, 2048, 20, "Debian 12")
    assert (found.cluster, found.vmid, found.guest_type, found.hypervisor) == ("main", 104, None, None)
    assert not found.panel_vps_id_given


def test_the_nested_shape_takes_owner_from_the_question_and_plan_from_the_tariff() -> None:
    server = {
        "id": 3,
        "name": "server-3",
        "status": "running",
        "ipAddress": "pending",
        "ip6Address": "2001:db8::7",
        "proxmoxId": None,
        "tariff": {"name": "S", "description": "2 CPU, 4GB RAM, 50GB SSD"},
        "os": {"name": "Ubuntu 22.04", "rootPassword": CANARY},
        "rootPassword": CANARY,
    }
    pages, sweep = read(Site(users=users(7), users_7_vps=nested(7, server)))
    assert sweep.complete
    (found,) = pages[0].items
    assert (found.owner, found.cpu, found.ram_mb, found.disk_gb, found.os) == ("7", 2, 4096, 50, "Ubuntu 22.04")
    assert (found.ip_address, found.vmid, found.cluster) == (None, None, None)
    assert found.ip6_address == "2001:db8::7"


# Each: what user 7's list answers, how many orders it still shows, and what the sentence says.
FAULTS: dict[str, tuple[httpx.Response, int, str]] = {
    "another owner in a row": (
        flat(order(1), order(2, userId=9)),
        1,
        "orders of user 7: order 2 names another owner",
    ),
    "another user's list": (nested(9, order(1)), 0, "orders of user 7: answered with another user's servers"),
    "count disagrees": (nested(7, order(1), count=2), 0, "its count differs from the 1 server(s) that it lists"),
    "total disagrees": (flat(order(1), total=2), 0, "its total differs from the 1 server(s) that it lists"),
    "a part of the list": (flat(order(1), next_cursor="x"), 0, "answered with a part of the list"),
    "an unreadable row": (flat(order(1), order(2, status=None)), 1, "row 2 could not be read (status)"),
    "HTML": (html(), 0, "orders of user 7: answered 200 with something that is not JSON (text/html)"),
    "500": (answer({}, status=500), 0, "orders of user 7: answered 500"),
    "404": (answer({}, status=404), 0, "orders of user 7: answered 404"),
    "no list": (answer({"status": "success", "data": None}), 0, "neither a list nor servers"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_spoils_its_user_and_the_whole_but_no_other_user(name: str) -> None:
    response, shown, sentence = FAULTS[name]
    pages, sweep = read(Site(users=users(7, 8), users_7_vps=response, users_8_vps=flat(order(5, userId=8))))
    assert sweep.complete_scopes == {"user:8"}
    assert sentence in (sweep.problem or "")
    assert sweep.count == shown + 1 == sum(len(each.items) for each in pages)
    assert sweep.refused == (name == "an unreadable row")


def test_an_order_listed_under_two_users_belongs_to_neither_for_sure() -> None:
    _, sweep = read(
        Site(
            users=users(7, 8),
            users_7_vps=flat({"id": 1, "status": "running"}),
            users_8_vps=flat({"id": 1, "status": "running"}),
        )
    )
    assert sweep.problem == "orders of user 8: order 1 was already listed"
    assert sweep.complete_scopes == {"user:7"}


def test_several_faults_are_counted() -> None:
    _, sweep = read(Site(users=users(7, 8, 9)))
    assert sweep.problem == "orders of user 7: answered 404 (and 2 more user(s) with a fault)"


def test_a_user_list_with_a_fault_never_completes_the_whole() -> None:
    rows = answer({"data": [{"id": 7, "username": "u"}, {"username": "nameless"}]})
    _, sweep = read(Site(users=rows, users_7_vps=flat(order(1))))
    assert sweep.complete_scopes == {"user:7"}
    assert sweep.problem == "users: 1 row(s) could not be read (page 1, row 2: id)"
    _, sweep = read(Site(users=html()))
    assert sweep.complete_scopes == set()
    assert sweep.problem is not None


def test_requests_are_spaced_evenly() -> None:
    still = StillClock()
    site = Site(users=users(1, 2, 3), **{f"users_{n}_vps": flat() for n in (1, 2, 3)})
    sweep = feed_of(site, still).orders()
    assert [shown.began_s for shown in sweep.pages] == pytest.approx([0.05, 0.10, 0.15])
    assert still.slept == pytest.approx([0.05] * 3)


def test_suspects_are_read_first_and_unknown_ones_are_not_asked_for() -> None:
    site = Site(users=users(1, 2, 3))
    list(feed_of(site).orders(suspects=("3", "99", "3")).pages)
    assert site.asked == ["/users", "/users/3/vps", "/users/1/vps", "/users/2/vps"]


def test_a_delta_reads_the_suspects_and_rolls_through_the_others() -> None:
    site = Site(users=users(1, 2, 3, 4, 5), **{f"users_{n}_vps": flat() for n in range(1, 6)})
    seen, rolled_to = [], None
    for _ in range(3):
        feed = feed_of(site, rolling_users=2)  # every run makes its own
        sweep = feed.orders(updated_since="2026-01-01T00:00:00Z", suspects=("5",), rolled_to=rolled_to)
        seen.append([shown.scope for shown in sweep.pages])
        assert sweep.problem is None
        assert "all" not in sweep.complete_scopes
        rolled_to = sweep.rolled_to
    assert seen == [
        ["user:5", "user:1", "user:2"],
        ["user:5", "user:3", "user:4"],
        ["user:5", "user:1", "user:2"],
    ]


def rolled(site: Site, rolled_to: str | None) -> tuple[list[str], str | None]:
    sweep = feed_of(site, rolling_users=2).orders(updated_since="2026-01-01T00:00:00Z", rolled_to=rolled_to)
    return [shown.scope for shown in sweep.pages], sweep.rolled_to


def test_the_roll_goes_on_past_users_that_fail_or_are_gone_and_takes_in_new_ones() -> None:
    site = Site(users=users(1, 2, 3, 4), **{f"users_{n}_vps": flat() for n in (1, 3, 4, 5)})
    assert rolled(site, None) == (["user:1", "user:2"], "2"), "the second's orders cannot be read: an empty page"
    assert rolled(site, "2") == (["user:3", "user:4"], "4")
    site.answers["users"] = users(1, 2, 3, 5)
    assert rolled(site, "4") == (["user:5", "user:1"], "1")
    assert rolled(site, "9") == (["user:1", "user:2"], "2"), "behind the last one comes the first"


def test_a_whole_read_goes_once_around_and_leaves_the_roll_where_it_is() -> None:
    site = Site(users=users(1, 2, 3), **{f"users_{n}_vps": flat() for n in range(1, 4)})
    sweep = feed_of(site, rolling_users=2).orders(rolled_to="2")
    assert [shown.scope for shown in sweep.pages] == ["user:3", "user:1", "user:2"]
    assert sweep.rolled_to == "2"
    assert "all" in sweep.complete_scopes


def test_a_whole_read_that_is_cut_short_is_gone_on_with() -> None:
    site = Site(users=users(1, 2, 3, 4), **{f"users_{n}_vps": flat() for n in range(1, 5)})
    seen, rolled_to = [], None
    for _ in range(2):
        sweep = feed_of(site).orders(rolled_to=rolled_to)
        seen += [next(sweep.pages).scope, next(sweep.pages).scope]
        rolled_to = sweep.rolled_to
    assert seen == ["user:1", "user:2", "user:3", "user:4"]


@pytest.mark.parametrize("since", [None, "2026-01-01T00:00:00Z"], ids=["whole", "delta"])
def test_many_suspects_hold_nobody_up(since: str | None) -> None:
    """They take turns with the others, and each has its place in the roll, too."""
    site = Site(users=users(1, 2, 3, 4, 5, 6), **{f"users_{n}_vps": flat() for n in range(1, 7)})
    seen, rolled_to = list[str](), None
    for _ in range(6):
        sweep = feed_of(site, rolling_users=2).orders(since, suspects=("4", "5", "6"), rolled_to=rolled_to)
        seen += [next(sweep.pages).scope, next(sweep.pages).scope]
        rolled_to = sweep.rolled_to
    assert set(seen) == {f"user:{n}" for n in range(1, 7)}


def test_users_of_the_interface_need_no_order_but_may_not_repeat() -> None:
    sweep = feed_of(Site(users=users(3, 1))).users()
    assert [user.main_site_user_id for shown in sweep.pages for user in shown.items] == ["3", "1"]
    assert sweep.complete
    twice = feed_of(Site(users=users(3, 1, 3))).users()
    assert list(twice.pages)
    assert twice.problem == "page 1 of users: id 3 came twice"


def test_health_asks_for_the_interface_and_the_key() -> None:
    site = Site(health=answer({"status": "ok"}), users=users(1))
    health = feed_of(site).health()
    assert health.ok
    assert site.asked == ["/health", "/users"]
    refused = feed_of(Site(health=answer({"status": "ok"}), users=answer({}, status=401))).health()
    assert "MAIN_SITE_API_KEY is refused" in refused.problems[0]
