"""Guests are read one after the other: nothing is said of one whose turn is still to come, and one alarm is enough
where the turns come too late."""

from __future__ import annotations

import pytest

from reconcile.observation import fingerprints
from tests.stories.steps import Sold, converge, execute, sell
from tests.support.bench import Bench

CLASS = "unverified-guest"


@pytest.fixture
def nobody_is_read(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """As on a new panel of thousands: a run ends before everybody's turn came. Undo it to let them be read."""
    for name in ("PER_RUN", "DOUBTED_PER_RUN", "AHEAD_PER_RUN"):
        monkeypatch.setattr(fingerprints, name, 0)
    return monkeypatch


@pytest.fixture
def new(world: Bench) -> list[Sold]:
    """Orders and guests that no run has seen."""
    return [sell(world, f"web-{n}") for n in range(4)]


def told(world: Bench) -> set[str]:
    """The subjects of the open findings about unread guests."""
    return {subject for class_, subject in world.findings() if class_ == CLASS}


@pytest.mark.usefixtures("new", "nobody_is_read")
def test_nothing_is_said_of_guests_that_wait_for_their_turn(world: Bench) -> None:
    world.run(2)
    assert told(world) == set()


@pytest.mark.usefixtures("new")
def test_turns_that_come_too_late_are_one_alarm(world: Bench, nobody_is_read: pytest.MonkeyPatch) -> None:
    world.run()
    execute(world, "UPDATE guests SET changed_at = changed_at - interval '1 hour'")
    world.run()
    assert told(world) == {"cluster:main"}
    ((severity, reason),) = [
        (row["severity"], row["reason"])
        for row in world._rows("SELECT severity, reason FROM findings WHERE class = 'unverified-guest'")
    ]
    assert severity == "alarm"
    assert "cluster main" in reason
    nobody_is_read.undo()
    world.run()
    assert told(world) == set()


def test_one_that_was_asked_about_and_gave_no_answer_is_named(new: list[Sold], world: Bench) -> None:
    converge(world, *new)
    world.run()
    world.pve.fail_answers("/nodes", status=500)
    execute(
        world,
        "UPDATE guests SET fingerprint_state = 'stale', doubt = 'call', doubted_at = clock_timestamp() WHERE vmid = :v",
        v=new[0].vmid,
    )
    world.run()
    assert f"vps:{new[0].vps_id}" in told(world)
    assert "cluster:main" not in told(world)
    world.pve.clear_faults()
    world.run()
    assert told(world) == set()
