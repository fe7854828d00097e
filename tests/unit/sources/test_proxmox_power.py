"""Power commands on the wire: one POST, never a second one; and what each answer of Proxmox means."""

from __future__ import annotations

import httpx
import pytest

from domain.guests import GuestType, PowerState
from domain.power.actions import Command, GuestNow
from domain.power.port import Lost, NotSent, OwnTask, Rejected, Sent, TaskEnded, TaskRuns
from domain.source_protocols import Found, Unclear
from sources.proxmox.power import ClusterPower, guest_now, task_state_of
from tests.unit.sources.fake_cluster import NO_QUORUM, UUID, FakeCluster, data, guest, missing, refusal, source_of

NAME = "UPID:pve1:0000A1B2:0001C3D4:665F0A10:qmshutdown:100:panel@pve!sync:"
TWO = ("https://pve1.test:8006", "https://pve2.test:8006")
CURRENT = {"vmid": 100, "status": "running", "qmpstatus": "running", "uptime": 500, "pid": 77, "ha": {"managed": 0}}
STOP = "/nodes/pve1/qemu/100/status/shutdown"


class Wire(FakeCluster):
    """Notes each request besides. ``fault``: what the POST meets instead of an answer."""

    def __init__(self, fault: Exception | None = None) -> None:
        super().__init__()
        self.but("/nodes/pve1/qemu/100/status/current", data(CURRENT))
        self.but(STOP, data(NAME))
        self.fault = fault
        self.posts: list[tuple[str, str, bytes]] = []

    def _answer(self, request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            self.posts.append((request.url.host, request.url.raw_path.decode(), request.content))
            if self.fault is not None:
                raise self.fault
        return super()._answer(request)


def power(wire: Wire, urls: tuple[str, ...] = TWO) -> ClusterPower:
    return ClusterPower(source_of(wire, urls=urls))


def shut_down(wire: Wire) -> object:
    return power(wire).send("pve1", GuestType.QEMU, 100, Command.SHUTDOWN)


def test_a_command_is_one_post_with_a_bounded_time() -> None:
    wire = Wire()
    assert shut_down(wire) == Sent(NAME)
    assert wire.posts == [("pve1.test", f"/api2/json{STOP}", b"timeout=60&forceStop=0")]


REQUEST = httpx.Request("POST", "https://pve1.test")
ANSWERS: list[tuple[str, httpx.Response, type]] = [
    ("a privilege is missing", refusal(403, "Permission check failed (/vms/100, VM.PowerMgmt)"), Rejected),
    ("the token is refused", refusal(401), Rejected),
    ("a container that runs already", refusal(500, message="CT 100 already running\n"), Rejected),
    ("no such method", refusal(501), Rejected),
    ("not on this node", missing(), Rejected),
    ("the node cannot be reached", refusal(595), Lost),
    ("the node did not answer in time", refusal(596), Lost),
    ("a gateway", refusal(502), Lost),
    ("no task is named", data(None), Lost),
    ("not the name of a task", data("UPID:pve1"), Lost),
    ("not JSON", httpx.Response(200, text="<html>"), Lost),
]


@pytest.mark.parametrize(("_name", "answer", "expected"), ANSWERS, ids=[case[0] for case in ANSWERS])
def test_what_an_answer_means(_name: str, answer: httpx.Response, expected: type) -> None:
    wire = Wire()
    wire.but(STOP, answer)
    assert isinstance(shut_down(wire), expected)
    assert len(wire.posts) == 1, "no other endpoint is tried"


def test_a_refusal_is_final_only_where_nothing_can_have_begun() -> None:
    for status, final in ((403, True), (401, True), (500, False), (501, False)):
        wire = Wire()
        wire.but(STOP, refusal(status, message="VM is locked (backup)\n\x1b[31m"))
        reply = shut_down(wire)
        assert isinstance(reply, Rejected)
        assert reply.final is final
        assert "\x1b" not in reply.why
        if status == 500:
            assert "VM is locked (backup)" in reply.why


FAULTS: list[tuple[Exception, type]] = [
    (httpx.ConnectError("refused"), NotSent),
    (httpx.ConnectTimeout("late"), NotSent),
    (httpx.ReadTimeout("late"), Lost),
    (httpx.WriteTimeout("late"), Lost),
    (httpx.ReadError("reset"), Lost),
    (httpx.WriteError("reset"), Lost),
    (httpx.RemoteProtocolError("closed"), Lost),
    (httpx.PoolTimeout("late"), Lost),
]


@pytest.mark.parametrize(("fault", "expected"), FAULTS, ids=[type(fault).__name__ for fault, _ in FAULTS])
def test_only_a_connection_that_was_never_made_is_not_sent(fault: Exception, expected: type) -> None:
    wire = Wire(fault)
    assert isinstance(shut_down(wire), expected)
    assert len(wire.posts) == 1, "no other endpoint is tried"


def test_after_a_refused_token_nothing_is_sent() -> None:
    wire = Wire()
    wire.but("/cluster/status", refusal(401))
    cluster = power(wire)
    assert isinstance(cluster.look("pve1", GuestType.QEMU, 100), Unclear)
    assert isinstance(cluster.send("pve1", GuestType.QEMU, 100, Command.STOP), NotSent)
    assert wire.posts == []


def test_a_command_goes_through_the_endpoint_that_answered() -> None:
    wire = Wire()
    wire.but("pve1.test /cluster/status", data(NO_QUORUM))
    cluster = power(wire)
    assert isinstance(cluster.look("pve1", GuestType.QEMU, 100), Found)
    cluster.send("pve1", GuestType.QEMU, 100, Command.SHUTDOWN)
    assert [host for host, *_ in wire.posts] == ["pve2.test"]


# --- looking


def test_a_look_reads_identity_and_state_of_a_cluster_with_quorum() -> None:
    wire = Wire()
    seen = power(wire).look("pve1", GuestType.QEMU, 100)
    assert seen == Found(GuestNow("pve1", f"smbios:{UUID}", PowerState.RUNNING, "running", uptime_s=500, pid=77))
    assert wire.asked[0] == "/cluster/status"


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/cluster/status", data(NO_QUORUM)),
        ("/nodes/pve1/qemu/100/config", refusal(403)),
        ("/nodes/pve1/qemu/100/config", refusal(595)),
        ("/nodes/pve1/qemu/100/status/current", refusal(500)),
        ("/nodes/pve1/qemu/100/status/current", data({**CURRENT, "vmid": 101})),
        ("/nodes/pve1/qemu/100/status/current", data([])),
    ],
)
def test_a_look_that_is_not_whole_tells_nothing(path: str, answer: httpx.Response) -> None:
    wire = Wire()
    wire.but(path, answer)
    assert isinstance(power(wire).look("pve1", GuestType.QEMU, 100), Unclear)


def test_a_guest_that_moved_is_looked_at_where_it_is() -> None:
    wire = Wire()
    wire.but("/nodes/pve1/qemu/100/config", missing())
    wire.but("/cluster/resources", data([guest(100, "pve2")]))
    wire.but("/nodes/pve2/qemu/100/config", data({"smbios1": f"uuid={UUID}"}))
    wire.but("/nodes/pve2/qemu/100/status/current", data({**CURRENT, "lock": "migrate", "ha": {"managed": 1}}))
    seen = power(wire).look("pve1", GuestType.QEMU, 100)
    assert isinstance(seen, Found)
    assert (seen.value.node, seen.value.lock, seen.value.ha) == ("pve2", "migrate", True)


def test_the_last_read_of_the_identity_is_of_exactly_that_node() -> None:
    wire = Wire()
    cluster = power(wire)
    assert cluster.same_machine("pve1", GuestType.QEMU, 100, f"smbios:{UUID}", None) is True
    assert cluster.same_machine("pve1", GuestType.QEMU, 100, "smbios:another", None) is False
    assert isinstance(cluster.same_machine("pve2", GuestType.QEMU, 100, f"smbios:{UUID}", None), Unclear)
    wire.but("/cluster/status", data(NO_QUORUM))
    assert isinstance(cluster.same_machine("pve1", GuestType.QEMU, 100, f"smbios:{UUID}", None), Unclear)


def test_a_container_must_have_the_name_that_it_had() -> None:
    wire = Wire()
    wire.but("/nodes/pve1/lxc/100/config", data({"net0": "name=eth0,hwaddr=BC:24:11:00:00:01", "hostname": "web"}))
    cluster = power(wire)
    same = [cluster.same_machine("pve1", GuestType.LXC, 100, "mac:bc:24:11:00:00:01", name)
            for name in ("web", "the-next-customer", None)]  # fmt: skip
    assert same == [True, False, False]


STATES: list[tuple[GuestType, dict[str, object], tuple[str, PowerState]]] = [
    (GuestType.QEMU, {"status": "running", "qmpstatus": "paused"}, ("paused", PowerState.STOPPED)),
    (GuestType.QEMU, {"status": "running"}, ("running", PowerState.RUNNING)),
    (GuestType.QEMU, {"status": "stopped", "qmpstatus": "stopped", "uptime": 0}, ("stopped", PowerState.STOPPED)),
    (GuestType.LXC, {"status": "running", "vmid": "100"}, ("running", PowerState.RUNNING)),
    (GuestType.QEMU, {"status": "running", "qmpstatus": "inmigrate"}, ("inmigrate", PowerState.UNKNOWN)),
]


@pytest.mark.parametrize(("guest_type", "answer", "expected"), STATES)
def test_the_words_of_a_state(guest_type: GuestType, answer: dict[str, object], expected: tuple[str, object]) -> None:
    seen = guest_now("pve1", guest_type, 100, "f", answer)
    assert (seen.status, seen.power) == expected
    assert (seen.uptime_s, seen.pid) == (None, None)


# --- tasks


def test_own_tasks_are_this_tokens_and_this_guests() -> None:
    wire = Wire()
    other = NAME.replace("panel@pve!sync", "root@pam")
    entries = [{"upid": NAME}, {"upid": other}, {"upid": NAME.replace(":100:", ":101:")}, {"upid": 7}, "?"]
    wire.but("/nodes/pve1/tasks", data(entries))
    assert power(wire).own_tasks("pve1", 100) == (OwnTask(NAME, "qmshutdown"),)
    wire.but("/nodes/pve1/tasks", refusal(403))
    assert isinstance(power(wire).own_tasks("pve1", 100), Unclear)


def test_a_tasks_name_is_percent_encoded_and_asked_of_its_own_node() -> None:
    wire = Wire()
    raw: list[str] = []

    def status(request: httpx.Request) -> httpx.Response:
        raw.append(request.url.raw_path.decode())
        return data({"status": "stopped", "exitstatus": "OK"})

    wire.but(f"/nodes/pve1/tasks/{NAME}/status", status)
    assert power(wire).task(NAME) == TaskEnded(ok=True, said="OK")
    assert raw == [
        f"/api2/json/nodes/pve1/tasks/{NAME.replace(':', '%3A').replace('@', '%40').replace('!', '%21')}/status"
    ]
    assert isinstance(power(wire).task("UPID:../..:x"), Unclear)
    wire.but(f"/nodes/pve1/tasks/{NAME}/status", refusal(400))
    assert isinstance(power(wire).task(NAME), Unclear)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"status": "running"}, TaskRuns()),
        ({"status": "stopped", "exitstatus": "OK"}, TaskEnded(ok=True, said="OK")),
        ({"status": "stopped", "exitstatus": "WARNINGS: 2"}, TaskEnded(ok=True, said="WARNINGS: 2")),
        ({"status": "stopped", "exitstatus": "got timeout"}, TaskEnded(ok=False, said="got timeout")),
        ({"status": "stopped", "exitstatus": "OK?"}, TaskEnded(ok=False, said="OK?")),
    ],
)
def test_how_a_task_ended(answer: dict[str, object], expected: object) -> None:
    assert task_state_of(answer) == expected


@pytest.mark.parametrize(
    "answer", [{}, {"status": "stopped"}, {"status": "stopped", "exitstatus": "unexpected status"}]
)
def test_a_task_of_which_proxmox_itself_does_not_know(answer: dict[str, object]) -> None:
    assert isinstance(task_state_of(answer), Unclear)
