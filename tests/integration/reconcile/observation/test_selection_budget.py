"""What a run loads has a limit: whole components, in their turn, and what is too much for any run is told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, text

from domain.changes import Kind
from domain.guests import GuestType
from domain.left_out import LeftOut
from domain.repair_policy.budget import Budget
from panel.journal.rows import database_now
from panel.observations import candidates, components, left_out
from panel.observations.proof import Proof
from reconcile.decision.cases import Policy, World
from reconcile.decision.decide import plan
from reconcile.observation.observe import Observed
from reconcile.planning import entangled_findings
from reconcile.run import Reconciler, load_world
from tests.support.fleets.one_customer import FLEET
from tests.support.fleets.random_fleet import NoFeed, NoSource, scratch
from tests.support.fleets.world import add_user

PROOF = Proof(3, timedelta(minutes=10))


@contextmanager
def customer(engine: Engine, converged: int, loose: int, *changes: str) -> Iterator[Connection]:
    """One with so many machines in order, and so many records and orders that nothing joins yet."""
    add_user(engine, 5, main_site_user_id="77")
    with scratch(engine) as connection:
        for statement in FLEET:
            connection.execute(text(statement), {"converged": converged, "all": converged + loose})
        for change in changes:
            connection.execute(text(change))
        connection.execute(text("SELECT setseed(0.5)"))
        yield connection


def draw(connection: Connection, engine: Engine, budget: int | None = None) -> tuple[World, dict[str, Any], Observed]:
    """What a run would load."""
    nothing = timedelta(0)
    reconciler = Reconciler(
        engine, NoFeed(names=True), (NoSource("main"),), Policy(), Budget(), shared_ids=False, sweep_interval=nothing,
        users_interval=nothing,
    )  # fmt: skip
    now = database_now(connection)
    seen = Observed(began={"main": now}, previous={"main": now}, trusted={"main"}, orders_at=now)
    with connection.begin_nested() as once:
        world, counts = load_world(reconciler, connection, seen, budget=budget)
        once.rollback()
    return world, counts, seen


PAIRED = "UPDATE vps r SET name = o.name FROM orders_seen o WHERE o.order_id = r.id::text AND r.order_id IS NULL"
ONE_NAME = ("UPDATE vps SET name = 'web'", "UPDATE orders_seen SET name = 'web'")


def test_one_who_has_much_is_taken_in_parts(engine: Engine) -> None:
    """A dozen records and as many orders that names join: each with its own, and each in its turn."""
    budget, turns = 40, set[int]()
    with customer(engine, 20, 12, PAIRED) as connection:
        for _ in range(12):
            world, counts, _ = draw(connection, engine, budget)
            assert 0 < len(world.records) + len(world.orders) + len(world.guests) <= budget // 2
            assert sorted(r.name for r in world.records) == sorted(o.name or "" for o in world.orders)
            assert counts["cut"] == 24 - len(world.records) - len(world.orders)
            turns |= {r.id for r in world.records}
    assert len(turns) == 12


def test_what_is_too_much_for_a_run_is_named_and_keeps_nobody_waiting(engine: Engine) -> None:
    many = (f"{change} WHERE name <> 'sold-1'" for change in ONE_NAME)
    taken = set[str]()
    with customer(engine, 0, 20, PAIRED, *many) as connection:
        for _ in range(6):
            world, counts, seen = draw(connection, engine, 24)
            (told,) = entangled_findings(seen.entangled)
            assert (told.class_, told.subject, told.severity) == ("entangled", "vps:2", "alarm")
            assert told.reason.startswith("19 orders, 19 records and 0 guests of 1 customers hang together by ids,")
            assert (counts["entangled"], counts["cut"]) == (1, 40 - len(world.records) - len(world.orders))
            assert [r.name for r in world.records] == [o.name for o in world.orders]
            taken |= {r.name for r in world.records}
    assert taken == {"sold-1"}


def test_a_feed_that_is_off_by_one_makes_one_alarm(engine: Engine) -> None:
    """Each order names the next one's guest: all of them hang together, each by its neighbours."""
    with customer(engine, 40, 0, "UPDATE orders_seen SET vmid = vmid + 1") as connection:
        world, counts, seen = draw(connection, engine, 40)
    assert [(e.orders, e.records, e.guests) for e in seen.entangled] == [(40, 40, 41)]
    assert (world.orders, world.records, counts["cut"]) == ((), (), 120)


@pytest.mark.parametrize(("converged", "twins"), [(1, 1), (2, 0), (30, 0)])
def test_of_many_of_one_name_two_tell_that_a_record_is_none_of_theirs(
    engine: Engine, converged: int, twins: int
) -> None:
    """A record that nothing joins may double the machine of its name, if there is one alone."""
    nobodys = f"UPDATE orders_seen SET owner = 'somebody' WHERE order_id = '{converged + 1}'"
    with customer(engine, converged, 1, *ONE_NAME, nobodys) as connection:
        world, counts, _ = draw(connection, engine)
    assert counts["settled"] == converged
    assert len(world.orders) - 1 == len(world.guests) == min(converged, 2)
    assert sum(c.kind is Kind.MERGE for c in plan(world, Policy()).changes) == twins


def test_an_order_that_ended_before_is_no_match_for_a_record_of_its_name(engine: Engine) -> None:
    """Years of machines of one name, each cancelled long ago, are not loaded."""
    long_ago = (
        "UPDATE orders_seen SET state = 'ended', state_since = now() - interval '11 days' WHERE order_id <> '40'",
        "UPDATE vps SET deleted_at = now(), deleted_reason = 'sync' WHERE id <> 40",
    )
    with customer(engine, 0, 40, *ONE_NAME, *long_ago) as connection:
        world, _, _ = draw(connection, engine)
    assert [o.order_id for o in world.orders] == ["40"]
    assert [(c.kind, c.subject) for c in plan(world, Policy()).changes][:1] == [(Kind.LINK, "vps:40")]


LOOSE = "UPDATE vps SET order_id = NULL, created_at = now() - interval '10 days {minutes} minutes' WHERE id = 1"
NO_PLACE = "UPDATE orders_seen SET cluster = NULL, vmid = NULL, guest_type = 'lxc' WHERE order_id = '1'"
NO_MACHINE = "UPDATE vps SET fingerprint = NULL WHERE id = 1"
KVM = "UPDATE orders_seen SET hypervisor = 'kvm'"
GUESTLESS = LeftOut()
LEFT: tuple[tuple[str, tuple[str, ...], LeftOut], ...] = (
    ("nothing", (), LeftOut()),
    ("a record of that plan, made then", (LOOSE.format(minutes=5),), LeftOut(partners={"11": 1})),
    ("made at another time", (LOOSE.format(minutes=15),), LeftOut()),
    ("of another plan", (LOOSE.format(minutes=5), "UPDATE vps SET cpu = 64 WHERE id = 1"), LeftOut()),
    ("that its order names", (LOOSE.format(minutes=5), "UPDATE orders_seen SET panel_vps_id = 1 WHERE order_id = '1'"),
     LeftOut()),
    ("an order whose record has a machine", (NO_PLACE,), LeftOut()),
    ("an order whose record has none", (NO_PLACE, NO_MACHINE), GUESTLESS),
    ("one that the main site calls kvm", (NO_PLACE, NO_MACHINE, KVM), GUESTLESS),
    ("one on another hypervisor", (NO_PLACE, NO_MACHINE, KVM.replace("kvm", "vmware")), LeftOut()),
    ("one made nobody knows when", (NO_PLACE, NO_MACHINE, "UPDATE orders_seen SET created_at = NULL"), GUESTLESS),
    ("a record in dispute", ("UPDATE vps SET link_state = 'conflict', cluster = NULL, vmid = NULL WHERE id = 1",),
     LeftOut(disputed=True)),
)  # fmt: skip


@pytest.mark.parametrize(("changes", "expected"), [pytest.param(*of, id=name) for name, *of in LEFT])
def test_what_was_left_is_asked_about(engine: Engine, changes: tuple[str, ...], expected: LeftOut) -> None:
    """Order 11 was taken and has no record; the machine of order 1 was left."""
    unmade = "UPDATE vps SET deleted_at = now(), deleted_reason = 'sync' WHERE id = 11"
    with customer(engine, 10, 1, unmade, *changes) as connection:
        candidates.select_candidates(connection, shared_ids=False, names=True, proof=PROOF)
        for table in ("pick_records", "pick_orders", "pick_guests"):
            connection.execute(text(f"DELETE FROM {table}"))
        connection.execute(text("INSERT INTO pick_orders VALUES ('11', 1, 0)"))
        made = left_out.load_left_out(connection, timedelta(minutes=10))
        sold_at = connection.scalar(text("SELECT created_at FROM orders_seen WHERE order_id = '1'"))
    if expected is GUESTLESS:
        expected = replace(expected, guestless_orders={GuestType.LXC: sold_at})
    assert made == expected


def test_guests_that_nobody_names_are_asked_about(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    nobodys = "UPDATE vps SET link_state = 'unverified', fingerprint = NULL WHERE id > 7"
    unnamed = "UPDATE orders_seen SET cluster = NULL, vmid = NULL WHERE order_id IN ('8', '9')"
    with customer(engine, 10, 0, nobodys, unnamed) as connection:
        candidates.select_candidates(connection, shared_ids=False, names=True, proof=PROOF)
        connection.execute(text("DELETE FROM pick_guests"))
        found = left_out.load_left_out(connection, None).unnamed
        connection.execute(text("DROP TABLE loose_left"))
        assert found is not None
        assert sorted(guest.vmid for guest in found) == [1008, 1009]
        monkeypatch.setattr(components, "BUDGET", 4)
        assert left_out.load_left_out(connection, None).unnamed is None, "too many: any"
