"""A panel with one VPS that may be switched, a cluster that takes power commands, and a worker that does one step."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Engine, Row, text

from domain.power.actions import Action
from domain.power.permission import Refusal
from panel.power.facts import PowerRules
from panel.power.requests import Limited, Wanted, ask
from reconcile.power_actions import PowerWorker
from tests.support.fleets.switchable import PLACE, RULES, Place
from tests.support.stand_ins.power_cluster import PowerCluster


@dataclass(slots=True)
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass(slots=True)
class Panel:
    """A panel with one VPS, its cluster, and one worker."""

    engine: Engine
    owner: Engine
    cluster: PowerCluster = field(default_factory=PowerCluster)
    rules: PowerRules | None = RULES
    clock: Clock = field(default_factory=Clock)

    def asks(self, action: Action, *, force: bool = False, place: Place = PLACE) -> int:
        with self.engine.begin() as connection:
            stored = ask(connection, Wanted(place.vps_id, place.user_id, action, force, "r-1"), RULES)
        assert not isinstance(stored, Refusal | Limited), stored
        return int(stored.id)

    def step(self, action_id: int) -> str:
        return PowerWorker(self.engine, {"main": self.cluster}.get, self.rules, self.clock).step(action_id)

    def row(self, action_id: int) -> Row[Any]:
        with self.engine.connect() as connection:
            return connection.execute(text("SELECT * FROM power_actions WHERE id = :id"), {"id": action_id}).one()

    def due_in_s(self, action_id: int) -> float:
        with self.engine.connect() as connection:
            statement = "SELECT extract(epoch FROM publish_at - clock_timestamp()) FROM power_actions WHERE id = :id"
            return float(connection.scalar(text(statement), {"id": action_id}))

    def ages(self, seconds: float) -> None:
        """Let all that happened so far have happened so many seconds earlier. Nobody works on anything now."""
        moments = ("asked_at", "valid_until", "begun_at", "sending_at")
        later = ", ".join(f"{name} = {name} - make_interval(secs => :s)" for name in moments)
        with self.owner.begin() as connection:
            connection.execute(text(f"UPDATE power_actions SET {later}, taken_until = NULL"), {"s": seconds})

    def plays(self, action: Action, *, force: bool = False, place: Place = PLACE, steps: int = 12) -> tuple[str, str]:
        """Ask, and step until it is over. Returns its end."""
        action_id = self.asks(action, force=force, place=place)
        return self.goes_on(action_id, steps)

    def comes_to_its_second_command(self, action_id: int, steps: int = 12) -> None:
        for _ in range(steps):
            self.step(action_id)
            if (row := self.row(action_id)).step:
                return
        raise AssertionError(f"its first command does not end: {row}")

    def goes_on(self, action_id: int, steps: int = 12) -> tuple[str, str]:
        for _ in range(steps):
            self.step(action_id)
            if (row := self.row(action_id)).ended_at is not None:
                return row.state, row.code
        raise AssertionError(f"it does not end: {row}")
