"""Stories of an old fleet: guests that nobody ordered, and the operator who gives them to orders."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import structlog
from sqlalchemy import Engine, text

from domain.guests import GuestType
from panel.adoptions.decisions import STILL_WAITS, AdoptionView, list_adoptions
from panel.adoptions.inbox import GuestlessOrder, InboxGuest, guestless_orders, unmanaged_guests
from panel.adoptions.known import Reading
from panel.operator_error import OperatorError
from panel.operators.actions import adoptions
from panel.operators.actions.adoptions import SeenGuest
from panel.operators.audit import Actor, list_actions
from panel.operators.pauses import pause, resume
from reconcile import run as runs
from tests.stories.steps import held_sets, record, sell_converged
from tests.support.bench import Bench, bench
from tests.support.databases import Database
from tests.support.stand_ins.webhook_receiver import events, want_events

OLGA, BORIS = Actor("api:olga", "operate"), Actor("api:boris", "operate")
UUID = "0b7a4a4e-3c8b-4b0e-9d55-0f1f3b7a1c11"
OTHER_UUID = "6a0c8a0e-74c6-4e7e-9b5e-1f5f0f3c9a33"
UNMANAGED = ("unmanaged-guest", "guest:main/900")


def old_guest(world: Bench, vmid: int = 900, uuid: str = UUID, name: str = "mail") -> None:
    """A guest of the old fleet, of the size that the simulated main site sells."""
    world.pve.add_guest(vmid, name=name, uuid=uuid, cores=2, memory_mb=4096, disk_gb=50)


def bare_order(world: Bench, name: str = "mail", *, user_id: int = 1, notify: bool = True) -> str:
    """An order whose guest the main site does not name."""
    placed = world.site.place_order(user_id=user_id, name=name, create_guest=False, notify=notify)
    world.site.set_status(placed.id, "running", notify=notify)
    world.drain()
    return str(placed.id)


def inbox(world: Bench) -> list[InboxGuest]:
    with world.engine.connect() as connection:
        return unmanaged_guests(connection, Reading.of(world.settings))


def waiting_orders(world: Bench) -> list[GuestlessOrder]:
    with world.engine.connect() as connection:
        return guestless_orders(connection, Reading.of(world.settings))


def adopt(world: Bench, guest: InboxGuest, actor: Actor = OLGA, **into: Any) -> AdoptionView:
    seen = SeenGuest(guest.key, GuestType(guest.guest_type), guest.fingerprint or "")
    with world.engine.begin() as connection:
        reading = Reading.of(world.settings)
        return adoptions.adopt(connection, actor, seen, "the old fleet", reading, **into).result


def adoption(world: Bench) -> AdoptionView:
    """The only adoption, waiting or ended."""
    with world.engine.connect() as connection:
        (only,) = [*list_adoptions(connection), *list_adoptions(connection, ended=True)]
    return only


def old_fleet(world: Bench) -> tuple[InboxGuest, str]:
    """One old guest, shown to an operator, and the order that it belongs to."""
    old_guest(world)
    order = bare_order(world)
    world.run(2)
    (guest,) = inbox(world)
    return guest, order


def records_of(world: Bench, order: str) -> list[dict[str, Any]]:
    return [row for row in world.vps() if row["order_id"] == order]


def test_an_adopted_guest_is_linked_by_the_next_run(world: Bench) -> None:
    guest, order = old_fleet(world)
    (candidate,) = guest.candidates
    assert (candidate.order_id, candidate.user_id, candidate.obstacle) == (order, 5, None)
    assert candidate.evidence[0] == "the guest and the order have the name mail"
    assert [one.order_id for one in waiting_orders(world)] == [order]
    (before,) = records_of(world, order)
    adopt(world, guest, order_id=order)
    assert record(world, before["id"])["vmid"] is None, "the operator writes no record"
    assert inbox(world)[0].waits
    world.run()
    (after,) = records_of(world, order)
    assert (after["id"], after["cluster"], after["vmid"], after["link_state"]) == (
        before["id"],
        "main",
        900,
        "verified",
    )
    assert (after["fingerprint"], after["user_id"]) == (f"smbios:{UUID}", before["user_id"])
    done = adoption(world)
    assert (done.outcome, done.vps_id, done.why) == ("linked", after["id"], None)
    assert "cores, memory and disk are as the order says" in done.evidence
    (link,) = [row for row in world.repairs() if (row["evidence"] or {}).get("adoption") == done.id]
    assert (link["source"], link["vps_id"], link["evidence"]["adopted_because"]) == (
        "operator",
        after["id"],
        done.reason,
    )
    assert "an operator adopted guest main/900 into order" in link["reason"]
    assert link["evidence"]["adopted_by"] == "api:olga"
    assert "confirmed_same" in link["evidence"], "the machine was looked at once more"
    with world.engine.connect() as connection:
        told = {(row.action, row.subject) for row in list_actions(connection, 50) if row.by == "api:olga"}
    about = ("guest:main/900", f"order:{order}", f"vps:{after['id']}")
    assert told == {("adopt guest", subject) for subject in about}
    assert not inbox(world)
    assert not waiting_orders(world)
    world.run()
    assert UNMANAGED not in world.findings()
    assert record(world, after["id"])["power_state"] == "running"
    outcome = world.run().outcome
    assert outcome is not None
    assert not outcome.applied, "and then all is as it should be"


def activity(world: Bench, user_id: int) -> list[dict[str, Any]]:
    """What happened to this customer's VPS, as their pages may read it."""
    with world.engine.begin() as connection:
        connection.execute(text("SET LOCAL ROLE panel_client"))
        connection.execute(text("SELECT set_config('panel.user_id', :id, true)"), {"id": str(user_id)})
        return [dict(row._mapping) for row in connection.execute(text("SELECT * FROM client_activity"))]


def test_who_adopted_it_and_why_stays_in_the_panel(world: Bench) -> None:
    """The main site and the customer are told what changed, and logs keep no words of operators."""
    want_events(world.engine)
    guest, order = old_fleet(world)
    adopt(world, guest, order_id=order)
    with structlog.testing.capture_logs() as logs:
        world.run()
    (linked,) = [event["body"] for event in events(world.engine) if "adopted guest main/900" in event["body"]]
    assert [line for line in logs if "adopted guest main/900" in str(line)]
    (vps,) = records_of(world, order)
    assert activity(world, vps["user_id"])
    for told in (linked, str(logs), str(world.client_sees(vps["user_id"])), str(activity(world, vps["user_id"]))):
        assert "olga" not in told
        assert "the old fleet" not in told


def test_the_address_in_its_configuration_finds_the_order(world: Bench) -> None:
    world.pve.add_guest(900, name="old-7", cores=8, ip_address="198.51.100.9")
    world.pve.add_guest(901, name="old-8", type="lxc", ip_address="198.51.100.11")
    right, other = bare_order(world, "web"), bare_order(world, "mail")
    for order, address in ((right, "198.51.100.9"), (other, "198.51.100.10")):
        world.site.change_order(int(order), ip_address=address)
    world.run(2)
    guest, container = inbox(world)
    assert (guest.ip_address, container.ip_address) == ("198.51.100.9", "198.51.100.11")
    first = guest.candidates[0]
    assert (first.order_id, first.evidence[0]) == (right, "the guest has the order's address 198.51.100.9")


def test_an_order_without_a_record_gets_its_record_with_the_guest(world: Bench) -> None:
    with world.engine.begin() as connection:  # so that no run makes the record before the guest is adopted
        pause(connection, "user:5", "the old fleet moves in", timedelta(hours=1), "cli:olga")
    old_guest(world)
    order = bare_order(world, notify=False)
    world.run(2)
    assert records_of(world, order) == []
    (guest,) = inbox(world)
    adopt(world, guest, order_id=order)
    with world.engine.begin() as connection:
        resume(connection, "user:5")
    world.run()
    (row,) = records_of(world, order)
    assert (row["vmid"], row["user_id"], row["link_state"]) == (900, 5, "verified")
    assert (adoption(world).outcome, adoption(world).vps_id) == ("linked", row["id"])


def test_a_vmid_that_was_sold_again_is_refused_once_the_panel_knows_it(world: Bench) -> None:
    guest, order = old_fleet(world)
    world.pve.change_guest(900, uuid=OTHER_UUID, name="next")
    world.run()
    with pytest.raises(OperatorError, match="another machine than the one you saw"):
        adopt(world, guest, order_id=order)


def test_a_vmid_that_was_sold_again_just_now_is_never_linked(world: Bench) -> None:
    guest, order = old_fleet(world)
    world.pve.change_guest(900, uuid=OTHER_UUID)
    adopt(world, guest, order_id=order)
    world.run(2)
    lapsed = adoption(world)
    assert lapsed.outcome == "lapsed"
    became = f"smbios:{UUID} was adopted, and it is smbios:{OTHER_UUID}"
    assert lapsed.why == f"guest main/900 is another machine by now: {became}"
    assert [row["vmid"] for row in records_of(world, order)] == [None]
    (shown,) = inbox(world)
    assert (shown.fingerprint, shown.adoption) == (f"smbios:{OTHER_UUID}", lapsed), "the operator is told"


def test_a_vmid_that_is_sold_again_while_the_run_decides_is_never_linked(
    world: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    guest, order = old_fleet(world)
    adopt(world, guest, order_id=order)
    write = runs.write_plan

    def sold_again(*args: Any) -> Any:
        world.pve.remove_guest(900)
        old_guest(world, uuid=OTHER_UUID)
        return write(*args)

    monkeypatch.setattr(runs, "write_plan", sold_again)
    world.run()
    assert [row["vmid"] for row in records_of(world, order)] == [None]
    assert adoption(world).outcome is None
    monkeypatch.setattr(runs, "write_plan", write)
    world.run(2)
    assert adoption(world).outcome == "lapsed"


def test_of_two_operators_one_is_first(world: Bench) -> None:
    guest, order = old_fleet(world)
    other = bare_order(world, "other")
    old_guest(world, 901, OTHER_UUID, "other")
    world.run(2)
    adopt(world, guest, order_id=order)
    with pytest.raises(OperatorError, match=f"guest main/900 is adopted already: api:olga gave .* to order {order}"):
        adopt(world, guest, BORIS, order_id=other)
    second = next(one for one in inbox(world) if one.vmid == 901)
    with pytest.raises(OperatorError, match=f"order {order} is adopted already: api:olga gave guest main/900"):
        adopt(world, second, BORIS, order_id=order)
    world.run()
    assert [row["vmid"] for row in records_of(world, order)] == [900]
    assert [row["vmid"] for row in records_of(world, other)] == [None]


def test_a_guest_that_a_call_takes_meanwhile_stays_with_that_call(world: Bench) -> None:
    guest, order = old_fleet(world)
    adopt(world, guest, order_id=order)
    answer = world.call(
        "create", user_id=6, name="taken", cpu=2, ram=4096, disk=50, os="Ubuntu 22.04", status="running",
        hypervisor="proxmox", cluster="main", vmid=900, guest_type="qemu",
    )  # fmt: skip
    assert answer.status_code in (200, 201, 202), answer.text
    world.drain()
    world.run()
    assert [row["vmid"] for row in records_of(world, order)] == [None]
    lapsed = adoption(world)
    assert lapsed.outcome == "lapsed"
    assert "is linked to VPS" in (lapsed.why or "")


def test_it_is_no_way_to_another_owner(world: Bench) -> None:
    guest, order = old_fleet(world)
    adopt(world, guest, order_id=order)
    world.site.change_order(int(order), user_id=2)
    world.run()
    lapsed = adoption(world)
    assert (lapsed.outcome, lapsed.user_id) == ("lapsed", 5)
    assert "another customer than when the guest was adopted" in (lapsed.why or "")
    assert [row["vmid"] for row in records_of(world, order)] == [None]


def test_a_withdrawn_adoption_is_not_followed(world: Bench) -> None:
    guest, order = old_fleet(world)
    (row,) = records_of(world, order)
    stored = adopt(world, guest, vps_id=row["id"])
    assert stored.order_id == order, "a VPS names its order"
    withdraw(world, stored)
    world.run()
    assert [row["vmid"] for row in records_of(world, order)] == [None]
    assert (adoption(world).outcome, adoption(world).ended_by) == ("withdrawn", "api:boris")
    with pytest.raises(OperatorError, match="is withdrawn already"):
        withdraw(world, stored)


def test_one_that_is_withdrawn_while_the_run_decides_is_not_followed(
    world: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    guest, order = old_fleet(world)
    stored = adopt(world, guest, order_id=order)
    write = runs.write_plan

    def withdrawn(*args: Any) -> Any:
        withdraw(world, stored)
        return write(*args)

    monkeypatch.setattr(runs, "write_plan", withdrawn)
    world.run()
    assert [row["vmid"] for row in records_of(world, order)] == [None]
    assert adoption(world).outcome == "withdrawn"


def test_one_that_the_policy_holds_says_where_to_look(database: Database, engine: Engine) -> None:
    with bench(database, engine, repair_policy={"all": "hold"}) as world:
        guest, order = old_fleet(world)
        adopt(world, guest, order_id=order)
        world.run()
        waiting = adoption(world)
        assert (waiting.outcome, waiting.why) == (None, STILL_WAITS)
        (held,) = (one for one in held_sets(world) if one.scope == "class:link")
        assert order in str(held.items)


def test_a_dry_run_shows_it_and_writes_nothing(world: Bench) -> None:
    guest, order = old_fleet(world)
    stored = adopt(world, guest, order_id=order)
    world.clock.tick()
    shown = runs.run_full(world.reconciler(), trigger="test", dry=True)
    assert shown.plan is not None
    assert [change.adoption for change in shown.plan.changes if change.adoption] == [stored.id]
    assert adoption(world) == stored
    assert [row["vmid"] for row in records_of(world, order)] == [None]


def test_what_cannot_be_adopted_is_refused_with_the_way_out(world: Bench) -> None:
    sold = sell_converged(world, "web-01")
    guest, _ = old_fleet(world)
    refused: list[tuple[dict[str, Any], str]] = [
        ({"order_id": "999999"}, "create the order there first"),
        ({"order_id": str(sold.order_id)}, "the main site's word counts"),
        ({"vps_id": 999_999}, "does not exist in the panel"),
        ({}, "name either the order or the VPS"),
    ]
    for into, why in refused:
        with pytest.raises(OperatorError, match=why):
            adopt(world, guest, **into)
    with pytest.raises(OperatorError, match="is not listed by Proxmox"):
        adopt(world, replace(guest, vmid=77), order_id="1")


def withdraw(world: Bench, stored: AdoptionView) -> None:
    with world.engine.begin() as connection:
        adoptions.withdraw(connection, BORIS, stored.id, "the wrong order")
