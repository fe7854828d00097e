"""A source that is not believed is one alarm with cause, age and remedy; not one finding for each guest."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import text

from lab.simulators.main_site.faults import FeedFaultKind
from panel.operators.pauses import pause
from panel.runs.source_states import SourceView, acknowledge_source, list_sources
from reconcile.run import run_full
from reconcile.users import import_users
from tests.stories.steps import Sold, converge, execute, record, sell, sell_converged, statuses
from tests.support.bench import Bench

CLUSTER, FEED, USERS = "proxmox:main", "orders", "users"


def source(world: Bench, name: str) -> SourceView:
    with world.engine.connect() as connection:
        (found,) = [one for one in list_sources(connection) if one.source == name]
    return found


def a_while_later(world: Bench) -> None:
    """More than the minute after which an outage is an alarm."""
    execute(world, "UPDATE source_states SET unwell_since = unwell_since - interval '90 seconds'")


def alarms(world: Bench) -> dict[str, str]:
    """Severity by subject of the open findings about sources."""
    with world.engine.connect() as connection:
        found = connection.execute(
            text("SELECT subject, severity FROM findings WHERE class = 'source' AND resolved_at IS NULL")
        )
        return {row.subject: row.severity for row in found}


@pytest.mark.parametrize("lane", ["fast", "run"])
def test_guests_without_a_state_are_one_alarm_after_a_minute(world: Bench, lane: str) -> None:
    converge(world, *(sell(world, f"web-{n}") for n in range(3)))
    world.pve.all_unknown()
    step = getattr(world, lane)
    assert any("no known state" in problem for problem in step().problems)
    assert alarms(world) == {}, "it may be over in a moment"
    assert source(world, CLUSTER).cause == "unread"
    a_while_later(world)
    step()
    assert alarms(world) == {f"source:{CLUSTER}": "alarm"}
    assert (source(world, CLUSTER).age_s or 0) > 60
    assert "doctor" in (source(world, CLUSTER).remedy or "")
    world.pve.all_unknown(unknown=False)
    step()
    assert alarms(world) == {}
    assert source(world, CLUSTER).cause is None


def test_a_list_of_nothing_is_an_alarm_at_once(world: Bench) -> None:
    converge(world, *(sell(world, f"web-{n}") for n in range(3)))
    world.pve.empty_list()
    world.fast()
    assert alarms(world) == {f"source:{CLUSTER}": "alarm"}
    assert source(world, CLUSTER).cause == "mass-loss"


def test_a_mass_loss_is_one_alarm_that_names_the_word_it_waits_for(world: Bench) -> None:
    sold = [sell(world, f"web-{n}") for n in range(15)]
    converge(world, *sold)
    for one in sold[1:]:
        world.site.cancel_order(one.order_id, remove_guest=False, notify=False)
        world.pve.remove_guest(one.vmid)
    world.pve.fail_answers("/nodes", status=500)  # they cannot be asked for singly either
    world.run(2)
    assert alarms(world) == {f"source:{CLUSTER}": "alarm"}
    assert "delete-held" not in world.finding_classes(), "one alarm, not one finding for each guest"
    assert world.results[-1].counts["findings_of_sources"] == 14
    assert f"panel-sync acknowledge {CLUSTER}" in (source(world, CLUSTER).remedy or "")
    with world.engine.begin() as connection:
        acknowledge_source(connection, CLUSTER)
    world.pve.clear_faults()
    world.run()
    assert alarms(world) == {}


@pytest.mark.parametrize("kind", ["frozen", "behind"])
def test_old_content_of_the_feed_is_a_problem_and_an_alarm(world: Bench, kind: str) -> None:
    one = sell_converged(world)
    if kind == "frozen":
        world.site.freeze_feed()
        world.clock.moment += timedelta(hours=1)
    else:
        world.site.fault_feed(FeedFaultKind.AS_OF_LAG, value=3600)
    world.site.set_status(one.order_id, "suspended", notify=False)
    result = world.run()
    assert any("older than 300 s" in problem for problem in result.problems)
    assert "suspended" not in statuses(world).values(), "the order's word is not known"
    a_while_later(world)
    world.run()
    assert alarms(world) == {f"source:{FEED}": "alarm"}
    assert source(world, FEED).cause == "old"
    world.site.freeze_feed(frozen=False)
    world.site.clear_faults()
    world.run()
    assert alarms(world) == {}
    assert statuses(world) == {one.vps_id: "suspended"}


def test_a_node_that_is_away_is_a_warning(world: Bench) -> None:
    sell_converged(world)
    world.pve.set_node_online("pve3", online=False)
    world.run()
    a_while_later(world)
    world.run()
    assert alarms(world) == {f"source:{CLUSTER}": "warning"}


def test_a_paused_source_has_no_alarm(world: Bench) -> None:
    sell_converged(world)
    world.pve.empty_list()
    world.run()
    with world.engine.begin() as connection:
        pause(connection, CLUSTER, "an upgrade", timedelta(hours=1), "cli:test")
    world.run()
    assert alarms(world) == {}


def test_a_source_that_is_not_configured_any_more_has_no_alarm(two_clusters: Bench) -> None:
    world = two_clusters
    world.clusters["second"].revoke_token()
    world.run()
    a_while_later(world)
    world.run()
    assert alarms(world) == {"source:proxmox:second": "alarm"}
    world.settings = world.settings.model_copy(update={"proxmox_clusters": world.settings.proxmox_clusters[:1]})
    world.run()
    assert alarms(world) == {}


def test_a_finding_about_a_held_set_goes_with_the_set(four_gone: tuple[Sold, ...], world: Bench) -> None:
    held = {subject for class_, subject in world.findings() if class_ == "held"}
    assert held
    for one in four_gone[1:]:
        execute(
            world,
            "UPDATE orders_seen SET state = 'active', status = 'running' WHERE order_id = :id",
            id=str(one.order_id),
        )
    world.site.fault_feed(FeedFaultKind.STATUS, value=500)
    world.run()
    assert "held" not in world.finding_classes(), "the set is gone, although the feed was not read"


class TestUsers:
    """Until they were imported, nobody guesses why an owner is not known."""

    @pytest.fixture
    def fresh(self, world: Bench) -> Bench:
        execute(world, "UPDATE users SET main_site_user_id = NULL, map_source = NULL")
        execute(world, "UPDATE source_states SET last_users_at = NULL")
        for n in range(3):
            order = world.site.place_order(user_id=1, name=f"web-{n}", notify=False)
            world.site.set_status(order.id, "running", notify=False)
        return world

    def test_a_plan_says_that_they_were_not_imported_yet(self, fresh: Bench) -> None:
        result = run_full(fresh.reconciler(), trigger="test", dry=True)
        assert result.plan is not None
        assert [f.class_ for f in result.plan.findings if f.class_ == "owner-unknown"] == []
        assert any("users: not imported yet, so the owners of 3 orders" in p for p in result.problems)

    def test_the_first_run_imports_them(self, fresh: Bench) -> None:
        fresh.run(2)
        assert {row["user_id"] for row in fresh.vps()} == {5}

    def test_a_list_that_cannot_be_read_is_one_alarm(self, fresh: Bench) -> None:
        fresh.site.fault_feed(FeedFaultKind.STATUS, value=404, path="/users")
        fresh.run()
        a_while_later(fresh)
        result = fresh.run()
        assert any("not imported yet" in problem for problem in result.problems)
        assert alarms(fresh) == {f"source:{USERS}": "alarm"}
        assert "owner-unknown" not in fresh.finding_classes()
        fresh.site.clear_faults()
        fresh.run(2)
        assert alarms(fresh) == {}
        assert len(fresh.vps()) == 3

    def test_once_imported_a_later_failure_is_a_warning(self, world: Bench) -> None:
        world.site.fault_feed(FeedFaultKind.STATUS, value=404, path="/users")
        import_users(world.reconciler())
        a_while_later(world)
        import_users(world.reconciler())
        assert alarms(world) == {f"source:{USERS}": "warning"}
        order = world.site.place_order(user_id=1, name="web", notify=False)
        world.site.set_status(order.id, "running", notify=False)
        world.run(2)
        assert len(world.vps()) == 1, "those who are known are known"


def test_what_is_kept_of_a_source_changes_nothing_while_nothing_changes(world: Bench) -> None:
    one = sell_converged(world)
    world.pve.set_node_online("pve3", online=False)
    world.run()
    before = source(world, CLUSTER).since
    world.run()
    assert source(world, CLUSTER).since == before
    assert record(world, one.vps_id)["status"] == "running"
