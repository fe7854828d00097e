"""Gone, moved, hidden or unclear: what one guest's look-up may conclude."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from domain.guests import GuestType
from domain.source_protocols import Found, Gone, GuestConfig, Lookup, Unclear
from tests.unit.sources.fake_cluster import (
    NO_QUORUM,
    PVE2_OFFLINE,
    SECRET,
    STATUS,
    UUID,
    FakeCluster,
    data,
    guest,
    missing,
    refusal,
    source_of,
)

CONFIG = "/nodes/pve1/qemu/100/config"
RESOURCES = "/cluster/resources"
FORBIDDEN = refusal(403, "Permission check failed (/vms/100, VM.Audit)")


def confirm(cluster: FakeCluster, node: str = "pve1") -> Lookup[GuestConfig]:
    return source_of(cluster).confirm(node, GuestType.QEMU, 100)


def test_a_guest_that_is_there_is_found() -> None:
    assert confirm(FakeCluster()) == Found(
        GuestConfig(fingerprint=f"smbios:{UUID}", node="pve1", cores=1.0, memory_mb=2048, disk_gb=None)
    )


def test_a_guest_that_is_nowhere_is_gone() -> None:
    cluster = FakeCluster().without_guest()
    assert confirm(cluster) == Gone("no configuration on pve1, and none of 2 node(s) lists it")
    assert cluster.asked == [
        "/access/permissions /vms",
        "/cluster/status",
        CONFIG,
        RESOURCES,
        "/nodes/pve1/qemu",
        "/nodes/pve2/qemu",
        "/cluster/status",
    ]


def test_the_last_guest_of_a_cluster_can_be_gone() -> None:
    cluster = FakeCluster().without_guest().but(RESOURCES, data([])).but("/nodes/pve2/qemu", data([]))
    assert isinstance(confirm(cluster), Gone)


def test_a_dead_node_blocks_only_what_was_on_it() -> None:
    cluster = FakeCluster().without_guest().but("/cluster/status", data(PVE2_OFFLINE))
    cluster.but(RESOURCES, data([guest(101, "pve2", status="unknown")])).but("/nodes/pve1/qemu", data([]))
    assert confirm(cluster) == Gone(
        "no configuration on pve1, and none of 1 node(s) lists it, nor does the cluster (offline: pve2)"
    )
    assert "/nodes/pve2/qemu" not in cluster.asked
    assert confirm(cluster, "pve2") == Unclear("node(s) offline: pve2")
    assert isinstance(confirm(cluster, "pve7"), Unclear), "its last node left the cluster"


def test_a_guest_that_moved_to_a_node_that_died_is_not_gone() -> None:
    cluster = FakeCluster().without_guest().but("/cluster/status", data(PVE2_OFFLINE))
    cluster.but(RESOURCES, data([guest(100, "pve2", status="unknown")]))
    cluster.but("/nodes/pve2/qemu/100/config", refusal(595, "No route to host"))
    assert isinstance(confirm(cluster), Unclear)


def moved() -> FakeCluster:
    cluster = FakeCluster().without_guest().but(RESOURCES, data([guest(100, "pve2"), guest(101, "pve2")]))
    return cluster.but("/nodes/pve2/qemu/100/config", data({"smbios1": f"uuid={UUID}"}))


@pytest.mark.parametrize("node", ["pve1", "pve7"], ids=["from a node that is there", "from a node that left"])
def test_a_guest_that_moved_is_found_where_it_is(node: str) -> None:
    cluster = moved().but("/nodes/pve7/qemu/100/config", missing("pve7"))
    found = confirm(cluster, node)
    assert isinstance(found, Found)
    assert (found.value.node, found.value.fingerprint) == ("pve2", f"smbios:{UUID}")


def test_another_guest_that_took_the_vmid_is_found_as_what_it_is() -> None:
    cluster = FakeCluster().without_guest().but(RESOURCES, data([guest(100, "pve2", type="lxc")]))
    cluster.but("/nodes/pve2/lxc/100/config", data({"net0": "name=eth0,hwaddr=BC:24:11:00:00:01"}))
    found = confirm(cluster)
    assert isinstance(found, Found)
    assert found.value.fingerprint == "mac:bc:24:11:00:00:01"


def test_a_listed_guest_with_a_forbidden_configuration_exists() -> None:
    found = confirm(FakeCluster().but(CONFIG, FORBIDDEN))
    assert isinstance(found, Found)
    assert found.value.forbidden
    assert found.value.fingerprint is None


class Changing:
    """Answers in turn, the last for good."""

    def __init__(self, *answers: httpx.Response) -> None:
        self._answers = list(answers)

    def __call__(self, _: httpx.Request) -> httpx.Response:
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


def wait_in_vain(request: httpx.Request) -> httpx.Response:
    raise httpx.ReadTimeout("slow", request=request)


Answer = httpx.Response | Callable[[httpx.Request], httpx.Response]

# The guest is gone, but one thing casts doubt on it.
DOUBTS: dict[str, tuple[str, Answer, str]] = {
    "blind token": ("/access/permissions /vms", data({}), "does not see all guests"),
    "no quorum": ("/cluster/status", data(NO_QUORUM), "no quorum"),
    "another node went offline meanwhile": (
        "/cluster/status",
        Changing(data(STATUS), data(PVE2_OFFLINE)),
        "nodes changed while it was asked",
    ),
    "its node offline": (
        "/cluster/status",
        data([STATUS[0], {**STATUS[1], "online": 0}, STATUS[2]]),
        "node(s) offline: pve1",
    ),
    "quorum lost meanwhile": (
        "/cluster/status",
        Changing(data(STATUS), data(NO_QUORUM)),
        "nodes changed while it was asked",
    ),
    "Sys.Audit missing": ("/cluster/status", refusal(403, "Permission check failed (/, Sys.Audit)"), "Sys.Audit"),
    "forbidden configuration": (CONFIG, FORBIDDEN, "forbidden to the token, and no list shows it"),
    "another 500": (CONFIG, refusal(500, "unable to open file - Permission denied"), "was answered 500"),
    "595": (CONFIG, refusal(595, "No route to host"), "cannot be reached (595)"),
    "596": (CONFIG, refusal(596), "cannot be reached (596)"),
    "401": (CONFIG, refusal(401), "the token is refused"),
    "timeout": (CONFIG, wait_in_vain, "no answer within 40 s"),
    "configuration without data": (CONFIG, httpx.Response(200, json={}), "200 without data"),
    "configuration that is none": (CONFIG, data([]), "is not a configuration"),
    "list failed": (RESOURCES, refusal(500), "was answered 500"),
    "list empty while a node lists guests": (RESOURCES, data([]), "node pve2 lists guests that the cluster's list"),
    "an unreadable entry": (RESOURCES, data([{"vmid": 100}]), "not readable throughout"),
    "doubled in the list": (RESOURCES, data([guest(), guest(100, "pve2")]), "not readable throughout"),
    "listed, but without configuration": (RESOURCES, data([guest()]), "listed on node pve1 but has no config"),
    "a node's own list has it": ("/nodes/pve2/qemu", data([{"vmid": 100}, {"vmid": 101}]), "listed by node pve2"),
    "a node's own list fails": ("/nodes/pve2/qemu", refusal(595), "cannot be reached (595)"),
    "a node's own list is none": ("/nodes/pve2/qemu", data(None), "is not a list of guests"),
}


@pytest.mark.parametrize("name", DOUBTS)
def test_any_doubt_leaves_it_unclear(name: str) -> None:
    path, answer, sentence = DOUBTS[name]
    found = confirm(FakeCluster().without_guest().but(path, answer))
    assert isinstance(found, Unclear)
    assert sentence in found.why
    assert SECRET not in found.why


def test_without_quorum_not_even_presence_is_a_fact() -> None:
    assert isinstance(confirm(FakeCluster().but("/cluster/status", data(NO_QUORUM))), Unclear)


def test_the_reason_may_come_in_the_body_or_in_the_status_line() -> None:
    text = "Configuration file 'nodes/pve1/qemu-server/100.conf' does not exist\n"
    for answer in (refusal(500, text.strip()), refusal(500, "", message=text)):
        assert isinstance(confirm(FakeCluster().without_guest().but(CONFIG, answer)), Gone)


def config(cluster: FakeCluster) -> Lookup[GuestConfig]:
    return source_of(cluster).config("pve1", GuestType.QEMU, 100)


def test_a_configuration_is_read_without_pending_changes() -> None:
    seen: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(str(request.url.query, "ascii"))
        return data({"smbios1": f"uuid={UUID}"})

    assert isinstance(config(FakeCluster().but(CONFIG, answer)), Found)
    assert seen == ["current=1"]


def test_a_configuration_alone_never_proves_absence() -> None:
    assert isinstance(config(FakeCluster().without_guest()), Unclear)
    found = config(moved())
    assert isinstance(found, Found)
    assert found.value.node == "pve2"


def test_a_forbidden_configuration_leaves_the_identity_unread() -> None:
    found = config(FakeCluster().but(CONFIG, FORBIDDEN))
    assert isinstance(found, Found)
    assert found.value.forbidden


@pytest.mark.parametrize("status", [401, 500, 595, 503])
def test_a_configuration_that_cannot_be_read_is_unclear(status: int) -> None:
    assert isinstance(config(FakeCluster().but(CONFIG, refusal(status))), Unclear)
