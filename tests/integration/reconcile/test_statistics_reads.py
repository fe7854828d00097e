"""Statistics from the Proxmox simulator to the customer: never a point of another machine, and one read for all who
look."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest
from pydantic import SecretStr
from sqlalchemy import Engine, text

from domain.guests import GuestType
from domain.statistics.measurements import UNSURE_S, Point, Timeframe
from domain.statistics.port import AnotherMachine, Measurements, NotRead
from lab.simulators.proxmox.server import ProxmoxServer
from panel.statistics import requests
from reconcile.vps_statistics import GO_ON_S, NOBODY_WAITS, StatisticsReader
from sources.config import ClusterConfig
from sources.proxmox.cluster import ClusterSource
from sources.proxmox.statistics import ClusterStatistics
from tests.support.databases import Database
from tests.support.fleets.looked_at import Looker, known_for
from tests.support.fleets.switchable import Place, make_switchable, spoil

HOURS = 3 * 3600.0
OURS_MB, STRANGER_MB = 2048, 7777
STRANGER_BYTES = STRANGER_MB * 1024 * 1024
VMIDS = itertools.count(100)


@pytest.fixture(scope="module")
def server() -> Iterator[ProxmoxServer]:
    with ProxmoxServer(unauthorized_delay_s=0.0) as running:
        yield running


@pytest.fixture
def pve(server: ProxmoxServer) -> Iterator[ProxmoxServer]:
    yield server
    server.clear_faults()


@pytest.fixture
def source(pve: ProxmoxServer) -> Iterator[ClusterSource]:
    config = ClusterConfig(
        pve.name, tuple(pve.urls), pve.token_id, SecretStr(pve.token_secret), ca_file=Path(pve.ca_file)
    )
    made = ClusterSource(config)
    yield made
    made.close()


@pytest.fixture
def looker(engine: Engine, database: Database, source: ClusterSource) -> Looker:
    return Looker(engine, database, ClusterStatistics(source))


def place(pve: ProxmoxServer, engine: Engine, vps_id: int = 1, user_id: int = 5, *, since_s: float = HOURS) -> Place:
    """A VPS of a customer, with its machine, which both have been there for so long."""
    vmid, uuid = next(VMIDS), str(uuid4())
    pve.add_guest(vmid, uuid=uuid, memory_mb=OURS_MB)
    pve.set_measured(vmid, since_s)
    made = make_switchable(engine, Place(vps_id=vps_id, user_id=user_id, vmid=vmid, fingerprint=f"smbios:{uuid}"))
    known_for(engine, since_s, vps_id)
    return made


def sizes(points: tuple[Point, ...]) -> set[float | None]:
    return {point.memory_total for point in points}


def asked_for(pve: ProxmoxServer) -> int:
    return sum(seen.path.endswith("/rrddata") for seen in pve.list_requests())


def problem(engine: Engine, row_id: int) -> str | None:
    with engine.connect() as connection:
        statement = text("SELECT problem FROM vps_statistics WHERE id = :id")
        found: str | None = connection.scalar(statement, {"id": row_id})
        return found


@pytest.mark.parametrize("timeframe", Timeframe)
def test_what_proxmox_measured_is_kept(
    pve: ProxmoxServer, engine: Engine, looker: Looker, timeframe: Timeframe
) -> None:
    place(pve, engine, since_s=400 * 86_400.0)
    kept = looker.looks(timeframe=timeframe)
    assert (kept.fresh, kept.waits, kept.problem) == (True, False, None)
    assert 50 <= len(kept.points) <= 400
    assert all(point.measured for point in kept.points)
    last = kept.points[-1]
    assert time.time() - last.at < 25_000
    assert last.memory_total == OURS_MB * 1024 * 1024
    assert last.cores is not None
    assert 0.1 <= last.cores <= 1.1


def test_two_who_look_cause_one_read(pve: ProxmoxServer, engine: Engine, looker: Looker) -> None:
    place(pve, engine)
    row_id = looker.asks()
    assert row_id is not None
    assert looker.asks() is None
    assert looker.kept().waits
    before = asked_for(pve)
    looker.works(row_id)
    assert looker.works(row_id) == NOBODY_WAITS, "a message that comes twice"
    assert asked_for(pve) - before == 1
    assert looker.asks() is None, "it is fresh"
    looker.ages(61)
    assert looker.asks() == row_id


def test_of_two_at_the_same_moment_one_asks(
    pve: ProxmoxServer, engine: Engine, looker: Looker, monkeypatch: pytest.MonkeyPatch
) -> None:
    place(pve, engine)
    monkeypatch.setattr(requests, "ENOUGH", text("SELECT false"))  # both looked before either of them asked
    assert looker.asks() is not None
    spoil(engine, "DELETE FROM task_requests")
    assert looker.asks() is None


def test_a_lost_message_is_sent_again(pve: ProxmoxServer, engine: Engine, looker: Looker) -> None:
    place(pve, engine)
    row_id = looker.asks()
    spoil(engine, "DELETE FROM task_requests")
    looker.ages(60)
    assert looker.asks() is None
    looker.ages(61)
    assert looker.asks() == row_id


# --- never another machine's


def test_what_was_measured_of_who_had_the_vmid_before_is_cut_off(
    pve: ProxmoxServer, engine: Engine, looker: Looker
) -> None:
    """The VMID was resold: Proxmox shows two hours of a stranger, and then half an hour of this customer's machine."""
    vmid, uuid = next(VMIDS), str(uuid4())
    pve.add_guest(vmid, memory_mb=STRANGER_MB)
    pve.remove_guest(vmid)
    pve.set_measured(vmid, 7200, 1800)
    pve.add_guest(vmid, uuid=uuid, memory_mb=OURS_MB)
    pve.set_measured(vmid, 1800)
    make_switchable(engine, Place(vmid=vmid, fingerprint=f"smbios:{uuid}"))
    known_for(engine, 1800)
    answer = looker.source.measurements("pve1", GuestType.QEMU, vmid, f"smbios:{uuid}", "web", Timeframe.HOUR)
    assert isinstance(answer, Measurements)
    assert STRANGER_BYTES in sizes(answer.points), "Proxmox gives the stranger's"
    kept = looker.looks()
    assert 20 <= len(kept.points) <= 30
    assert sizes(kept.points) == {OURS_MB * 1024 * 1024}
    assert kept.points[0].at >= time.time() - 1800 + UNSURE_S


YOUNG = [
    ("a new owner", "UPDATE vps SET owner_changed_at = clock_timestamp() - interval '20 minutes'"),
    ("a new record", "UPDATE vps SET created_at = clock_timestamp() - interval '20 minutes'"),
    ("another machine since", "UPDATE guests SET fingerprint_since = clock_timestamp() - interval '20 minutes'"),
    ("an identity that was read late",
     "UPDATE guests SET fingerprint_since = NULL, fingerprint_read_at = clock_timestamp() - interval '20 minutes'"),
    ("a link that is young", "UPDATE vps SET link_changed_at = clock_timestamp() - interval '20 minutes'"),
    ("another address, by the journal",
     "INSERT INTO operations (kind, action, vps_id, seq, source, payload, state, applied_at, after) VALUES"
     " ('sync', 'update', 1, 1, 'sync', '{}', 'applied', clock_timestamp() - interval '20 minutes', '{\"vmid\": 7}')"),
    ("deleted meanwhile and restored",
     "INSERT INTO operations (kind, action, vps_id, seq, source, payload, state, applied_at, after) VALUES"
     " ('sync', 'delete', 1, 1, 'sync', '{}', 'applied', clock_timestamp() - interval '20 minutes',"
     " '{\"deleted_at\": null}')"),
]  # fmt: skip


@pytest.mark.parametrize("change", [case[1] for case in YOUNG], ids=[case[0] for case in YOUNG])
def test_it_begins_with_the_youngest_of_what_is_known(
    pve: ProxmoxServer, engine: Engine, looker: Looker, change: str
) -> None:
    place(pve, engine)
    spoil(engine, change)
    kept = looker.looks()
    assert 10 <= len(kept.points) <= 17
    assert kept.points[0].at >= time.time() - 1200 + UNSURE_S


def test_a_machine_that_only_moved_to_another_node_keeps_its_measurements(
    pve: ProxmoxServer, engine: Engine, looker: Looker
) -> None:
    at = place(pve, engine)
    spoil(
        engine,
        "INSERT INTO operations (kind, action, vps_id, seq, source, payload, state, applied_at, after) VALUES"
        " ('sync', 'create', 1, 1, 'sync', '{}', 'applied', clock_timestamp() - interval '3 hours',"
        " '{\"vmid\": 7, \"user_id\": 5}'), ('sync', 'update', 1, 2, 'sync', '{}', 'applied', clock_timestamp(),"
        ' \'{"node": "pve2"}\')',
    )
    spoil(engine, "UPDATE vps SET node = 'pve2', link_changed_at = clock_timestamp() - interval '1 second'")
    pve.migrate(at.vmid, "pve2")
    assert len(looker.looks().points) >= 50


def test_a_machine_that_is_replaced_between_two_reads_shows_nothing_of_the_next(
    pve: ProxmoxServer, engine: Engine, looker: Looker
) -> None:
    at = place(pve, engine)
    first = looker.looks()
    pve.remove_guest(at.vmid)
    pve.add_guest(at.vmid, memory_mb=STRANGER_MB)
    looker.ages(61)
    second = looker.looks()
    assert second.problem == "another_machine"
    assert second.points == first.points, "what was theirs"
    spoil(engine, "UPDATE guests SET fingerprint = 'smbios:b'; UPDATE vps SET fingerprint = 'smbios:b'")
    assert looker.kept().points == (), "the same order has got another machine: that of before is not its"


def test_a_new_owner_sees_nothing_of_before(pve: ProxmoxServer, engine: Engine, looker: Looker) -> None:
    place(pve, engine)
    assert looker.looks().points
    spoil(
        engine,
        "INSERT INTO users (id, username, main_site_user_id, map_source) VALUES (6, 'u6', 'm6', 'operator')",
    )
    spoil(engine, "UPDATE orders_seen SET owner = 'm6'")
    spoil(engine, "UPDATE vps SET user_id = 6, owner_changed_at = clock_timestamp()")
    assert looker.kept(user_id=5).points == ()
    assert looker.kept(user_id=6).points == ()
    kept = looker.looks(user_id=6)
    assert (kept.points, kept.fresh) == ((), True), "nothing was measured yet that is theirs"
    assert looker.kept(user_id=5).points == ()
    spoil(engine, "UPDATE vps SET user_id = 5, owner_changed_at = clock_timestamp()")
    assert looker.kept(user_id=5).points == (), "it came back: what was kept before counts no more"


def test_what_changes_while_proxmox_is_read_is_not_kept(pve: ProxmoxServer, engine: Engine, looker: Looker) -> None:
    place(pve, engine)
    row_id = looker.asks()
    assert row_id is not None
    asks = looker.source.measurements

    class Meanwhile:
        def measurements(
            self, node: str, guest_type: GuestType, vmid: int, fingerprint: str, name: str | None, timeframe: Timeframe
        ) -> Measurements | AnotherMachine | NotRead:
            answer = asks(node, guest_type, vmid, fingerprint, name, timeframe)
            spoil(engine, "UPDATE vps SET fingerprint = 'smbios:b'; UPDATE guests SET fingerprint = 'smbios:b'")
            return answer

    looker.source = Meanwhile()
    looker.works(row_id)
    assert problem(engine, row_id) == "another_machine"
    assert looker.kept().points == ()


def test_while_an_identity_is_in_doubt_proxmox_is_not_asked(pve: ProxmoxServer, engine: Engine, looker: Looker) -> None:
    place(pve, engine)
    row_id = looker.asks()
    assert row_id is not None
    spoil(engine, "UPDATE guests SET fingerprint_state = 'stale', doubt = 'changed', doubted_at = clock_timestamp()")
    before = asked_for(pve)
    looker.works(row_id)
    assert problem(engine, row_id) == "identity_in_doubt"
    assert asked_for(pve) == before


# --- Proxmox in trouble


def test_a_guest_that_is_gone_leaves_what_was_kept(pve: ProxmoxServer, engine: Engine, looker: Looker) -> None:
    at = place(pve, engine)
    first = looker.looks()
    pve.remove_guest(at.vmid)
    looker.ages(61)
    second = looker.looks()
    assert (second.points, second.problem, second.fresh) == (first.points, "not_read", False)
    assert looker.asks() is None, "it is not tried again at once"
    looker.ages(21)
    assert looker.asks() is not None


def test_a_machine_that_is_off_has_points_without_values(pve: ProxmoxServer, engine: Engine, looker: Looker) -> None:
    at = place(pve, engine)
    pve.set_status(at.vmid, "stopped")
    kept = looker.looks()
    assert len(kept.points) >= 50
    assert not any(point.measured for point in kept.points)


def test_a_node_that_hangs_is_asked_once_for_all_who_wait(pve: ProxmoxServer, engine: Engine, looker: Looker) -> None:
    for vps_id in (1, 2, 3):
        place(pve, engine, vps_id, 4 + vps_id)
    place(pve, engine, 4, 9)
    spoil(engine, "UPDATE vps SET node = 'pve2' WHERE id = 4; UPDATE guests SET node = 'pve2' FROM vps"
                  " WHERE vps.id = 4 AND guests.vmid = vps.vmid")  # fmt: skip
    with engine.connect() as connection:
        vmid = connection.scalar(text("SELECT vmid FROM vps WHERE id = 4"))
    pve.migrate(int(vmid or 0), "pve2")
    rows = [looker.asks(vps_id, 4 + vps_id) for vps_id in (1, 2, 3)]
    pve.fail_node("pve1", 596)
    before = len(pve.list_requests())
    assert looker.works(rows[0] or 0) == "proxmox_silent, proxmox_away, proxmox_away"
    asked = [seen.path for seen in pve.list_requests()[before:] if seen.path.startswith("/nodes/pve1")]
    assert len(asked) == 1, "the others end without a question"
    assert looker.looks(4, 9).problem is None, "another node's customers get theirs"
    pve.clear_faults()
    looker.ages(31)
    assert looker.looks(1, 5).problem is None


def test_one_read_of_a_node_at_a_time(pve: ProxmoxServer, engine: Engine, looker: Looker) -> None:
    """While one worker reads a node, another one leaves its other rows to it, and reads other nodes."""
    place(pve, engine)
    place(pve, engine, 2, 6)
    first, second = looker.asks(), looker.asks(2, 6)
    assert None not in (first, second)
    asks, said = looker.source.measurements, list[str]()

    class Slow:
        def measurements(
            self, node: str, guest_type: GuestType, vmid: int, fingerprint: str, name: str | None, timeframe: Timeframe
        ) -> Measurements | AnotherMachine | NotRead:
            if not said:
                said.append(StatisticsReader(engine, lambda _: self, looker.rules).read(second or 0))
            return asks(node, guest_type, vmid, fingerprint, name, timeframe)

    looker.source = Slow()
    done = looker.works(first or 0)
    assert said == [NOBODY_WAITS]
    assert done == "read, read", "whoever reads the node reads what waits for it"
    assert looker.kept(2, 6).points


def test_after_a_while_another_message_goes_on(pve: ProxmoxServer, engine: Engine, looker: Looker) -> None:
    place(pve, engine)
    place(pve, engine, 2, 6)
    first, second = looker.asks(), looker.asks(2, 6)
    spoil(engine, "DELETE FROM task_requests")
    seconds = itertools.count(0, GO_ON_S)
    looker.clock = lambda: float(next(seconds))
    assert looker.works(first or 0) == "read"
    assert looker.requests() == [second]


def test_a_worker_that_wakes_up_late_keeps_nothing(pve: ProxmoxServer, engine: Engine, looker: Looker) -> None:
    place(pve, engine)
    row_id = looker.asks()
    assert row_id is not None
    asks, turns = looker.source.measurements, list[str]()

    class Hangs:
        def measurements(
            self, node: str, guest_type: GuestType, vmid: int, fingerprint: str, name: str | None, timeframe: Timeframe
        ) -> Measurements | AnotherMachine | NotRead:
            answer = asks(node, guest_type, vmid, fingerprint, name, timeframe)
            if turns:
                return answer
            turns.append("it hangs")
            looker.ages(101)
            StatisticsReader(engine, lambda _: self, looker.rules).read(row_id or 0)
            assert isinstance(answer, Measurements)
            return replace(answer, points=())

    looker.source = Hangs()
    assert looker.works(row_id) == "another worker has it"
    assert looker.kept().points, "what the other worker read"


def test_a_worker_that_fails_gives_its_row_back(pve: ProxmoxServer, engine: Engine, looker: Looker) -> None:
    place(pve, engine)
    row_id = looker.asks()
    assert row_id is not None

    class Broken:
        def measurements(self, *_: object) -> Measurements:
            raise RuntimeError("a bug")

    working, looker.source = looker.source, Broken()
    with pytest.raises(RuntimeError):
        looker.works(row_id)
    assert problem(engine, row_id) == "failed"
    looker.source = working
    looker.ages(21)
    assert looker.looks().problem is None
