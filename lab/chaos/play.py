"""Play a schedule on a rig, audit it meanwhile, let it converge, and report the outcome."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from sqlalchemy.exc import DBAPIError

from lab.chaos.faults import BY_NAME, cluster_of
from lab.chaos.load import Load
from lab.chaos.operator import approve_right_deletes
from lab.chaos.phases import Failing, phases
from lab.chaos.proofs import audit
from lab.chaos.proofs.answers import ANSWER_S, broken_answers
from lab.chaos.proofs.call_proof import prove_calls, prove_records
from lab.chaos.report import Outcome
from lab.chaos.rig import Rig
from lab.chaos.schedule import Schedule, Trouble
from lab.chaos.stalls import StallWatch
from lab.chaos.world import World
from lab.simulators.control import ControlError
from lab.simulators.main_site.calls import CallOutcome

POLL_S = 0.05
AUDIT_EVERY_S = 2.0
DRAIN_S = 300.0
CONVERGE_S = 300.0
MOST_CLEAN_RUNS = 20
"""After this many full runs without a problem, every difference must be repaired or named by a finding. A proof of
absence takes about five runs, and a held delete waits for an operator's approval in between."""

LEAST_CLEAN_RUNS = 2
"""All must be right after the first clean run, and still be right after one more."""

HELD_CLEAN_RUNS = 8
"""If something is held, this many clean runs are awaited, because a proof and an approval may still release it."""

SLACK_S = 6.0
"""For this long after a fault answers may still suffer from it; longer where they may take longer."""

STALLED_S = 2.0
"""For this long after a stall of the machine answers may still suffer from it: they wait in a queue."""

POISONED_S = 120.0
"""Enough for a poison call to be dead: without extra messages the attempts take half a minute."""

Progress = Callable[[str], None]


def no_progress(_text: str) -> None:
    """Say nothing."""


@dataclass(slots=True)
class _Active:
    """A fault in progress."""

    trouble: Trouble
    until: float


@dataclass(slots=True)
class Play:
    """One schedule on one rig. ``worlds``: with customers and sales, one for each world of the schedule."""

    rig: Rig
    schedule: Schedule
    worlds: Sequence[World]
    load: Load | None = None
    progress: Progress = no_progress
    answer_s: float = ANSWER_S
    wrong: dict[str, float] = field(default_factory=dict)
    story: list[str] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    _active: list[_Active] = field(default_factory=list)
    _failing: list[Failing] = field(default_factory=list)
    _began: float = 0.0
    _audited: float = 0.0
    _status: str = ""
    _stall_watch: StallWatch = field(init=False)

    def __post_init__(self) -> None:
        self._stall_watch = StallWatch(self.rig.database)

    def run(self) -> Outcome:
        """Play the schedule to its end. Raises RuntimeFaultError if a part cannot be started again."""
        self._began = time.monotonic()
        self._stall_watch.start()
        events = threading.Thread(target=self._play_events, name="events", daemon=True)
        events.start()
        if self.load is not None:
            self.load.start()
        todo = list(self.schedule.troubles)
        while (now := self._passed()) < self.schedule.seconds or todo:
            self._end([active for active in self._active if active.until <= now])
            # On a slow machine faults come late and last as long. The next one at a place waits for its end.
            while todo and todo[0].at_s <= now and todo[0].where not in {a.trouble.where for a in self._active}:
                self._begin(todo.pop(0))
            self._watch()
            time.sleep(POLL_S)
        self._end(list(self._active))
        events.join(60)
        if self.load is not None:
            self.load.stop()
        self.rig.calm()
        self.rig.site.drain(30)
        self._drain()  # a poison call waits behind all others
        if self.rig.poisoner is not None:
            self.rig.poisoner.finish(POISONED_S, self.rig.check)
        self._note(f"{self.rig.deliver_messages()} messages that were kept back are delivered")
        self._drain()
        self._stall_watch.stop()
        held, unnamed, runs, took_s = self._await_convergence(datetime.now(UTC))
        return self._outcome(held, unnamed, runs, took_s)

    # --- while it plays

    def _passed(self) -> float:
        return time.monotonic() - self._began

    def _note(self, what: str) -> None:
        self.story.append(f"{self._passed():7.1f} s  {what}")

    def _play_events(self) -> None:
        for event in self.schedule.events:
            time.sleep(max(0.0, event.at_s - self._passed()))
            world = self.worlds[event.world]
            self._note(f"world {world.number}: {event}")
            try:
                world.play(event.kind, event.subject)
            except (ControlError, LookupError) as error:
                self._accuse(f"the simulators refused the event {event.kind}: {error}")

    def _begin(self, trouble: Trouble) -> None:
        self._note(f"! {trouble}")
        self.faults[trouble.kind.name] += 1
        BY_NAME[trouble.kind.name].begin(self.rig, trouble.choice)
        self._active.append(_Active(trouble, self._passed() + trouble.lasts_s))
        self._note_failing(trouble)

    def _note_failing(self, trouble: Trouble) -> None:
        """It began or has just ended. Answers may suffer from it for a while longer."""
        if not trouble.kind.outside:
            until = time.monotonic() + max(SLACK_S, self.answer_s)
            self._failing.append(Failing(trouble.kind.place, self._began + trouble.at_s - 0.5, until))

    def _end(self, over: Sequence[_Active]) -> None:
        for ended in over:
            self._active.remove(ended)
            kind = ended.trouble.kind
            if kind.lasts_s[1]:
                self._note(f"  {kind.name} is over")
            BY_NAME[kind.name].end(self.rig, ended.trouble.choice)
            self._note_failing(ended.trouble)
            if kind.place == "proxmox":
                cluster_of(self.rig, ended.trouble.choice).clear_faults()
            elif kind.place in ("calls", "feed"):
                # The main site clears all its faults at once, so the faults that are still in progress begin again.
                self.rig.site.clear_faults()
                for other in self._active:
                    if other.trouble.kind.place in ("calls", "feed"):
                        BY_NAME[other.trouble.kind.name].begin(self.rig, other.trouble.choice)

    def _watch(self) -> None:
        self.rig.check()
        if self.rig.database_frozen or time.monotonic() - self._audited < AUDIT_EVERY_S:
            return
        self._audited = time.monotonic()
        # The database may be away on purpose. Then the next audit sees what this one missed.
        with suppress(DBAPIError), self.rig.database.connect() as connection:
            for wrong in audit.violations(connection, self.worlds):
                self._accuse(wrong)
            counts = audit.count_journal(connection)
            self._status = f"{counts.accepted} calls, {counts.repairs} repairs, {counts.epochs} runs"
        names = ", ".join(sorted(active.trouble.kind.name for active in self._active)) or "all is well"
        self.progress(
            f"{self._passed():.0f}/{self.schedule.seconds:.0f} s  {self._status}, {self.rig.kills} kills; {names}"
        )

    def _accuse(self, wrong: str) -> None:
        if wrong not in self.wrong:
            self.wrong[wrong] = self._passed()
            self._note(f"WRONG: {wrong}")

    # --- afterwards

    def _drain(self) -> None:
        """Wait until every accepted call is finished. A call that still waits at the deadline is reported as lost."""
        began = time.monotonic()
        while time.monotonic() - began < DRAIN_S:
            self.rig.check()
            with suppress(DBAPIError), self.rig.database.connect() as connection:
                waiting = audit.count_journal(connection).calls.get("queued", 0)
                self.progress(f"{waiting} calls wait")
                if not waiting:
                    return
            time.sleep(0.3)

    def _await_convergence(self, since: datetime) -> tuple[list[str], list[str], int, float]:
        """Wait until every difference is repaired or named by a finding."""
        began = time.monotonic()
        held: list[str] = []
        unnamed: list[str] = ["nothing was compared yet"]
        runs = 0
        while time.monotonic() - began < CONVERGE_S and runs < MOST_CLEAN_RUNS:
            self.rig.check()
            with suppress(DBAPIError), self.rig.database.connect() as connection:
                runs = audit.clean_runs(connection, since)
                held, unnamed = audit.differences(connection, self.worlds)
                self.progress(f"converging: {len(unnamed)} differences, {len(held)} held, {runs} clean runs")
                if runs >= (HELD_CLEAN_RUNS if held else LEAST_CLEAN_RUNS) and not unnamed:
                    break
            approve_right_deletes(self.rig, self.worlds)
            time.sleep(0.3)
        return held, unnamed, runs, time.monotonic() - began

    def _outcome(self, held: list[str], unnamed: list[str], runs: int, took_s: float) -> Outcome:
        load, poisoner = self.load, self.rig.poisoner
        calls = load.calls if load is not None else {}
        every = list(load.every()) if load is not None else []
        operations = [
            call.operation_id
            for call in self.rig.site.list_calls()
            if call.outcome is CallOutcome.ANSWERED and call.operation_id is not None
        ]
        proof = audit.vps_queues(self.rig.database)
        with self.rig.database.connect() as connection:
            for wrong in (*audit.violations(connection, self.worlds), *(poisoner.wrong if poisoner else ())):
                self._accuse(wrong)
            counts = audit.count_journal(connection)
            lost = [f"an answer named operation {id_}, which is not in the journal" for id_ in audit.unknown_operations(
                connection, operations)]  # fmt: skip
            journal = audit.journal_of(connection, calls)
            proven = prove_calls(calls, journal)
            mismatched = list(prove_records(journal, audit.marks_of(connection, calls)))
            epochs = audit.epochs(connection)
            histories = audit.history(connection, self._named_in([*self.wrong, *unnamed]))
        takeovers = [self.rig.beats.took_over(pid, at) for pid, at in self.rig.killed_beats]
        away = [failure for failure in self._failing if failure.place == "postgres"]
        stalls = self._stall_watch.stalls(away, STALLED_S)
        answers = list(broken_answers(every, away, self._api_away(), stalls, self.answer_s))
        answered = [call for call in every if call.status is not None]
        timed = phases([call.at for call in answered], [call.took_s for call in answered], self._failing)
        return Outcome(
            seed=self.schedule.seed,
            counts=counts,
            faults=dict(self.faults),
            kills=self.rig.kills,
            seconds=self.schedule.seconds,
            answered=len(operations) + sum(call.operation is not None for call in every),
            calls=proven,
            poison=(poisoner.requeued, poisoner.discarded) if poisoner is not None else (0, 0),
            lost=(*lost, *proof.lost, *proven.lost),
            doubled=(*proof.doubled, *proven.doubled),
            disordered=(*proof.disordered, *proven.disordered),
            mismatched=(*proven.never_made, *mismatched),
            epochs=(*epochs, *self.rig.beats.interleaved()),
            wrong=tuple(self.wrong),
            held=tuple(held),
            unnamed=tuple(unnamed),
            clean_runs=runs,
            converged_in_s=took_s,
            takeovers_s=tuple(takeovers),
            sales=sum(len(world.sales) for world in self.worlds),
            statuses=Counter(call.status for call in every),
            phases=tuple(timed),
            answers=tuple(answers),
            stalls=len(stalls),
            story=tuple(self.story),
            histories=tuple(histories),
        )

    def _named_in(self, sentences: Sequence[str]) -> list[str]:
        words = {word.strip("(),:;") for sentence in sentences for word in sentence.split()}
        return [sale.name for world in self.worlds for sale in world.sales if sale.name in words]

    def _api_away(self) -> list[Failing]:
        """When no API listened, and a moment longer, because a connection may have reached the old API as it ended."""
        return [replace(span, until=span.until + POLL_S) for span in self.rig.api_away]
