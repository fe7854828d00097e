"""The main site's existing interface, in both of its shapes: what was missed heals, and made-up names stay out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import pytest
from sqlalchemy import Engine

from lab.simulators.main_site.rows import ROOT_PASSWORD_CANARY
from tests.stories.steps import record, sell, statuses
from tests.support.bench import Bench, bench
from tests.support.databases import Database

Shape = Literal["flat", "nested"]


@pytest.fixture(params=["flat", "nested"])
def world(request: pytest.FixtureRequest, database: Database, engine: Engine) -> Iterator[Bench]:
    with bench(database, engine, main_site_feed="panel-api", extended=True) as made:
        shape: Shape = request.param
        made.site.set_shape(shape)
        yield made


def test_missed_calls_heal(world: Bench) -> None:
    keep = sell(world, "keep")
    lost = world.site.place_order(user_id=2, name="lost", notify=False)
    world.site.set_status(lost.id, "running", notify=False)
    world.run(2)
    made = next(r for r in world.vps() if r["order_id"] == str(lost.id))
    assert (made["user_id"], made["status"], made["link_state"]) == (6, "running", "verified")
    assert (made["cpu"], made["ram_mb"], made["disk_gb"]) == (2, 4096, 50)
    assert record(world, keep.vps_id)["name"] == "keep", "a name that the feed makes up overwrites nothing"

    world.site.set_status(lost.id, "suspended", notify=False)
    world.run()
    assert statuses(world) == {keep.vps_id: "running", made["id"]: "suspended"}
    world.site.set_status(lost.id, "running", notify=False)
    world.run()
    assert statuses(world) == {keep.vps_id: "running", made["id"]: "running"}

    world.site.cancel_order(lost.id, notify=False)
    world.run(2)
    assert record(world, made["id"])["deleted_at"] is None, "two absences are no proof"
    world.run(2)
    assert record(world, made["id"])["deleted_at"] is not None
    assert statuses(world) == {keep.vps_id: "running"}
    (repair,) = [r for r in world.repairs() if r["action"] == "delete"]
    assert "404" in repair["evidence"]["confirmed_order"]


def test_an_ipv6_address_comes_with_the_server_and_changes_with_it(world: Bench) -> None:
    sold = sell(world, "web", ip6_address="2001:db8::1")
    world.run()
    world.site.change_order(sold.order_id, ip6_address="2001:db8::2")
    world.run()
    assert record(world, sold.vps_id)["ip6_address"] == "2001:db8::2"


def test_no_password_of_the_feed_arrives_anywhere(world: Bench) -> None:
    sell(world, "secret")
    world.run(2)
    tables = [r["name"] for r in world._rows("SELECT tablename AS name FROM pg_tables WHERE schemaname = 'public'")]
    for table in set(tables) - {"alembic_version"}:
        rows = world._rows(f"SELECT count(*) AS n FROM {table} t WHERE t::text LIKE '%{ROOT_PASSWORD_CANARY}%'")
        assert rows == [{"n": 0}], table
