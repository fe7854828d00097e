"""What came of it: the numbers for whoever asked, and the story when something is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from chaos.audit import Counts
from chaos.load import Slow
from chaos.phases import Phase

STORY_LINES = 200


@dataclass(frozen=True, slots=True)
class Outcome:
    """One play. Every tuple of sentences but ``held`` must be empty; ``takeovers_s``: per killed beat, None if no other
    one scheduled afterwards; ``statuses``: of the load's calls, None for no answer; ``phases``: how long they took;
    ``late``: answers beyond 2 s while database and API were well."""

    seed: int
    counts: Counts
    faults: Mapping[str, int]
    kills: int
    answered: int
    lost: tuple[str, ...]
    doubled: tuple[str, ...]
    disordered: tuple[str, ...]
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
    late: tuple[Slow, ...]
    story: tuple[str, ...]
    histories: tuple[str, ...]

    @property
    def broken_promises(self) -> list[str]:
        """What was slower than promised in the 99th percentile: of weight only on a machine that does nothing else."""
        return [sentence for phase in self.phases if (sentence := phase.broken_promise)]

    @property
    def failures(self) -> list[str]:
        """Everything that must not be, as sentences."""
        found = [*self.lost, *self.doubled, *self.disordered, *self.epochs, *self.wrong]
        found += [f"after {self.clean_runs} clean runs: {sentence}" for sentence in self.unnamed]
        found += [f"an answer ({one.status}) took {one.took_s:.1f} s" for one in self.late]
        return found

    def summary(self) -> list[str]:
        """The numbers, a line each."""
        states = ", ".join(f"{n} {state}" for state, n in sorted(self.counts.calls.items()))
        runs = ", ".join(f"{n} {state}" for state, n in sorted(self.counts.runs.items()))
        lines = [
            f"calls      {self.counts.accepted} accepted ({states}), {self.answered} answers were read",
            f"repairs    {self.counts.repairs} in {self.counts.epochs} epochs (runs: {runs})",
            f"faults     {sum(self.faults.values())}, {self.kills} kills: "
            + ", ".join(f"{n} {name}" for name, n in sorted(self.faults.items())),
            f"lost {len(self.lost)}, doubled {len(self.doubled)}, out of order {len(self.disordered)}, "
            f"wrong {len(self.wrong)}, epochs or beats overlapping {len(self.epochs)}",
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
            lines.append(f"load       answered {told}; {unknown} without an answer; {len(self.late)} beyond 2 s while "
                         "database and API were well")  # fmt: skip
        return [*lines, *(f"answers    {phase}" for phase in self.phases)]

    def tale(self) -> list[str]:
        """What went wrong and what had happened, for a person to read."""
        lines = [f"seed {self.seed}", *self.failures, "what happened:", *self.story[-STORY_LINES:]]
        return [*lines, "the journal of whom it concerns:", *self.histories] if self.histories else lines
