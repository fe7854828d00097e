"""The outcome of a play: the numbers, and if something is wrong, the story of what happened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lab.chaos.phases import Phase
from lab.chaos.proofs.audit import Counts
from lab.chaos.proofs.call_proof import Calls

STORY_LINES = 200
SENTENCES = 20
"""At most this many sentences about one kind of fault are shown."""

CALLS_PER_FAULT = 100
"""A torture run must see at least so many calls accepted for each fault. With fewer too few calls met the faults."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One play of ``seconds`` seconds. Every tuple of sentences about faults but ``held`` must be empty.

    ``takeovers_s``: for each killed beat the seconds until another beat scheduled, None if none did. ``calls``: the
    load's calls compared with the journal. ``poison``: how many poison calls were requeued, and how many discarded.
    ``statuses``: of the load's calls, None for no answer. ``phases``: how long calls took. ``answers``: answers that no
    caller should have got. ``mismatched``: records and entries that no call asked for.
    """

    seed: int
    seconds: float
    counts: Counts
    faults: Mapping[str, int]
    kills: int
    answered: int
    calls: Calls
    poison: tuple[int, int]
    lost: tuple[str, ...]
    doubled: tuple[str, ...]
    disordered: tuple[str, ...]
    mismatched: tuple[str, ...]
    epochs: tuple[str, ...]
    wrong: tuple[str, ...]
    held: tuple[str, ...]
    unnamed: tuple[str, ...]
    clean_runs: int
    converged_in_s: float
    takeovers_s: tuple[float | None, ...]
    sales: int
    statuses: Mapping[int | None, int]
    phases: tuple[Phase, ...]
    answers: tuple[str, ...]
    stalls: int  # times in which the machine itself stood still
    story: tuple[str, ...]
    histories: tuple[str, ...]

    @property
    def accepted(self) -> int:
        """The load's accepted calls, without the creates of its machines."""
        return self.statuses.get(200, 0) + self.statuses.get(202, 0)

    @property
    def broken_promises(self) -> list[str]:
        """Phases that were slower than promised in the 99th percentile, and a load that was too small to prove much.
        The first count only on a machine that does nothing else."""
        broken = [sentence for phase in self.phases if (sentence := phase.broken_promise)]
        faults = sum(self.faults.values())
        if self.accepted < CALLS_PER_FAULT * faults:
            broken.append(
                f"{self.accepted} calls were accepted beside {faults} faults: too few to prove much; torture asks for"
                f" {CALLS_PER_FAULT} calls for each fault, so give it a machine that does nothing else"
            )
        return broken

    @property
    def failures(self) -> list[str]:
        """A sentence for everything that went wrong."""
        kinds = self.lost, self.doubled, self.disordered, self.mismatched, self.epochs, self.wrong, self.answers
        failures = [
            sentence
            for kind in kinds
            for sentence in (*kind[:SENTENCES], *([f"and {len(kind) - SENTENCES} more"] if kind[SENTENCES:] else ()))
        ]
        failures += [f"after {self.clean_runs} clean runs: {sentence}" for sentence in self.unnamed]
        return failures

    def summary(self) -> list[str]:
        """The numbers, one line each."""
        states = ", ".join(f"{n} {state}" for state, n in sorted(self.counts.calls.items()))
        runs = ", ".join(f"{n} {state}" for state, n in sorted(self.counts.runs.items()))
        lines = [
            f"calls      {self.counts.accepted} accepted ({states}), {self.answered} answers were read;"
            f" of the load's {self.accepted / self.seconds:.1f} a second",
            f"repairs    {self.counts.repairs} in {self.counts.epochs} epochs (runs: {runs})",
            f"faults     {sum(self.faults.values())}, {self.kills} kills: "
            + ", ".join(f"{n} {name}" for name, n in sorted(self.faults.items())),
            f"lost {len(self.lost)}, doubled {len(self.doubled)}, out of order {len(self.disordered)}, "
            f"not as called {len(self.mismatched)}, wrong {len(self.wrong)}, epochs or beats overlapping "
            f"{len(self.epochs)}",
            f"converged  in {self.converged_in_s:.0f} s and {self.clean_runs} clean runs: {self.sales} sales, "
            f"{len(self.held)} held, {len(self.unnamed)} unexplained",
        ]
        if self.takeovers_s:
            delays = ", ".join("never" if s is None else f"{s:.1f} s" for s in self.takeovers_s)
            lines.append(f"beats      after a kill another beat scheduled after {delays}")
        if self.statuses:
            unknown = self.statuses.get(None, 0)
            answers = ", ".join(
                f"{n} {status}" for status, n in sorted((k or 0, v) for k, v in self.statuses.items()) if status
            )
            calls = self.calls
            lines += [
                f"load       answered {answers}; {unknown} without an answer; {len(self.answers)} not as promised",
                f"unanswered {calls.unanswered} calls, {calls.taken} of them were accepted; {calls.repeated} repeated "
                f"without a key, which made {calls.twice} second entries",
            ]
        if self.stalls:
            lines.append(f"machine    stood still {self.stalls} times; answers may be late or 503 then")
        if any(self.poison):
            lines.append(f"poison     {self.poison[0]} dead calls requeued, {self.poison[1]} discarded")
        return [*lines, *(f"answers    {phase}" for phase in self.phases)]

    def tale(self) -> list[str]:
        """What went wrong and what had happened, for a person to read."""
        lines = [f"seed {self.seed}", *self.failures, "what happened:", *self.story[-STORY_LINES:]]
        return [*lines, "the journal of the records concerned:", *self.histories] if self.histories else lines
