"""What was measured of a guest on the wire: its identity is read before and after, and every fault is a value."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from domain.guests import GuestType
from domain.statistics.measurements import AHEAD_S, Point, Timeframe
from domain.statistics.port import AnotherMachine, Measurements, NotRead
from sources.proxmox.statistics import ClusterStatistics
from tests.unit.sources.canned import DATE
from tests.unit.sources.fake_cluster import (
    NO_QUORUM,
    STATUS,
    UUID,
    Answer,
    FakeCluster,
    data,
    guest,
    missing,
    refusal,
    source_of,
)

NOW = int(DATE.timestamp())
CONFIG, MEASURED_AT = "/nodes/pve1/qemu/100/config", "/nodes/pve1/qemu/100/rrddata"
MEASURED = [{"time": NOW - 60, "mem": 5}, {"time": NOW, "mem": 6}]
POINTS = (Point(NOW - 60, memory_used=5.0), Point(NOW, memory_used=6.0))
OURS = data({"smbios1": f"uuid={UUID}", "memory": "2048"})
STRANGER = data({"smbios1": "uuid=00000000-0000-4000-8000-000000000001", "memory": "2048"})


def cluster() -> FakeCluster:
    return FakeCluster().but(MEASURED_AT, data(MEASURED))


def asked(
    fake: FakeCluster, guest_type: GuestType = GuestType.QEMU, fingerprint: str = f"smbios:{UUID}", name: str = "web"
) -> Measurements | AnotherMachine | NotRead:
    source = ClusterStatistics(source_of(fake, urls=("https://pve1.test:8006", "https://pve2.test:8006")))
    return source.measurements("pve1", guest_type, 100, fingerprint, name, Timeframe.HOUR)


def in_turn(*answers: httpx.Response) -> Callable[[httpx.Request], httpx.Response]:
    left = list(answers)
    return lambda _: left.pop(0)


def test_the_identity_is_read_before_and_after() -> None:
    fake = cluster()
    assert asked(fake) == Measurements(POINTS, DATE.timestamp())
    assert fake.asked == ["/cluster/status", CONFIG, MEASURED_AT, "/cluster/status", CONFIG]


def test_a_guest_that_moved_is_asked_for_where_it_is() -> None:
    fake = cluster().but(CONFIG, missing()).but("/cluster/resources", data([guest(node="pve2")]))
    fake.but("/nodes/pve2/qemu/100/config", OURS).but("/nodes/pve2/qemu/100/rrddata", data(MEASURED))
    assert asked(fake) == Measurements(POINTS, DATE.timestamp())


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (in_turn(STRANGER), "it was replaced before"),
        (in_turn(OURS, STRANGER), "it was replaced while its measurements were read"),
    ],
    ids=["before", "meanwhile"],
)
def test_another_machine_s_measurements_are_not_taken(config: Answer, reason: str) -> None:
    assert asked(cluster().but(CONFIG, config)) == AnotherMachine(), reason


def container(name: str) -> httpx.Response:
    return data({"hostname": name, "memory": 512, "net0": "name=eth0,hwaddr=BC:24:11:00:00:01"})


@pytest.mark.parametrize(
    ("config", "same"),
    [
        (container("web"), True),
        (container("the-next-customer"), False),
        (in_turn(container("web"), container("the-next-customer")), False),
    ],
    ids=["the same", "another name", "another name meanwhile"],
)
def test_a_container_must_have_its_name(config: Answer, *, same: bool) -> None:
    fake = FakeCluster().but("/nodes/pve1/lxc/100/config", config).but("/nodes/pve1/lxc/100/rrddata", data(MEASURED))
    answer = asked(fake, GuestType.LXC, "mac:bc:24:11:00:00:01")
    assert answer == (Measurements(POINTS, DATE.timestamp()) if same else AnotherMachine())


def hangs(_: httpx.Request) -> httpx.Response:
    raise httpx.ReadTimeout("late")


UNDATED = httpx.Response(200, json={"data": MEASURED})
AHEAD = data([*MEASURED, {"time": NOW + AHEAD_S + 1}])
GONE = data([guest(101)])
FAULTS: list[tuple[str, dict[str, Answer], bool]] = [
    ("the node cannot be reached", {CONFIG: refusal(595)}, True),
    ("the node answers too late", {MEASURED_AT: refusal(596)}, True),
    ("the endpoint hangs", {CONFIG: hangs}, True),
    ("the token is refused", {"/cluster/status": refusal(401)}, True),
    ("no quorum", {"/cluster/status": data(NO_QUORUM)}, True),
    ("quorum is lost meanwhile", {"/cluster/status": in_turn(data(STATUS), *[data(NO_QUORUM)] * 2)}, True),
    ("the guest is gone", {CONFIG: missing(), "/cluster/resources": GONE}, False),
    ("its configuration is forbidden", {CONFIG: refusal(403, "Permission check failed (/vms/100, VM.Audit)")}, False),
    ("nothing was ever measured", {MEASURED_AT: refusal(500, "RRD error: No such file or directory")}, False),
    ("no list", {MEASURED_AT: data({"time": 1})}, False),
    ("no points", {MEASURED_AT: data(["x"])}, False),
    ("no date, so no point has an age", {MEASURED_AT: UNDATED}, False),
    ("a node whose clock is ahead", {MEASURED_AT: AHEAD}, False),
]


@pytest.mark.parametrize(("answers", "silent"), [case[1:] for case in FAULTS], ids=[case[0] for case in FAULTS])
def test_a_fault_is_a_value(answers: dict[str, Answer], *, silent: bool) -> None:
    fake = cluster()
    fake.answers |= answers
    answer = asked(fake)
    assert isinstance(answer, NotRead), answer
    assert answer.silent is silent
