"""How far a bulk read of a cluster may be believed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import httpx
import pytest

from domain.guests import GuestType, PowerState
from domain.source_protocols import Gone, Unclear
from sources.proxmox.circuit_breaker import CircuitBreaker, CircuitState
from tests.unit.sources.canned import DATE, StillClock
from tests.unit.sources.fake_cluster import (
    NO_QUORUM,
    PVE2_OFFLINE,
    SECRET,
    FakeCluster,
    data,
    guest,
    refusal,
    source_of,
)

RESOURCES = "/cluster/resources"
STATUS = "/cluster/status"
PERMISSIONS = "/access/permissions /vms"
BOTH = frozenset({"pve1", "pve2"})
Answer = httpx.Response | Callable[[httpx.Request], httpx.Response]


def test_a_healthy_cluster_is_read_with_four_questions() -> None:
    cluster = FakeCluster()
    reading = source_of(cluster).read()
    assert cluster.asked == ["/version", PERMISSIONS, STATUS, RESOURCES]
    assert (reading.cluster, reading.complete, reading.trusted, reading.problems) == ("main", True, True, ())
    assert reading.nodes == reading.nodes_complete == BOTH
    assert [(each.vmid, each.power) for each in reading.guests] == [(100, PowerState.RUNNING)]


def test_an_empty_list_of_a_healthy_cluster_is_complete() -> None:
    reading = source_of(FakeCluster().but(RESOURCES, data([]))).read()
    assert (reading.complete, reading.trusted, reading.guests) == (True, True, ())


def wait_in_vain(request: httpx.Request) -> httpx.Response:
    raise httpx.ReadTimeout("slow", request=request)


# Nothing may follow from these: no power, no absence.
UNTRUSTED: dict[str, tuple[str, Answer, str]] = {
    "401": ("/version", refusal(401), "the token is refused (401)"),
    "401 at the list": (RESOURCES, refusal(401), "the token is refused (401)"),
    "blind token": (PERMISSIONS, data({"/vms": {}}), "the token lacks VM.Audit on /vms: pveum acl modify /vms"),
    "blind token, nothing told": (PERMISSIONS, data({}), "the token lacks VM.Audit on /vms"),
    "VM.Audit that does not propagate": (PERMISSIONS, data({"/vms": {"VM.Audit": 0}}), "VM.Audit on /vms"),
    "Sys.Audit missing": (
        STATUS,
        refusal(403, "Permission check failed (/, Sys.Audit)"),
        "quorum and nodes cannot be read: the token lacks Sys.Audit on / (403); grant Sys.Audit on /",
    ),
    "a refusal that cannot be stored": (
        STATUS,
        refusal(403, message="Permission check failed (/\0, Sys.Audit)"),
        "quorum and nodes cannot be read: GET /cluster/status is forbidden (403)",
    ),
    "no quorum": (STATUS, data(NO_QUORUM), "the cluster has no quorum"),
    "half a status": (STATUS, data(PVE2_OFFLINE[:2]), "/cluster/status does not list all of its nodes"),
    "no status": (STATUS, data(None), "/cluster/status is not a list"),
    "595 at the list": (RESOURCES, refusal(595), "the node cannot be reached (595)"),
    "596 at the list": (RESOURCES, refusal(596, "Connection timed out"), "the node cannot be reached (596)"),
    "500 at the list": (RESOURCES, refusal(500, "got no worker upid"), "was answered 500"),
    "503 at the list": (RESOURCES, refusal(503), "was answered 503"),
    "a list that is none": (RESOURCES, data({}), "/cluster/resources is not a list"),
    "no data": (RESOURCES, httpx.Response(200, json={}), "was answered 200 without data"),
    "HTML": (RESOURCES, httpx.Response(200, html="<html/>"), "was answered 200 without data"),
    "empty": (RESOURCES, httpx.Response(200), "was answered 200 without data"),
    "timeout": (RESOURCES, wait_in_vain, "no answer within 40 s"),
    "all unknown": (
        RESOURCES,
        data([guest(100, status="unknown"), guest(101, "pve2", status="unknown")]),
        "2 of 2 guests on online nodes have no known state",
    ),
    "most of many unknown": (
        RESOURCES,
        data([guest(100 + n, status="unknown" if n < 6 else "running") for n in range(10)]),
        "6 of 10 guests",
    ),
}


@pytest.mark.parametrize("name", UNTRUSTED)
def test_nothing_follows_from(name: str) -> None:
    path, answer, sentence = UNTRUSTED[name]
    source = source_of(FakeCluster().but(path, answer))
    reading = source.read()
    assert not reading.trusted
    assert not reading.complete
    assert reading.nodes_complete == frozenset()
    assert sentence in " ".join(reading.problems)
    assert SECRET not in repr((reading, source, vars(source)))


# Facts may be used, but absence only from the nodes named here.
PARTIAL: dict[str, tuple[str, Answer, frozenset[str], str]] = {
    "a node offline": (STATUS, data(PVE2_OFFLINE), frozenset({"pve1"}), "node(s) offline: pve2"),
    "guests on an unnamed node": (
        RESOURCES,
        data([guest(), guest(101, "pve9")]),
        BOTH,
        "node(s) that the cluster does not name: pve9",
    ),
    "an unreadable guest": (RESOURCES, data([guest(), guest(0, "pve2")]), frozenset({"pve1"}), "unreadable"),
    "an unreadable guest somewhere": (RESOURCES, data([guest(), {"vmid": 5}]), frozenset(), "unreadable"),
    "a doubled guest": (RESOURCES, data([guest(), guest(101, "pve2"), guest(101, "pve2")]), frozenset({"pve1"}), ""),
}


@pytest.mark.parametrize("name", PARTIAL)
def test_absence_is_limited_by(name: str) -> None:
    path, answer, complete, sentence = PARTIAL[name]
    reading = source_of(FakeCluster().but(path, answer)).read()
    assert reading.trusted
    assert not reading.complete
    assert reading.nodes_complete == complete
    assert sentence in " ".join(reading.problems)


def test_guests_of_a_node_that_is_away_keep_their_place_but_not_their_power() -> None:
    cluster = FakeCluster().but(STATUS, data(PVE2_OFFLINE))
    reading = source_of(cluster.but(RESOURCES, data([guest(), guest(101, "pve2")]))).read()
    assert [(each.vmid, each.status, each.power) for each in reading.guests] == [
        (100, "running", PowerState.RUNNING),
        (101, "running", PowerState.UNKNOWN),
    ]


def test_a_nodes_guests_without_a_state_write_nothing_but_do_exist() -> None:
    some = [guest(100 + n, "pve2" if n < 3 else "pve1", status="unknown" if n < 3 else "running") for n in range(9)]
    reading = source_of(FakeCluster().but(RESOURCES, data(some))).read()
    assert reading.trusted
    assert reading.complete
    assert [each.power for each in reading.guests].count(PowerState.UNKNOWN) == 3


def test_silent_guests_of_an_offline_node_do_not_discredit_the_others() -> None:
    cluster = FakeCluster().but(STATUS, data(PVE2_OFFLINE))
    some = [guest(100 + n, "pve2", status="unknown") for n in range(20)] + [guest(200)]
    reading = source_of(cluster.but(RESOURCES, data(some))).read()
    assert reading.trusted
    assert reading.nodes_complete == {"pve1"}


@pytest.mark.parametrize(
    ("version", "warning"),
    [
        ("9.0.5", "Proxmox VE 9.0.5 answers large lists in tens of seconds, so nothing counts as absent: update it"),
        (None, "the version of Proxmox VE could not be read, so nothing counts as absent"),
    ],
)
def test_lists_of_a_doubtful_version_show_guests_and_prove_no_absence(version: str | None, warning: str) -> None:
    reading = source_of(FakeCluster().but("/version", data({"version": version}))).read()
    assert reading.trusted
    assert [(each.vmid, each.power) for each in reading.guests] == [(100, PowerState.RUNNING)]
    assert (reading.complete, reading.nodes_complete, reading.problems) == (False, frozenset(), ())
    (told,) = reading.warnings
    assert told.startswith(warning)


def test_a_token_of_pools_shows_guests_and_proves_no_absence() -> None:
    cluster = FakeCluster().but(PERMISSIONS, data({}))
    for pool, held in (("a", 1), ("b", 1)):
        cluster.but(f"/access/permissions /pool/{pool}", data({f"/pool/{pool}": {"VM.Audit": held}}))
    reading = source_of(cluster, pools=("a", "b")).read()
    assert reading.trusted
    assert reading.nodes_complete == frozenset()
    assert "only the configured pools" in reading.warnings[0]
    cluster.but("/access/permissions /pool/b", data({}))
    blind = source_of(cluster, pools=("a", "b")).read()
    assert not blind.trusted
    assert blind.problems == (
        "the token lacks VM.Audit on /pool/b: pveum acl modify /pool/b --tokens '<token id>' --roles PVEAuditor",
    )


def test_one_refusal_of_the_token_ends_the_read_and_opens_the_circuit() -> None:
    still = StillClock()
    breaker = CircuitBreaker()
    cluster = FakeCluster().but("/version", refusal(401))
    source = source_of(cluster, breaker=breaker, still=still, urls=("https://pve1.test", "https://pve2.test"))
    assert not source.read().trusted
    assert not source.read().trusted
    assert source.health().problems[0].startswith("the token was refused; nothing is asked before 2026-03-01 12:01:00")
    assert cluster.asked == ["/version"]
    still.now += 60
    cluster.but("/version", data({"version": "9.2.1"}))
    assert source.read().complete
    assert breaker.state == CircuitState()


def test_the_pause_doubles_up_to_its_bound_and_survives_as_a_plain_value() -> None:
    breaker = CircuitBreaker()
    pauses, now = [], DATE
    for _ in range(6):
        for _ in range(3):  # what was asked at the same time is refused for the same reason
            breaker.refused(now)
        assert breaker.state.open_until is not None
        pauses.append((breaker.state.open_until - now).total_seconds())
        now = breaker.state.open_until
    assert pauses == [60, 120, 240, 480, 900, 900]
    kept = CircuitBreaker(CircuitState.from_plain(breaker.state.to_plain()))
    assert kept.state == breaker.state
    assert not kept.allow(now - timedelta(seconds=900))
    assert not kept.allow(now - timedelta(seconds=1))
    assert kept.allow(now)
    assert kept.allow(now - timedelta(hours=2)), "a clock that jumped back must not lock the cluster out"
    with pytest.raises(ValueError, match="circuit"):
        CircuitState.from_plain({"open_until": 5})


def refuse(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("no", request=request)


URLS = ("https://one.test:8006", "https://two.test:8006")


OWN_TROUBLE: dict[str, tuple[str, Answer]] = {
    "down": (RESOURCES, refuse),
    "slow": (RESOURCES, wait_in_vain),
    "bad gateway": (RESOURCES, refusal(502)),
    "overloaded": (RESOURCES, refusal(503)),
    "cut off from the others": (RESOURCES, refusal(596)),
    "failing within": (RESOURCES, refusal(500, "got no worker upid")),
    "another program": (RESOURCES, refusal(501)),
    "nonsense": (RESOURCES, data({})),
    "in the minority": (STATUS, data(NO_QUORUM)),
}
"""What an endpoint may have alone, while the cluster is well."""


@pytest.mark.parametrize("name", OWN_TROUBLE)
def test_another_endpoint_takes_over_for_the_whole_read_and_is_kept(name: str) -> None:
    path, answer = OWN_TROUBLE[name]
    cluster = FakeCluster().but(f"one.test {path}", answer)
    source = source_of(cluster, urls=URLS)
    assert source.read().complete
    questions = ["/version", PERMISSIONS, STATUS, RESOURCES]
    assert cluster.asked == questions[: questions.index(path) + 1] + questions
    cluster.asked.clear()
    assert source.read().complete
    assert cluster.asked == questions, "the good one is asked first"
    cluster.asked.clear()
    anew = source_of(cluster, urls=URLS, first=source.endpoint)
    assert anew.read().complete
    assert cluster.asked == questions, "also by the next process"


def test_absence_is_confirmed_through_an_endpoint_with_quorum() -> None:
    cluster = FakeCluster().without_guest().but(f"one.test {STATUS}", data(NO_QUORUM))
    assert isinstance(source_of(cluster, urls=URLS).confirm("pve1", GuestType.QEMU, 100), Gone)
    everywhere = FakeCluster().without_guest().but(STATUS, data(NO_QUORUM))
    assert source_of(everywhere, urls=URLS).confirm("pve1", GuestType.QEMU, 100) == Unclear(
        "the cluster has no quorum: what it lists may be frozen"
    )


def test_quorum_of_one_endpoint_never_vouches_for_the_list_of_another() -> None:
    cluster = FakeCluster().but(f"one.test {RESOURCES}", refuse).but(f"two.test {STATUS}", data(NO_QUORUM))
    reading = source_of(cluster, urls=URLS).read()
    assert not reading.trusted
    assert "no quorum" in reading.problems[0]


def test_when_no_endpoint_can_be_used_all_are_named() -> None:
    reading = source_of(FakeCluster().but("/version", refuse), urls=URLS).read()
    assert reading.problems == (
        "one.test:8006: no connection could be made; two.test:8006: no connection could be made",
    )


@pytest.mark.parametrize("status", [401, 403])
def test_a_refusal_that_every_endpoint_would_repeat_is_not_repeated(status: int) -> None:
    cluster = FakeCluster().but(RESOURCES, refusal(status))
    source_of(cluster, urls=URLS).read()
    assert cluster.asked.count(RESOURCES) == 1


HEALTH: dict[str, tuple[str, Answer, str]] = {
    "401": ("/version", refusal(401), "check token_id and token_secret"),
    "blind token": (PERMISSIONS, data({}), "the token lacks VM.Audit on /vms: pveum acl modify /vms"),
    "no Sys.Audit": (STATUS, refusal(403, "Permission check failed (/, Sys.Audit)"), "pveum acl modify / --tokens"),
    "no quorum": (STATUS, data(NO_QUORUM), "no quorum"),
    "a node offline": (STATUS, data(PVE2_OFFLINE), "node(s) offline: pve2"),
    "no connection": ("/version", refuse, "check urls of this cluster"),
    "old version": ("/version", data({"version": "9.0.1"}), "update it"),
}


@pytest.mark.parametrize("name", HEALTH)
def test_health_names_the_remedy(name: str) -> None:
    path, answer, sentence = HEALTH[name]
    health = source_of(FakeCluster().but(path, answer)).health()
    assert not health.ok
    assert sentence in " ".join(health.problems)
    assert SECRET not in repr(health)


def test_a_healthy_cluster_tells_its_version_nodes_and_clock() -> None:
    still = StillClock()
    still.now -= 7
    health = source_of(FakeCluster(), still=still).health()
    assert health.ok
    assert health.detail == "Proxmox VE 9.2.1, 2 of 2 node(s) online"
    assert health.clock_skew_s == pytest.approx(7.5)
    weak = source_of(FakeCluster().but(PERMISSIONS, data({"/vms": {"VM.Audit": 1}}))).health()
    assert weak.ok
    assert "without VM.PowerMgmt on /vms" in weak.detail
