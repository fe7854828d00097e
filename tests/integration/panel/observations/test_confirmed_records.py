"""Which records a trusted read confirms: the joins of whole tables say of each record what a plain rule says of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any, NamedTuple

from sqlalchemy import Connection, Engine, text

from panel.journal.repairs import note_confirmations
from panel.observations.power_drift import load_power_drift
from panel.observations.proof import Proof
from panel.observations.snapshots import make_stages
from tests.support.fleets.world import add_user

BEGAN = datetime(2026, 6, 1, 12, tzinfo=UTC)
LONG_AGO = BEGAN - timedelta(days=1)
PROOF = Proof(3, timedelta(minutes=10))


class Case(NamedTuple):
    """A record, its guest and the orders that name the two. ``guest``: the power it shows, None: there is no guest.
    ``own``, ``other``: the state of its order, and of another order that names the guest."""

    guest: str | None
    fingerprint: str | None
    state: str
    absent: bool
    own: str | None
    other: str | None
    marked: bool

    @property
    def sold_on(self) -> bool:
        return self.own != "active" and self.other in ("active", "missed")

    @property
    def confirmed(self) -> bool:
        its_own = self.fingerprint == "smbios:1" and self.state in ("read", "forbidden")
        return self.guest == "running" and its_own and not self.absent and not self.sold_on

    @property
    def drifts(self) -> bool:
        its_own = self.fingerprint == "smbios:1" and self.state == "read"
        return self.guest == "stopped" and its_own and not self.sold_on


CASES = [
    Case(*case)
    for case in product(
        ("running", "stopped", None), ("smbios:1", "smbios:2", None), ("read", "forbidden", "stale"), (False, True),
        ("active", "ended", "missed", None), ("active", "ended", "missed", "gone", None), (False, True),
    )
]  # fmt: skip


def test_every_record_is_marked_as_the_rule_says(engine: Engine) -> None:
    add_user(engine)
    with engine.connect() as connection:
        make_stages(connection)
        _put(connection)
        drift = load_power_drift(connection, ["main"], {}, {"main": BEGAN}, LONG_AGO, PROOF)
        note_confirmations(connection, {"main": BEGAN}, PROOF)
        marks = {row.id: row.power_unconfirmed_since for row in connection.execute(text(MARKS))}
        connection.rollback()
    for number, case in enumerate(CASES, 1):
        expected = None if case.confirmed else LONG_AGO if case.marked else BEGAN
        assert marks[number] == expected, case
    assert {record.id for record, _ in drift} == {number for number, case in enumerate(CASES, 1) if case.drifts}


def test_another_clusters_records_and_deleted_ones_are_left_alone(engine: Engine) -> None:
    add_user(engine)
    with engine.connect() as connection:
        make_stages(connection)
        _put(connection)
        connection.execute(text("UPDATE vps SET deleted_at = now(), deleted_reason = 'test' WHERE id % 2 = 0"))
        before = connection.execute(text(MARKS)).all()
        note_confirmations(connection, {"elsewhere": BEGAN}, PROOF)
        assert connection.execute(text(MARKS)).all() == before
        note_confirmations(connection, {"main": BEGAN}, PROOF)
        after = connection.execute(text(MARKS)).all()
        assert [row for row in after if row.id % 2 == 0] == [row for row in before if row.id % 2 == 0]
        assert after != before
        connection.rollback()


MARKS = "SELECT id, power_unconfirmed_since FROM vps ORDER BY id"


def _put(connection: Connection) -> None:
    rows = [(number, case, case._asdict()) for number, case in enumerate(CASES, 1)]
    for statement, wanted in (
        (RUN, [{"then": LONG_AGO}]),
        (QUEUE, [{"n": n} for n, *_ in rows]),
        (RECORD, [{"n": n, "since": LONG_AGO if case.marked else None, "then": LONG_AGO} for n, case, _ in rows]),
        (GUEST, [_guest(n, case) for n, case, _ in rows if case.guest is not None]),
        (LISTED, [_guest(n, case) for n, case, _ in rows if case.guest is not None]),
        (ABSENCE, [_absence("guest", f"main/{n}", 1) for n, case, _ in rows if case.guest and case.absent]),
        (ORDER, [_order(f"o{n}", n, case.own) for n, case, _ in rows if case.own is not None]),
        (ORDER, [_order(f"x{n}", n, case.other) for n, case, _ in rows if case.other is not None]),
        (ABSENCE, [_absence("order", f"o{n}", 1) for n, case, _ in rows if case.own == "missed"]),
        (ABSENCE, [_absence("order", f"x{n}", 1) for n, case, _ in rows if case.other == "missed"]),
        (ABSENCE, [_absence("order", f"x{n}", 9) for n, case, _ in rows if case.other == "gone"]),
    ):
        connection.execute(text(statement), wanted)


def _guest(number: int, case: Case) -> dict[str, Any]:
    # A number of its own behind each identity, so that no two machines are clones.
    fingerprint = None if case.fingerprint is None else f"{case.fingerprint}-{number}"
    return {"n": number, "power": case.guest, "fingerprint": fingerprint, "state": case.state, "then": LONG_AGO}


def _order(order_id: str, number: int, state: str) -> dict[str, Any]:
    unlisted = LONG_AGO if state in ("missed", "gone") else None
    word = "ended" if state == "ended" else "active"
    return {"id": order_id, "n": number, "state": word, "unlisted": unlisted, "then": LONG_AGO}


def _absence(kind: str, subject: str, times: int) -> dict[str, Any]:
    last = LONG_AGO + timedelta(hours=1)
    return {"kind": kind, "subject": subject, "times": times, "then": LONG_AGO, "last": last}


RUN = (
    "INSERT INTO runs (id, kind, trigger, epoch, state, started_at) OVERRIDING SYSTEM VALUE"
    " VALUES (1, 'full', 'test', 1, 'done', :then)"
)
QUEUE = "INSERT INTO vps_queues (vps_id, last_seq, applied_seq, queue_state) VALUES (:n, 1, 1, 'live')"
RECORD = (
    "INSERT INTO vps (id, user_id, name, cpu, ram_mb, disk_gb, os, hypervisor, order_id, order_state, order_source,"
    " order_changed_at, order_as_of, cluster, node, vmid, guest_type, fingerprint, link_state, link_changed_at,"
    " power_state, power_source, power_changed_at, power_as_of, owner_changed_at, plan_changed_at, status,"
    " applied_seq, version, created_at, updated_at, power_unconfirmed_since) OVERRIDING SYSTEM VALUE"
    " VALUES (:n, 5, 'web', 2, 2048, 10, 'debian', 'proxmox', 'o' || :n, 'active', 'orders', :then, :then, 'main',"
    " 'pve1', :n, 'qemu', 'smbios:1-' || :n, 'verified', :then, 'running', 'proxmox', :then, :then, :then, :then,"
    " 'running', 1, 1, :then, :then, :since)"
)
GUEST = (
    "INSERT INTO guests (cluster, vmid, guest_type, node, status, power, power_since, name, template, cores, memory_mb,"
    " disk_gb, signature, fingerprint, fingerprint_state, fingerprint_read_at, fingerprint_seen, fingerprint_since,"
    " first_seen_at, changed_at, read_at) VALUES ('main', :n, 'qemu', 'pve1', :power, :power, :then, 'web', false, 2,"
    " 2048, 10, 's', :fingerprint, :state, :then, 1, :then, :then, :then, :then)"
)
LISTED = (
    "INSERT INTO stage_guests (cluster, vmid, guest_type, node, status, power, template, tags)"
    " VALUES ('main', :n, 'qemu', 'pve1', :power, :power, false, '{}')"
)
ORDER = (
    "INSERT INTO orders_seen (order_id, state, status, state_since, owner_since, panel_vps_id_given, cluster, vmid,"
    " guest_since, first_seen_at, changed_at, effective_at, unlisted_since)"
    " VALUES (:id, :state, :state, :then, :then, false, 'main', :n, :then, :then, :then, :then, :unlisted)"
)
ABSENCE = (
    "INSERT INTO absences (kind, subject, absent_since, consecutive, last_absent_at, last_run_id, evidence)"
    " VALUES (:kind, :subject, :then, :times, :last, 1, '{}')"
)
