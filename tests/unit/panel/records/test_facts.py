"""What calls make of a record: laws that hold for every sequence of calls."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from domain.guests import PowerState
from domain.orders import OrderState
from panel.journal.rows import difference
from panel.records.projection import PUSHED, new_row, project, unlinked, updated_row, with_status
from panel.records.public import public_record
from panel.schema import tables

START = datetime(2026, 1, 1, tzinfo=UTC)
STATUSES = sorted(PUSHED)

statuses = st.sampled_from(STATUSES)
names = st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), min_size=1, max_size=8)
links: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.just({}),
    st.fixed_dictionaries(
        {"cluster": st.sampled_from(["a", "b"]), "vmid": st.integers(100, 103)},
        optional={"node": st.sampled_from(["n1", "n2"]), "guest_type": st.sampled_from(["qemu", "lxc"])},
    ),
)


def payloads(*required: str) -> st.SearchStrategy[dict[str, Any]]:
    fields: dict[str, st.SearchStrategy[Any]] = {
        "user_id": st.integers(1, 9),
        "name": names,
        "status": statuses,
        "cpu": st.integers(1, 64),
        "ram": st.integers(128, 2**20),
        "disk": st.integers(1, 2**16),
        "os": names,
        "hypervisor": st.sampled_from(["proxmox", "vmware"]),
        "ip_address": st.sampled_from(["192.0.2.1", "2001:db8::1"]),
        "ip6_address": st.sampled_from(["2001:db8::2", "2001:db8::3"]),
        "order_id": st.sampled_from(["o-1", "o-2"]),
    }
    needed = {name: fields[name] for name in required}
    rest = {name: value for name, value in fields.items() if name not in required}
    plain = st.fixed_dictionaries(needed, optional=rest)
    return st.builds(lambda fields, link: fields | link, plain, links)


creates = payloads("user_id", "name", "status", "cpu", "ram", "disk", "os", "hypervisor")
updates = payloads("status")
histories = st.lists(st.one_of(updates.map(lambda p: ("update", p)), st.just(("delete", {}))), max_size=6)


def operations(create: Mapping[str, Any], history: list[tuple[str, dict[str, Any]]]) -> list[dict[str, Any]]:
    calls = [("create", create), *history]
    return [
        {"vps_id": 1, "action": action, "payload": payload, "accepted_at": START + timedelta(minutes=n)}
        for n, (action, payload) in enumerate(calls)
    ]


@given(creates, histories)
def test_what_is_answered_is_what_is_applied_step_by_step(
    create: dict[str, Any], history: list[tuple[str, dict[str, Any]]]
) -> None:
    queue = operations(create, history)
    stepwise = None
    for operation in queue:
        stepwise = project(stepwise, [operation])
    assert project(None, queue) == stepwise


@given(creates)
def test_a_new_row_has_exactly_the_table_s_columns(create: dict[str, Any]) -> None:
    assert set(new_row(1, create, START)) == {column.name for column in tables.vps.columns}


@given(creates, histories)
def test_every_row_satisfies_the_table_s_checks(
    create: dict[str, Any], history: list[tuple[str, dict[str, Any]]]
) -> None:
    row = project(None, operations(create, history))
    assert row is not None
    assert (row["cluster"] is None) == (row["vmid"] is None)
    assert (row["link_state"] in ("unlinked", "conflict")) == (row["vmid"] is None)
    assert (row["deleted_at"] is None) == (row["deleted_reason"] is None)
    assert row["status"] in STATUSES


@given(creates, updates)
def test_an_update_never_changes_the_owner_nor_the_order(create: dict[str, Any], update: dict[str, Any]) -> None:
    row = new_row(1, create, START)
    after = updated_row(row, update, START + timedelta(minutes=1))
    assert after["user_id"] == row["user_id"]
    assert row["order_id"] in (None, after["order_id"])
    assert after["created_at"] == row["created_at"]


@given(creates, updates)
def test_the_same_update_twice_changes_only_times(create: dict[str, Any], update: dict[str, Any]) -> None:
    once = updated_row(new_row(1, create, START), update, START + timedelta(minutes=1))
    twice = updated_row(once, update, START + timedelta(minutes=2))
    assert difference(once, twice)[1] == {}


@given(creates, updates)
def test_a_row_is_not_changed_in_place(create: dict[str, Any], update: dict[str, Any]) -> None:
    row = new_row(1, create, START)
    before = dict(row)
    updated_row(row, update, START + timedelta(minutes=1))
    unlinked(row, START)
    assert row == before


@given(creates, statuses)
def test_a_pushed_status_is_shown_at_once_unless_a_fact_says_more(create: dict[str, Any], status: str) -> None:
    after = updated_row(new_row(1, create, START), {"status": status}, START + timedelta(minutes=1))
    assert after["status"] == status


@given(creates, statuses)
def test_suspension_keeps_what_is_known_of_the_guest(create: dict[str, Any], before: str) -> None:
    row = updated_row(new_row(1, create, START), {"status": before}, START + timedelta(minutes=1))
    suspended = updated_row(row, {"status": "suspended"}, START + timedelta(minutes=2))
    assert (suspended["power_state"], suspended["power_changed_at"]) == (row["power_state"], row["power_changed_at"])
    assert suspended["order_state"] == OrderState.SUSPENDED.value


@given(creates, st.sampled_from(list(PowerState)))
def test_no_power_state_lifts_a_suspension(create: dict[str, Any], power: PowerState) -> None:
    row = new_row(1, create | {"status": "suspended"}, START)
    assert with_status(row | {"power_state": power.value})["status"] == "suspended"


@given(creates, updates)
def test_naming_the_guest_the_record_has_keeps_its_link(create: dict[str, Any], update: dict[str, Any]) -> None:
    row = new_row(1, create | {"cluster": "a", "vmid": 100}, START) | {
        "link_state": "verified",
        "fingerprint": "f",
        "node": "n9",
    }
    same = updated_row(row, update | {"cluster": "a", "vmid": 100, "node": "n1"}, START + timedelta(minutes=1))
    assert (same["link_state"], same["fingerprint"], same["node"]) == ("verified", "f", "n9")
    fixed = updated_row(row, update | {"cluster": "a", "vmid": 100, "guest_type": "lxc"}, START + timedelta(minutes=1))
    assert (fixed["guest_type"], fixed["link_changed_at"]) == (row["guest_type"], row["link_changed_at"]), "it was seen"
    other = updated_row(row, update | {"cluster": "b", "vmid": 100}, START + timedelta(minutes=1))
    assert (other["link_state"], other["fingerprint"]) == ("pushed", None)


@given(creates, updates)
def test_what_a_call_said_of_a_guest_that_nobody_looked_at_yet_a_later_one_corrects(
    create: dict[str, Any], update: dict[str, Any]
) -> None:
    told = {"cluster": "a", "vmid": 100, "node": "n1", "guest_type": "qemu"}
    row, at = new_row(1, create | told, START), START + timedelta(minutes=1)
    fixed = updated_row(row, update | told | {"guest_type": "lxc"}, at)
    assert (fixed["guest_type"], fixed["node"], fixed["link_state"]) == ("lxc", "n1", "pushed")
    assert fixed["link_changed_at"] == at, "what was read before says nothing of it"
    same = updated_row(row, update | told, at)
    assert (same["guest_type"], same["node"], same["link_changed_at"]) == ("qemu", "n1", START)


@given(creates)
def test_the_public_record_speaks_the_contract_s_units(create: dict[str, Any]) -> None:
    record = public_record(new_row(7, create, START))
    assert record["id"] == 7
    for field in ("user_id", "name", "cpu", "ram", "disk", "os", "hypervisor"):
        assert record[field] == create[field]
    assert not {"cluster", "node", "vmid", "fingerprint", "version"} & set(record)


def test_a_call_that_names_its_order_has_linked_it() -> None:
    """Else a record whose order and guest both vanish later would never count as an orphan."""
    payload = {
        "user_id": 5, "name": "web", "status": "running", "cpu": 2, "ram": 2048, "disk": 20, "os": "Debian",
        "hypervisor": "proxmox",
    }  # fmt: skip
    at = datetime(2026, 6, 1, tzinfo=UTC)
    loose = new_row(1, payload, at)
    assert not loose["order_linked_once"]
    assert updated_row(loose, {"order_id": "7"}, at)["order_linked_once"]
    assert new_row(1, payload | {"order_id": "7"}, at)["order_linked_once"]
