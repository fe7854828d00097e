"""One object that cannot be read, decided or written costs the others nothing: it is named, left alone, tried again."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from panel.operator_error import OperatorError
from panel.operators import quarantine
from panel.server_urls import sqlalchemy_url
from reconcile.decision import failure_isolation
from reconcile.decision.cases import Case, Policy, World
from reconcile.decision.decide import Decision, decide
from reconcile.decision.matching.match import match as matching
from reconcile.run import run_full
from tests.stories.steps import Sold, converge, execute, record, sell, statuses
from tests.support.bench import Bench
from tests.support.databases import Database

FIRST = quarantine.BACKOFF.first.total_seconds()


def as_owner(database: Database, *statements: str) -> None:
    """What only the tables' owner may do."""
    engine = create_engine(sqlalchemy_url(database.owner_url))
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))
    engine.dispose()


@pytest.fixture
def three(world: Bench) -> tuple[Sold, Sold, Sold]:
    """Three records whose orders were suspended, and no call said so: each is due for a repair."""
    sold = sell(world, "first"), sell(world, "poison"), sell(world, "third", user_id=2)
    converge(world, *sold)
    for one in sold:
        world.site.set_status(one.order_id, "suspended", notify=False)
    return sold


def suspended(world: Bench) -> set[int]:
    return {vps_id for vps_id, status in statuses(world).items() if status == "suspended"}


def rows(world: Bench) -> dict[str, dict[str, Any]]:
    return {row["subject"]: row for row in world._rows("SELECT * FROM quarantine")}


def let_time_pass(world: Bench) -> None:
    execute(world, "UPDATE quarantine SET next_try_at = clock_timestamp() WHERE next_try_at IS NOT NULL")


def refuse_writes_of(database: Database, vps_id: int, error: str = "RAISE EXCEPTION 'no'") -> None:
    as_owner(
        database,
        f"CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {error}; END $$",
        f"CREATE TRIGGER refuse BEFORE UPDATE ON vps FOR EACH ROW WHEN (OLD.id = {vps_id}"
        " AND NEW.order_state IS DISTINCT FROM OLD.order_state) EXECUTE FUNCTION refuse()",
    )


def accept_writes(database: Database) -> None:
    as_owner(database, "DROP TRIGGER refuse ON vps")


def test_a_database_that_refuses_one_record(world: Bench, database: Database, three: tuple[Sold, ...]) -> None:
    first, poison, third = three
    refuse_writes_of(database, poison.vps_id)
    assert "1 failed" in world.run().summary
    assert suspended(world) == {first.vps_id, third.vps_id}
    (kept,) = rows(world).values()
    assert (kept["subject"], kept["stage"], kept["failures"]) == (f"vps:{poison.vps_id}", "write", 1)
    assert kept["cause"] == "RaiseException (SQLSTATE P0001)"
    wait_s = (kept["next_try_at"] - kept["last_failed_at"]).total_seconds()
    assert FIRST * 0.8 <= wait_s <= FIRST * 1.2
    assert ("quarantined", f"vps:{poison.vps_id}") in world.findings()

    world.run()
    assert rows(world)[kept["subject"]]["failures"] == 1, "left alone before its time"
    let_time_pass(world)
    world.run()
    assert rows(world)[kept["subject"]]["failures"] == 2

    accept_writes(database)
    let_time_pass(world)
    world.run()
    assert poison.vps_id in suspended(world)
    assert rows(world) == {}
    assert "quarantined" not in world.finding_classes()


def test_a_row_that_this_version_does_not_understand(world: Bench, database: Database, three: tuple[Sold, ...]) -> None:
    """After a rollback to an older version, say: everything connected is left out, the rest goes on."""
    first, poison, third = three
    as_owner(database, "ALTER TABLE vps DROP CONSTRAINT ck_vps_order_state")
    execute(world, "UPDATE vps SET order_state = 'leased' WHERE id = :id", id=poison.vps_id)
    world.run()
    # The customer's other record is left out with it: names and plans of one customer are compared.
    assert suspended(world) == {third.vps_id}
    assert rows(world)[f"vps:{poison.vps_id}"]["stage"] == "load"
    assert rows(world)[f"vps:{poison.vps_id}"]["cause"].startswith("ValueError in ")
    assert len(world.vps()) == 3, "its order is not taken for one without a record"
    world.run(2)
    assert rows(world)[f"vps:{poison.vps_id}"]["failures"] == 1
    execute(world, "UPDATE vps SET order_state = 'active' WHERE id = :id", id=poison.vps_id)
    let_time_pass(world)
    world.run()
    assert suspended(world) == {first.vps_id, poison.vps_id, third.vps_id}
    assert rows(world) == {}


def failing_for(vps_id: int) -> Any:
    def work(case: Case, world: World, policy: Policy) -> Decision:
        if case.record is not None and case.record.id == vps_id:
            raise ZeroDivisionError("a defect")
        return decide(case, world, policy)

    return work


def test_a_defect_in_deciding_one_record(
    world: Bench, three: tuple[Sold, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, poison, third = three
    monkeypatch.setattr(failure_isolation, "decide", failing_for(poison.vps_id))
    execute(
        world,
        "INSERT INTO findings (class, subject, severity, reason, vps_id)"
        " VALUES ('stuck-creating', 'order:7', 'warning', 'of before', :id)",
        id=poison.vps_id,
    )
    world.run()
    assert suspended(world) == {first.vps_id, third.vps_id}
    assert rows(world)[f"vps:{poison.vps_id}"]["stage"] == "decide"
    world.run(2)
    assert rows(world)[f"vps:{poison.vps_id}"]["failures"] == 1, "not tried before its time"
    assert ("stuck-creating", "order:7") in world.findings(), "who was not looked at has nothing resolved"
    monkeypatch.undo()
    with world.engine.begin() as connection:
        assert quarantine.release(connection, f"vps:{poison.vps_id}") == [f"vps:{poison.vps_id}"]
    assert "quarantined" not in world.finding_classes()
    world.run()
    assert poison.vps_id in suspended(world)
    assert ("stuck-creating", "order:7") not in world.findings()


def test_a_defect_in_matching_one_customer(
    world: Bench, three: tuple[Sold, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, poison, third = three

    def match(part: World, policy: Policy) -> list[Case]:
        if any(r.id == poison.vps_id for r in part.records):
            raise KeyError("a defect")
        return matching(part, policy)

    monkeypatch.setattr(failure_isolation, "match", match)
    world.run()
    assert suspended(world) == {third.vps_id}
    (kept,) = rows(world).values()
    assert (kept["subject"], kept["stage"]) == (f"vps:{first.vps_id}", "match"), "named by its part's first record"


def test_a_confirmation_that_raises_ends_no_run(
    world: Bench, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An adapter raises for defects only; the other look-ups of the run are made all the same."""
    lost = [world.site.place_order(user_id=n, name=f"lost-{n}", notify=False) for n in (1, 2)]
    for order in lost:
        world.site.set_status(order.id, "running", notify=False)
    reconciler = world.reconciler()
    assert reconciler.feed is not None
    ask = reconciler.feed.order

    def order_of(order_id: str, control_id: str | None) -> Any:
        if order_id == str(lost[0].id):
            raise AttributeError("a defect")
        return ask(order_id, control_id)

    monkeypatch.setattr(reconciler.feed, "order", order_of)
    for _ in range(2):
        world.clock.tick()
        assert run_full(reconciler, trigger="test").state == "done"
    assert [row["name"] for row in world.vps()] == ["lost-2"]
    assert rows(world)[f"order:{lost[0].id}"]["stage"] == "write"


def test_refusals_count_from_the_third_on(world: Bench, database: Database, three: tuple[Sold, ...]) -> None:
    """A constraint that refuses once or twice is mostly a race that the next run does not meet."""
    _, poison, _ = three
    refuse_writes_of(database, poison.vps_id, "RAISE unique_violation")
    for failures in (1, 2):
        world.run()
        assert rows(world)[f"vps:{poison.vps_id}"]["failures"] == failures
        assert rows(world)[f"vps:{poison.vps_id}"]["next_try_at"] is None
        assert "quarantined" not in world.finding_classes()
    world.run()
    assert rows(world)[f"vps:{poison.vps_id}"]["next_try_at"] is not None
    assert "quarantined" in world.finding_classes()


def test_the_fast_lane_leaves_it_alone_too(world: Bench, database: Database) -> None:
    sold, other = sell(world, "poison"), sell(world, "other")
    converge(world, sold, other)
    as_owner(
        database,
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no'; END $$",
        f"CREATE TRIGGER refuse BEFORE UPDATE ON vps FOR EACH ROW WHEN (OLD.id = {sold.vps_id}"
        " AND NEW.power_state IS DISTINCT FROM OLD.power_state) EXECUTE FUNCTION refuse()",
    )
    for one in (sold, other):
        world.pve.set_status(one.vmid, "stopped")
    world.fast(2)
    assert statuses(world) == {sold.vps_id: "running", other.vps_id: "stopped"}
    assert rows(world)[f"vps:{sold.vps_id}"]["failures"] == 1
    world.fast(3)
    assert rows(world)[f"vps:{sold.vps_id}"]["failures"] == 1
    accept_writes(database)
    let_time_pass(world)
    world.fast()
    assert statuses(world)[sold.vps_id] == "stopped"
    world.run()
    assert rows(world) == {}, "a full run has seen that all is well"


def test_what_is_wrong_for_everybody_quarantines_nobody(
    world: Bench, database: Database, three: tuple[Sold, ...]
) -> None:
    as_owner(database, "REVOKE UPDATE ON vps FROM panel_app")
    with pytest.raises(Exception, match="permission denied"):
        world.run()
    as_owner(database, "GRANT UPDATE ON vps TO panel_app")
    assert rows(world) == {}
    assert world._rows("SELECT state, error FROM runs ORDER BY id DESC LIMIT 1") == [
        {"state": "failed", "error": "ProgrammingError"}
    ]


class OutOfTimeError(Exception):
    """As a worker's soft time limit would raise it, anywhere."""


def test_the_end_of_a_run_s_time_is_nobody_s_failure(
    world: Bench, three: tuple[Sold, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    def late(*_: Any) -> Decision:
        raise OutOfTimeError

    monkeypatch.setattr(failure_isolation, "decide", late)
    with pytest.raises(OutOfTimeError):
        run_full(replace(world.reconciler(), interrupts=(OutOfTimeError,)), trigger="test")
    assert rows(world) == {}


def test_a_held_repair_does_not_count_as_recovered(world: Bench, database: Database, three: tuple[Sold, ...]) -> None:
    _, poison, _ = three
    refuse_writes_of(database, poison.vps_id)
    world.run()
    accept_writes(database)
    let_time_pass(world)
    run_full(world.reconciler(), trigger="test", dry=True)
    assert f"vps:{poison.vps_id}" in rows(world), "a plan tries nothing"
    world.settings = world.settings.model_copy(update={"repair_policy": {"missed-status": "hold"}})
    world.run()
    assert f"vps:{poison.vps_id}" in rows(world)
    assert record(world, poison.vps_id)["status"] == "running"


@pytest.mark.parametrize(
    ("failures", "expected_s"), [(1, 60), (2, 120), (5, 960), (9, 15360), (10, 21600), (500, 21600)]
)
def test_the_backoff_doubles_and_ends(failures: int, expected_s: float) -> None:
    assert quarantine.backoff_s(failures, lambda _low, _high: 1.0) == expected_s
    drawn = {quarantine.backoff_s(failures) for _ in range(50)}
    assert len(drawn) > 1
    assert expected_s * 0.8 <= min(drawn) <= max(drawn) <= expected_s * 1.2


def test_only_what_is_quarantined_can_be_released(world: Bench) -> None:
    with world.engine.begin() as connection, pytest.raises(OperatorError, match="is not quarantined"):
        quarantine.release(connection, "vps:1")
