"""The outcome: the numbers, and the story if something is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lab.chaos.phases import Phase
from lab.chaos.proofs.audit import Counts
from lab.chaos.proofs.call_proof import Calls

STORY_LINES = 200
SENTENCES = 20
"""At most this many sentences of a kind are shown."""

FLOOR_PER_S = 100_000 / (30 * 60)
"""The fewest accepted calls a second of a torture run: 100,000 in half an hour. With fewer it has not tried enough."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One play of ``seconds`` seconds. Every tuple of sentences but ``held`` must be empty. ``takeovers_s``: per killed
    beat, None if no other one scheduled afterwards. ``calls``: the load's calls against the journal. ``poison``: how
    many poison calls were requeued, and how many discarded. ``statuses``: of the load's calls, None for no answer.
    ``phases``: how long calls took. ``answers``: answers that no caller should have got. ``unlike``: records and
    entries that no call asked for."""

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
    unlike: tuple[str, ...]
    epochs: tuple[str, ...]
    wrong: tuple[str, ...]
    held: tuple[str, ...]
    unnamed: tuple[str, ...]
    clean_runs: int
    settled_in_s: float
    takeovers_s: tuple[float | None, ...]
    sales: int
    statuses: Mapping[int | None, int]
    phases: tuple[Phase, ...]
    answers: tuple[str, ...]
    story: tuple[str, ...]
    histories: tuple[str, ...]

    @property
    def accepted_per_s(self) -> float:
        """The load's accepted calls a second, whatever failed, without those that made its machines."""
        return (self.statuses.get(200, 0) + self.statuses.get(202, 0)) / self.seconds

    @property
    def broken_promises(self) -> list[str]:
        """What was slower than promised in the 99th percentile, and too small a load. It counts only on a machine that
        does nothing else."""
        found = [sentence for phase in self.phases if (sentence := phase.broken_promise)]
        if self.accepted_per_s < FLOOR_PER_S:
            found.append(f"{self.accepted_per_s:.1f} calls a second were accepted, torture asks for {FLOOR_PER_S:.1f}")
        return found

    @property
    def failures(self) -> list[str]:
        """Sentences about everything that must not be."""
        found = [
            sentence
            for kind in (self.lost, self.doubled, self.disordered, self.unlike, self.epochs, self.wrong, self.answers)
            for sentence in (*kind[:SENTENCES], *([f"and {len(kind) - SENTENCES} more"] if kind[SENTENCES:] else ()))
        ]
        found += [f"after {self.clean_runs} clean runs: {sentence}" for sentence in self.unnamed]
        return found

    def summary(self) -> list[str]:
        """The numbers, one line each."""
        states = ", ".join(f"{n} {state}" for state, n in sorted(self.counts.calls.items()))
        runs = ", ".join(f"{n} {state}" for state, n in sorted(self.counts.runs.items()))
        lines = [
            f"calls      {self.counts.accepted} accepted ({states}), {self.answered} answers were read;"
            f" of the load's {self.accepted_per_s:.1f} a second (torture asks for {FLOOR_PER_S:.1f})",
            f"repairs    {self.counts.repairs} in {self.counts.epochs} epochs (runs: {runs})",
            f"faults     {sum(self.faults.values())}, {self.kills} kills: "
            + ", ".join(f"{n} {name}" for name, n in sorted(self.faults.items())),
            f"lost {len(self.lost)}, doubled {len(self.doubled)}, out of order {len(self.disordered)}, "
            f"unlike what was said {len(self.unlike)}, wrong {len(self.wrong)}, epochs or beats overlapping "
            f"{len(self.epochs)}",
            f"settled    in {self.settled_in_s:.0f} s and {self.clean_runs} clean runs: {self.sales} sales, "
            f"{len(self.held)} held, {len(self.unnamed)} unexplained",
        ]
        if self.takeovers_s:
            told = ", ".join("never" if s is None else f"{s:.1f} s" for s in self.takeovers_s)
            lines.append(f"beats      the next one scheduled after {told}")
        if self.statuses:
            unknown = self.statuses.get(None, 0)
            told = ", ".join(
                f"{n} {status}" for status, n in sorted((k or 0, v) for k, v in self.statuses.items()) if status
            )
            calls = self.calls
            lines += [
                f"load       answered {told}; {unknown} without an answer; {len(self.answers)} not as promised",
                f"unanswered {calls.unanswered} calls, of which {calls.taken} were taken; {calls.repeated} repeated "
                f"without a key, which made {calls.twice} second entries",
            ]
        if any(self.poison):
            lines.append(f"poison     {self.poison[0]} dead calls requeued, {self.poison[1]} discarded")
        return [*lines, *(f"answers    {phase}" for phase in self.phases)]

    def tale(self) -> list[str]:
        """What went wrong and what happened, for a person to read."""
        lines = [f"seed {self.seed}", *self.failures, "what happened:", *self.story[-STORY_LINES:]]
        return [*lines, "the journal of whom it concerns:", *self.histories] if self.histories else lines
