"""What a run loads follows what differs, not what its customer has besides."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import Engine, text

from domain.records import Record
from domain.repair_policy.budget import Budget
from panel.journal.rows import database_now
from reconcile.decision.cases import Policy
from reconcile.observation.observe import Observed
from reconcile.run import Reconciler, load_world
from tests.support.fleets.one_customer import FLEET
from tests.support.fleets.random_fleet import NoFeed, NoSource, scratch
from tests.support.fleets.world import add_user

CONVERGED, LOOSE = 500, 3
"""Machines of one customer that agree in everything, and records and orders of his that nothing joins yet."""


def test_one_unlinked_record_does_not_load_its_customer_s_whole_fleet(engine: Engine) -> None:
    """Beside it there are what it may belong to: the unlinked orders, and who has its name."""
    add_user(engine, 5, main_site_user_id="77")
    nothing = timedelta(0)
    reconciler = Reconciler(
        engine, NoFeed(names=True), (NoSource("main"),), Policy(), Budget(), shared_ids=False, sweep_interval=nothing,
        users_interval=nothing,
    )  # fmt: skip
    with scratch(engine) as connection:
        for statement in FLEET:
            connection.execute(text(statement), {"converged": CONVERGED, "all": CONVERGED + LOOSE})
        now = database_now(connection)
        seen = Observed(began={"main": now}, previous={"main": now}, trusted={"main"}, orders_at=now)
        world, counts = load_world(reconciler, connection, seen)
    assert counts["settled"] == CONVERGED
    assert counts["cut"] == 0
    linked, loose = _named(world.records, linked=True), _named(world.records, linked=False)
    assert loose == ["like-8", "loose-1", "loose-2"]
    assert linked == ["like-8"], "who has an unlinked one's name, and nobody else"
    assert sorted(o.name or "" for o in world.orders) == ["like-8", "sold-1", "sold-2", "sold-3"]
    assert [g.vmid for g in world.guests] == [1000 + 8]


def _named(records: tuple[Record, ...], *, linked: bool) -> list[str]:
    return sorted(r.name for r in records if (r.order_id is not None) == linked)
