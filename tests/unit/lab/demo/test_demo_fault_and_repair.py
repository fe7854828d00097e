"""A drift must bite, heal and be accounted for; anything less fails the demo."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import cast

import pytest

from lab.demo.errors import DemoError
from lab.demo.fault_and_repair import heal, update_of
from lab.demo.journal import Operation
from lab.demo.screen import Screen, Sight
from lab.demo.stage import Stage
from panel.terminal import SafeConsole

REPAIR = Operation(9, "repair", "update", 17, "applied", "running -> stopped", "Proxmox shows it stopped", {})


@dataclass
class Panel:
    """A panel whose reconciliation mends at the first wait, if it mends at all."""

    shows: str = "running"
    truth: str = "running"
    mends: bool = True
    repairs: list[Operation] = field(default_factory=lambda: [REPAIR])
    held: bool = False
    sights: list[Sight] = field(default_factory=list)
    screen: Screen = field(default_factory=lambda: Screen(SafeConsole(file=io.StringIO())))

    @property
    def journal(self) -> Panel:
        return self

    def last_id(self) -> int:
        return 8

    def since(self, operation_id: int, *, kind: str) -> list[Operation]:
        assert (operation_id, kind) == (8, "repair")
        return self.repairs

    @contextmanager
    def paused(self, *names: str) -> Iterator[None]:
        assert names == ("worker-reconcile",)
        self.held = True
        yield
        self.held = False

    def until(self, expected: str, done: Callable[[], bool], *, seen: Callable[[], str], **_: object) -> float:
        if self.mends:
            self.shows = self.truth
        if not done():
            raise DemoError(expected, seen())
        return 0.0

    def wrong(self) -> str | None:
        return None if self.shows == self.truth else f"it is {self.truth}, shown {self.shows}"

    def stop(self) -> None:
        assert self.held, "the fault is made while no run can mend it at once"
        self.truth = "stopped"


def play(panel: Panel, make: Callable[[], object] | None = None) -> None:
    heal(
        cast("Stage", panel),
        scene="a scene",
        fault="a fault",
        make=make or panel.stop,
        wrong=panel.wrong,
        repaired=update_of(17, "stopped"),
    )


def test_a_drift_that_heals_is_a_line_of_the_table() -> None:
    panel = Panel()
    play(panel)
    (sight,) = panel.sights
    assert (sight.scene, sight.fault, sight.reason) == ("a scene", "a fault", "Proxmox shows it stopped")
    assert sight.broken == "it is stopped, shown running"


def test_a_fault_that_does_not_bite_fails() -> None:
    with pytest.raises(DemoError, match="does harm"):
        play(Panel(), make=lambda: None)


def test_a_panel_that_was_wrong_before_fails() -> None:
    with pytest.raises(DemoError, match="right before"):
        play(Panel(shows="stopped"))


def test_a_drift_that_stays_fails_and_says_what_is_seen() -> None:
    with pytest.raises(DemoError, match="it is stopped, shown running"):
        play(Panel(mends=False))


@pytest.mark.parametrize(
    "repair",
    [
        pytest.param(None, id="no repair at all"),
        pytest.param(
            Operation(9, "repair", "update", 18, "applied", "running -> stopped", "why", {}), id="another VPS"
        ),
        pytest.param(Operation(9, "repair", "update", 17, "applied", "changed node", "why", {}), id="another change"),
        pytest.param(Operation(9, "repair", "update", 17, "applied", "running -> stopped", None, {}), id="no reason"),
    ],
)
def test_what_healed_without_the_journals_word_fails(repair: Operation | None) -> None:
    with pytest.raises(DemoError, match="reason"):
        play(Panel(repairs=[] if repair is None else [repair]))
