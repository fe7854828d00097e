"""Stories of guests that no order names and nobody wants to hear of."""

from __future__ import annotations

from panel.operators.findings import ignore_finding, list_findings
from tests.stories.steps import execute
from tests.support.bench import Bench


def heard(world: Bench) -> list[str]:
    """The subjects of the list that an operator sees."""
    with world.engine.connect() as connection:
        return [found.subject for found in list_findings(connection)]


def ignore(world: Bench) -> None:
    with world.engine.begin() as connection:
        (found,) = list_findings(connection)
        ignore_finding(connection, found.id, "our monitoring", "cli:ann")


def test_an_ignored_guest_is_not_heard_of_for_good_and_its_successor_is(world: Bench) -> None:
    world.pve.add_guest(900, name="monitoring", uuid="0b7a4a4e-3c8b-4b0e-9d55-0f1f3b7a1c11")
    world.run(2)
    assert heard(world) == ["guest:main/900"]
    ignore(world)
    execute(world, "UPDATE ignored_guests SET ignored_at = ignored_at - interval '2 years'")
    world.run(2)
    assert heard(world) == []
    assert ("unmanaged-guest", "guest:main/900") in world.findings(), "it stands, in the list of all"
    world.pve.change_guest(900, name="other", uuid="6a0c8a0e-74c6-4e7e-9b5e-1f5f0f3c9a33")
    world.run(2)
    assert heard(world) == ["guest:main/900"]
