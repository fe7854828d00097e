"""A schedule is its seed's alone, and leaves out no fault that it has the time for."""

from __future__ import annotations

import pytest

from lab.chaos.faults import BY_NAME, FAULTS, KINDS, LOAD_KINDS
from lab.chaos.schedule import Schedule, schedule_of

SEEDS = range(20)


def made(seed: int, seconds: float = 60.0) -> Schedule:
    return schedule_of(seed, seconds, KINDS, worlds=2)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_same_seed_makes_the_same_schedule(seed: int) -> None:
    assert made(seed) == made(seed)
    assert str(made(seed)) == str(made(seed))
    assert made(seed) != made(seed + 1)


@pytest.mark.parametrize("seed", SEEDS)
def test_two_faults_never_strike_one_place_at_once(seed: int) -> None:
    until: dict[str, float] = {}
    for trouble in made(seed).troubles:
        assert until.get(trouble.where, 0.0) <= trouble.at_s
        until[trouble.where] = trouble.at_s + trouble.lasts_s
        assert until[trouble.where] + trouble.kind.heals_s <= 60.0, "it is over, and healed, when the time is"


@pytest.mark.parametrize("seed", SEEDS)
def test_a_minute_sees_every_part_fail(seed: int) -> None:
    seen = {trouble.kind.name for trouble in made(seed).troubles}
    assert {kind.name for kind in KINDS if not kind.outside} <= seen


def test_ten_minutes_see_every_fault() -> None:
    seen = {trouble.kind.name for trouble in made(1, 600.0).troubles}
    assert seen == set(BY_NAME)


def test_every_fault_is_told_and_named_once() -> None:
    assert len(BY_NAME) == len(FAULTS)
    assert all(kind.sentence and kind.lasts_s[0] <= kind.lasts_s[1] for kind in KINDS)
    assert {kind.place for kind in LOAD_KINDS} == {"workers", "poison", "beats", "redis", "api", "postgres"}


def test_it_reads_as_a_story() -> None:
    lines = str(schedule_of(7, 20.0, KINDS)).splitlines()
    assert lines[0] == "seed 7: 1 world(s), 20 s"
    times = [float(line.split()[0]) for line in lines[1:]]
    assert times == sorted(times)
    assert any("! " in line for line in lines)
