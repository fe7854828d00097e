"""Play a story to its end: mischief, then quiet rounds, then ask whether everything is right again."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

from domain.changes import Finding
from tests.convergence.harness.converged import differences
from tests.convergence.harness.events import happen
from tests.convergence.harness.oracle import Oracle
from tests.convergence.harness.panel import PurePanel
from tests.convergence.harness.shown import Shown
from tests.convergence.harness.story import BLINKS, Happening, Round, Story
from tests.convergence.harness.truth import Call, Sale, Truth

START = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
QUIET_MIN = (2.0, 2.0, 2.0, 15.0, 40.0, 2.0, 25 * 60.0, 2.0, 2.0, 2.0)
"""Within that many quiet rounds, over the longest grace, everything must be right or held by name."""


class Panel(Protocol):
    """What a story is played on."""

    findings: tuple[Finding, ...]

    @property
    def rows(self) -> Mapping[int, Mapping[str, Any]]:
        """Every record."""
        ...

    @property
    def approves(self) -> bool:
        """Whether somebody has looked at what the gate held."""
        ...

    def clock(self, now: datetime, minutes: float) -> datetime:
        """The time, so many minutes after ``now``."""
        ...

    def accept(self, call: Call, at: datetime, *, answered: bool) -> int | None:
        """Take a sync call; the id of its record."""
        ...

    def apply_calls(self) -> None:
        """Apply what was accepted."""
        ...

    def restore(self, vps_id: int, at: datetime) -> None:
        """Take a delete back."""
        ...

    def look(self, quiet: int) -> None:
        """Operators see to what is held, after so many quiet rounds."""
        ...

    def run(self, shown: Shown, now: datetime, between: Callable[[], None]) -> None:
        """One run; ``between`` is called after the plan and before the first write."""
        ...

    def fast(self, shown: Shown, now: datetime) -> None:
        """One run of the fast lane."""
        ...


@dataclass(frozen=True, slots=True)
class Ending:
    """``wrong``: what must never be. ``held``: differences that a finding of an expected class names."""

    wrong: tuple[str, ...]
    held: tuple[str, ...] = ()
    records: int = 0
    writes: int = 0
    ambiguous: bool = False


@dataclass(slots=True)
class Play:
    """One story on its way."""

    story: Story
    truth: Truth
    oracle: Oracle
    panel: Panel
    late: list[Call] = field(default_factory=list)
    shown: Shown | None = None
    writes: int = 0

    def begin(self) -> None:
        """The panel before the mischief: every first sale in its first state, looked at three times."""
        # One sale more, which nothing happens to: an order that answers when another is gone.
        for n, kind in enumerate((*self.story.sales, "linked")):
            sale = self.truth.sell(n, kind)
            if kind != "missed":
                self.truth.call("create", sale)
                self._post(set())
        self.panel.apply_calls()
        for _ in range(3):
            self.round(Round(3.0))

    def round(self, round_: Round) -> None:
        """Time passes, things happen, calls arrive, a run is done."""
        truth, panel = self.truth, self.panel
        truth.now = panel.clock(truth.now, round_.minutes)
        for happening in filter(self._possible, round_.happenings):
            happen(truth, happening)
            if happening.kind == "restore":
                self._restore(truth.sale(happening.subject))
        kinds = {h.kind for h in round_.happenings}
        self._post(kinds)
        if "post-in-flight" not in kinds:
            panel.apply_calls()
        if {"fast-lane", "switch-there"} & kinds and not kinds & BLINKS.keys():
            for _ in range(2):
                self._fast(round_.happenings)
        self._run(round_.happenings, lambda: self._meanwhile(round_.happenings, kinds))
        panel.apply_calls()
        truth.end_round()

    def _meanwhile(self, happenings: tuple[Happening, ...], kinds: set[str]) -> None:
        """What comes between a run's plan and its writes."""
        if "two-runs" in kinds and not kinds & BLINKS.keys():  # a mistake seen by two runs at once was seen twice
            self._run(happenings, lambda: None)
        if "call-mid-run" in kinds:
            self.truth.now = self.panel.clock(self.truth.now, 0.02)
            for happening in happenings:
                if happening.kind == "call-mid-run":
                    happen(self.truth, Happening("power", happening.subject))
            self._post(set())
            self.panel.apply_calls()

    def _look(self, happenings: tuple[Happening, ...]) -> Shown:
        self.truth.now = self.panel.clock(self.truth.now, 0.02)
        self.truth.stamp()
        self.shown = Shown(self.truth, self.truth.now, happenings, earlier=self.shown)
        return self.shown

    def _fast(self, happenings: tuple[Happening, ...]) -> None:
        shown, before = self._look(happenings), dict(self.panel.rows)
        self.panel.fast(shown, self.truth.now)
        self._judge(before, shown, fast=True)

    def _judge(self, before: Mapping[int, Mapping[str, Any]], shown: Shown, *, fast: bool = False) -> None:
        after = self.panel.rows
        self.writes += sum(i not in before or before[i]["version"] != row["version"] for i, row in after.items())
        self.oracle.after_run(before, after, shown, self.truth.now, approved=self.panel.approves, fast=fast)

    def _run(self, happenings: tuple[Happening, ...], meanwhile: Callable[[], None]) -> None:
        shown = self._look(happenings)
        before: MutableMapping[int, Mapping[str, Any]] = {}

        def between() -> None:
            for machine in self.truth.machines:
                machine.unseen = 0 if shown.listed.issuperset(machine.keys) else machine.unseen + 1
            meanwhile()
            before.update(self.panel.rows)

        self.panel.run(shown, self.truth.now, between)
        self._judge(before, shown)

    def _restore(self, sale: Sale) -> None:
        for vps_id in [i for i, of in self.oracle.sale_of.items() if of is sale and i in self.panel.rows]:
            self.panel.restore(vps_id, self.truth.now)

    def _possible(self, happening: Happening) -> bool:
        """A wrong owner that every source has shown twice is the owner, as far as anybody can tell."""
        sale = self.truth.sale(happening.subject)
        before = self.shown.last_order(sale.order_id) if self.shown is not None else None
        return happening.kind != "blink-owner" or (before is not None and before[0].owner == sale.owner)

    def _post(self, kinds: set[str]) -> None:
        """Let the main site's calls arrive, or not, or twice, or late."""
        calls, self.truth.calls = self.truth.calls, []
        if "post-delayed" in kinds:
            self.late += calls
            calls = []
        elif self.late:
            random.Random(self.story.seed).shuffle(self.late)
            calls, self.late = calls + self.late, []
        if "post-dropped" in kinds:
            calls = []
        if "post-doubled" in kinds:
            calls = [call for call in calls for _ in range(2)]
        for call in calls:
            vps_id = self.panel.accept(call, self.truth.now, answered=call.answered and "answer-lost" not in kinds)
            if vps_id is not None:
                self.oracle.sale_of.setdefault(vps_id, call.sale)
                self.oracle.called_at[vps_id] = self.truth.now


def play(story: Story) -> Ending:
    """Play it through the pure core."""
    return play_on(PurePanel(), story, START, QUIET_MIN)


def play_on(panel: Panel, story: Story, start: datetime, quiet: Iterable[float]) -> Ending:
    """Play it to the end, ``quiet``: the minutes before each of the quiet rounds."""
    truth = Truth(story, start)
    oracle = Oracle(truth)
    play_ = Play(story, truth, oracle, panel)
    play_.begin()
    for round_ in story.rounds:
        play_.round(round_)
        if oracle.wrong:
            return Ending(tuple(oracle.wrong))
    for number, minutes in enumerate(quiet):
        panel.look(number)
        play_.round(Round(minutes))
    found = differences(truth, panel.rows, oracle.sale_of, panel.findings)
    return Ending((*oracle.wrong, *found.unnamed), found.held, len(panel.rows), play_.writes, truth.ambiguous)
