"""The reconciler's writes: only on what was decided on, only while the lease is held, merged rather than lost."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import OperationalError

from domain.changes import Create, Delete, Merge, Unlink
from panel.journal.accept import Acceptor
from panel.journal.calls import Call
from panel.journal.repairs import RULES, NotWritten, Written
from panel.journal.writer import apply_operation
from panel.runs.lease import FencedError
from panel.schema import tables
from tests.integration.panel.conftest import EPOCH, accepted, begin_run, count, decided_on, refused, setting, write
from tests.support.calls import PLAN, create_call, delete_call, update_call
from tests.support.fleets.world import journal, operation, vps_row
from tests.unit.reconcile.worlds import order

WHY: dict[str, Any] = {"source": "orders", "reason": "a test says so"}


async def made(acceptor: Acceptor, panel: Engine, **payload: Any) -> int:
    """A record, applied."""
    created = await accepted(acceptor, create_call(**payload))
    apply_operation(panel, created.operation_id)
    return created.vps_id


async def pushed(acceptor: Acceptor, panel: Engine, call: Call) -> None:
    apply_operation(panel, (await accepted(acceptor, call)).operation_id)


def stored(panel: Engine, vps_id: int) -> dict[str, Any]:
    row = vps_row(panel, vps_id)
    assert row is not None
    return row


STOPPED = {"power_state": "stopped", "power_source": "proxmox"}


class TestCompareAndSet:
    """A repair is written on the very version that it was decided on, or not at all."""

    async def test_values_that_the_database_refuses_end_nothing(self, acceptor: Acceptor, panel: Engine) -> None:
        vps_id = await made(acceptor, panel, status="running")
        run_id = begin_run(panel, EPOCH)
        written = write(panel, run_id, setting(vps_id, 1, cpu=2**40))
        assert isinstance(written, NotWritten)
        assert "22003" in written.why
        assert stored(panel, vps_id)["version"] == 1

    @pytest.mark.parametrize(
        ("values", "why"),
        [
            pytest.param({"order_id": "o-1"}, "another record holds this order (uq_vps_live_order_id)", id="order"),
            pytest.param(
                {"cluster": "main", "vmid": 100, "link_state": "pushed"},
                "another record holds this guest (uq_vps_live_guest)",
                id="guest",
            ),
            pytest.param({"user_id": 77}, "the panel does not know this owner (fk_vps_user_id_users)", id="owner"),
            pytest.param({"cpu": -1}, "the values break a rule of the table (ck_vps_plan_positive)", id="check"),
        ],
    )
    async def test_what_a_constraint_refuses_is_named(
        self, acceptor: Acceptor, panel: Engine, values: dict[str, Any], why: str
    ) -> None:
        await made(acceptor, panel, order_id="o-1", cluster="main", vmid=100)
        other = await made(acceptor, panel)
        outcome = write(panel, begin_run(panel), setting(other, 1, **values))
        assert outcome == NotWritten(why, refused=True)
        assert stored(panel, other)["version"] == 1

    def test_every_named_rule_is_one_of_the_tables(self) -> None:
        held = {c.name for table in tables.metadata.tables.values() for c in table.constraints}
        held |= {i.name for table in tables.metadata.tables.values() for i in table.indexes}
        assert RULES.keys() <= held

    async def test_writes_and_journals_why(self, acceptor: Acceptor, panel: Engine) -> None:
        vps_id = await made(acceptor, panel, status="running")
        run_id = begin_run(panel, EPOCH)
        written = write(panel, run_id, setting(vps_id, 1, **STOPPED))
        assert isinstance(written, Written)
        assert written.text == "running -> stopped"
        row = stored(panel, vps_id)
        assert (row["status"], row["version"], row["applied_seq"]) == ("stopped", 2, 2)
        entry = operation(panel, written.operation_id)
        assert (entry["kind"], entry["reason"], entry["evidence"], entry["run_id"], entry["epoch"]) == (
            "repair",
            "a test says so",
            {"snapshot": 1},
            run_id,
            EPOCH,
        )

    @pytest.mark.parametrize(
        ("meanwhile", "why"),
        [
            pytest.param("applied", "changed since it was looked at", id="a call was applied"),
            pytest.param("queued", "a newer call for VPS 1 is waiting", id="a call is queued"),
            pytest.param("deleted", "changed since it was looked at", id="it was deleted"),
        ],
    )
    async def test_a_newer_call_wins(self, acceptor: Acceptor, panel: Engine, meanwhile: str, why: str) -> None:
        vps_id = await made(acceptor, panel, status="running")
        call = delete_call(vps_id) if meanwhile == "deleted" else update_call(vps_id, "running")
        answer = await accepted(acceptor, call)
        if meanwhile != "queued":
            apply_operation(panel, answer.operation_id)
        before = vps_row(panel, vps_id)
        outcome = write(panel, begin_run(panel), setting(vps_id, 1, **STOPPED))
        assert isinstance(outcome, NotWritten)
        assert why in outcome.why
        assert vps_row(panel, vps_id) == before

    def test_what_has_no_record_is_not_written(self, panel: Engine) -> None:
        outcome = write(panel, begin_run(panel), setting(77, 1, **STOPPED))
        assert outcome == NotWritten("VPS 77 has no record")

    async def test_a_dead_operation_is_not_in_flight(self, acceptor: Acceptor, panel: Engine, owner: Engine) -> None:
        vps_id = await made(acceptor, panel)
        broken = await accepted(acceptor, update_call(vps_id))
        with owner.begin() as connection:
            connection.execute(
                text("UPDATE operations SET payload = '{\"ram\": 1}' WHERE id = :id"), {"id": broken.operation_id}
            )
        while apply_operation(panel, broken.operation_id).state == "queued":
            pass
        written = write(panel, begin_run(panel), setting(vps_id, 1, **STOPPED))
        assert isinstance(written, Written)


class TestFence:
    """A run that lost its lease writes nothing more."""

    async def test_an_older_epoch_is_refused(self, acceptor: Acceptor, panel: Engine) -> None:
        vps_id = await made(acceptor, panel)
        run_id = begin_run(panel, 1)
        begin_run(panel, 2)
        with pytest.raises(FencedError):
            write(panel, run_id, setting(vps_id, 1, **STOPPED))
        assert len(journal(panel, vps_id)) == 1

    def test_without_any_lease_too(self, panel: Engine) -> None:
        with pytest.raises(FencedError):
            write(panel, 1, setting(1, 1))

    async def test_a_new_holder_waits_for_a_write_under_way(self, acceptor: Acceptor, panel: Engine) -> None:
        await made(acceptor, panel)
        begin_run(panel, 1)
        with panel.begin() as writing:
            writing.execute(text("SELECT epoch FROM leases WHERE name = 'reconcile' FOR SHARE"))
            with panel.connect() as taking:
                taking.execute(text("SET lock_timeout = '100ms'"))
                with pytest.raises(OperationalError, match="lock timeout"):
                    taking.execute(text("UPDATE leases SET epoch = 2"))


LINK = {
    "cluster": "main",
    "node": "pve1",
    "vmid": 100,
    "guest_type": "qemu",
    "fingerprint": "f",
    "link_state": "verified",
}


def create(**link: Any) -> Create:
    """The record of order o-1, running."""
    sold = {"name": PLAN["name"], "cpu": PLAN["cpu"], "ram_mb": PLAN["ram"], "disk_gb": PLAN["disk"], "os": PLAN["os"]}
    states = {"order_state": "active", "power_state": "running"}
    whose = {"user_id": PLAN["user_id"], "hypervisor": PLAN["hypervisor"], "order_id": "o-1"}
    return Create(**WHY, order=order(order_id="o-1", mapped_at=None), values=whose | sold | states | link)


class TestCreate:
    """A lost create is made up for once; the main site's own late one finds it."""

    async def test_makes_a_linked_record_that_the_late_call_finds(self, acceptor: Acceptor, panel: Engine) -> None:
        written = write(panel, begin_run(panel), create(**LINK))
        assert isinstance(written, Written)
        row = stored(panel, written.vps_id)
        assert (row["status"], row["order_id"], row["vmid"], row["link_state"]) == ("running", "o-1", 100, "verified")
        assert (row["order_linked_once"], row["guest_linked_once"]) == (True, True)
        late = await accepted(acceptor, create_call(order_id="o-1"))
        assert (late.vps_id, late.created) == (written.vps_id, False)
        assert late.operation_id == written.operation_id

    async def test_not_while_the_order_s_own_create_is_on_its_way(self, acceptor: Acceptor, panel: Engine) -> None:
        created = await accepted(acceptor, create_call(order_id="o-1"))
        outcome = write(panel, begin_run(panel), create())
        why = f"order o-1 is claimed by VPS {created.vps_id}: its record exists or is on its way"
        assert outcome == NotWritten(why)

    async def test_not_for_a_user_who_was_mapped_anew_since(self, panel: Engine) -> None:
        """The map was wrong when the run looked, and an operator corrected it before the run wrote."""
        asked, decided = begin_run(panel), create()
        with panel.begin() as connection:
            now = connection.scalar(text("SELECT mapped_at FROM users WHERE id = :id"), {"id": PLAN["user_id"]})
        as_decided = replace(decided, order=order(order_id="o-1", mapped_at=now))
        with panel.begin() as connection:
            connection.execute(text("UPDATE users SET mapped_at = clock_timestamp()"))
        outcome = write(panel, asked, as_decided)
        assert outcome == NotWritten(f"user {PLAN['user_id']} was mapped anew since order o-1 was looked at")
        assert count(panel, "vps") == 0

    async def test_not_for_a_guest_that_is_linked_elsewhere(self, acceptor: Acceptor, panel: Engine) -> None:
        await made(acceptor, panel, cluster="main", vmid=100)
        outcome = write(panel, begin_run(panel), create(**LINK))
        assert isinstance(outcome, NotWritten)
        assert "uq_vps_live_guest" in outcome.why
        assert count(panel, "vps") == 1
        assert count(panel, "vps_queues") == 1

    async def test_again_after_the_order_s_record_was_deleted(self, acceptor: Acceptor, panel: Engine) -> None:
        old = await made(acceptor, panel, order_id="o-1")
        await pushed(acceptor, panel, delete_call(old))
        written = write(panel, begin_run(panel), create())
        assert isinstance(written, Written)
        assert written.vps_id != old


async def test_a_repaired_delete_is_a_tombstone_for_later_calls(acceptor: Acceptor, panel: Engine) -> None:
    vps_id = await made(acceptor, panel)
    written = write(panel, begin_run(panel), Delete(**WHY, record=decided_on(vps_id, 1)))
    assert isinstance(written, Written)
    assert stored(panel, vps_id)["deleted_reason"] == "a test says so"
    assert (await refused(acceptor, update_call(vps_id))).code == "vps_deleted"
    again = await accepted(acceptor, delete_call(vps_id))
    assert (again.created, again.operation_id) == (False, written.operation_id)


@pytest.mark.parametrize(
    ("fingerprint", "link_state", "left"),
    [("smbios:a", "verified", "unlinked"), ("smbios:a", "pushed", "conflict"), (None, "pushed", "conflict")],
)
async def test_unlinking_frees_the_guest_for_another(
    acceptor: Acceptor, panel: Engine, fingerprint: str | None, link_state: str, left: str
) -> None:
    """A machine that was never seen there, or is not known to be the record's any more, may not have been replaced."""
    vps_id = await made(acceptor, panel, status="running", cluster="main", vmid=100)
    with panel.begin() as connection:
        connection.execute(
            text("UPDATE vps SET fingerprint = :fingerprint, link_state = :state WHERE id = :id"),
            {"fingerprint": fingerprint, "state": link_state, "id": vps_id},
        )
    run_id = begin_run(panel)
    assert isinstance(write(panel, run_id, Unlink(**WHY, record=decided_on(vps_id, 1))), Written)
    row = stored(panel, vps_id)
    assert (row["cluster"], row["vmid"], row["link_state"], row["status"]) == (None, None, left, "running")
    taken = write(panel, run_id, create(**LINK))
    assert isinstance(taken, Written)


class TestMerge:
    """Two records of one thing become one; either id reaches it afterwards."""

    async def pair(self, acceptor: Acceptor, panel: Engine) -> tuple[int, int]:
        """(loser, survivor): the loser has the order and the guest, the survivor is what the main site uses."""
        loser = await made(acceptor, panel, order_id="o-1", cluster="main", vmid=100)
        survivor = await made(acceptor, panel)
        return loser, survivor

    def merge(self, panel: Engine, loser: int, survivor: int) -> Written | NotWritten:
        change = Merge(**WHY, record=decided_on(loser, 1), survivor=decided_on(survivor, 1))
        return write(panel, begin_run(panel), change)

    async def test_the_survivor_takes_over_what_it_lacks(self, acceptor: Acceptor, panel: Engine) -> None:
        loser, survivor = await self.pair(acceptor, panel)
        written = self.merge(panel, loser, survivor)
        assert isinstance(written, Written)
        assert written.text == f"merged into vps={survivor}"
        kept, lost = stored(panel, survivor), stored(panel, loser)
        assert (kept["order_id"], kept["cluster"], kept["vmid"], kept["deleted_at"]) == ("o-1", "main", 100, None)
        assert (lost["merged_into"], lost["deleted_reason"]) == (survivor, "merged")
        assert [row["action"] for row in journal(panel, survivor)] == ["create", "update"]

    @pytest.mark.parametrize("takes", [True, False])
    async def test_the_survivor_takes_the_guest_that_is_there(
        self, acceptor: Acceptor, panel: Engine, *, takes: bool
    ) -> None:
        loser = await made(acceptor, panel, order_id="o-1", cluster="main", vmid=105)
        survivor = await made(acceptor, panel, cluster="main", vmid=100)
        change = Merge(**WHY, record=decided_on(loser, 1), survivor=decided_on(survivor, 1), takes_guest=takes)
        assert isinstance(write(panel, begin_run(panel), change), Written)
        assert (stored(panel, survivor)["vmid"], stored(panel, survivor)["order_id"]) == (105 if takes else 100, "o-1")
        assert stored(panel, loser)["merged_into"] == survivor

    async def test_calls_by_either_id_or_by_the_order_reach_it(self, acceptor: Acceptor, panel: Engine) -> None:
        loser, survivor = await self.pair(acceptor, panel)
        self.merge(panel, loser, survivor)
        for call in (update_call(loser), update_call(survivor), update_call(None, order_id="o-1")):
            answer = await accepted(acceptor, call)
            assert answer.vps_id == survivor
            assert answer.record["id"] == survivor
            apply_operation(panel, answer.operation_id)
        assert stored(panel, survivor)["status"] == "running"
        deleted = await accepted(acceptor, delete_call(loser))
        assert deleted.vps_id == survivor

    async def test_a_chain_of_merges_is_followed_to_its_end(self, acceptor: Acceptor, panel: Engine) -> None:
        first, second, third = [await made(acceptor, panel, name=name) for name in "abc"]
        assert isinstance(self.merge(panel, first, second), Written)
        change = Merge(**WHY, record=decided_on(second, 2), survivor=decided_on(third, 1))
        assert isinstance(write(panel, begin_run(panel), change), Written)
        assert (await accepted(acceptor, update_call(first))).vps_id == third

    async def test_never_across_owners(self, acceptor: Acceptor, panel: Engine) -> None:
        mine, theirs = await made(acceptor, panel), await made(acceptor, panel, user_id=6)
        assert self.merge(panel, mine, theirs) == NotWritten("the two records have different owners")
        assert stored(panel, mine)["deleted_at"] is None

    @pytest.mark.parametrize("changed", ["loser", "survivor"])
    async def test_not_when_either_changed(self, acceptor: Acceptor, panel: Engine, changed: str) -> None:
        loser, survivor = await self.pair(acceptor, panel)
        await pushed(acceptor, panel, update_call(loser if changed == "loser" else survivor))
        assert isinstance(self.merge(panel, loser, survivor), NotWritten)
        assert stored(panel, loser)["merged_into"] is None
