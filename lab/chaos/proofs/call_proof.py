"""Check by its mark that every call is in the journal as often as the answers say, and in order. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from lab.chaos.calls import MarkedCall


@dataclass(frozen=True, slots=True)
class Journaled:
    """A marked call in the journal, in the order of its VPS's queue."""

    operation: int
    mark: str
    state: str


@dataclass(slots=True)
class Calls:
    """The result of the proof: sentences by kind of fault, and counts of what is allowed.

    ``never_made``: entries of the journal that no caller asked for, or that the panel had refused at every try.
    ``unanswered``: calls that had no answer at some try and were accepted at none; ``taken``: those of them that are in
    the journal. ``repeated``: repeats without a key after no answer; ``twice``: those that made a second entry, as they
    may.
    """

    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    disordered: list[str] = field(default_factory=list)
    never_made: list[str] = field(default_factory=list)
    unanswered: int = 0
    taken: int = 0
    repeated: int = 0
    twice: int = 0

    @property
    def wrong(self) -> list[str]:
        """All sentences."""
        return [*self.lost, *self.doubled, *self.disordered, *self.never_made]


def prove_calls(sent: Mapping[int, Sequence[MarkedCall]], journal: Mapping[int, Sequence[Journaled]]) -> Calls:
    """Compare the calls with the journal. ``sent``: of each VPS the calls in the order in which its one caller made
    them. ``journal``: of each VPS the entries in the order of its queue.

    An accepted call is in the journal once, a refused call is not, and a call without an answer is there at most once.
    Repeats have the first call's mark. With a key they are one call. Without a key each accepted repeat is there, and
    each unanswered repeat may be.
    """
    proof = Calls()
    for vps_id, calls in sent.items():
        by_mark: dict[str, list[MarkedCall]] = defaultdict(list)
        for call in calls:
            by_mark[call.mark].append(call)
        entries = journal.get(vps_id, ())
        there: dict[str, list[int]] = defaultdict(list)
        for entry in entries:
            there[entry.mark].append(entry.operation)
        for mark, tries in by_mark.items():
            _prove_call(proof, f"VPS {vps_id}: call {mark}", tries, there.get(mark, []))
        proof.never_made += [f"VPS {vps_id}: no caller made call {mark}" for mark in there if mark not in by_mark]
        place = {mark: n for n, mark in enumerate(by_mark)}
        order = [(place[entry.mark], entry) for entry in entries if entry.mark in place]
        proof.disordered += [
            f"VPS {vps_id}: call {after.mark} (operation {after.operation}) stands behind call {before.mark}, which was"
            f" made later"
            for (m, before), (n, after) in pairwise(order)
            if n < m
        ]
    return proof


def _prove_call(proof: Calls, named: str, tries: Sequence[MarkedCall], there: Sequence[int]) -> None:
    answered = [call.operation for call in tries if call.operation is not None]
    operations, unsure, keyed = set(answered), sum(call.open for call in tries), tries[0].keyed
    proof.lost += [f"{named} was accepted as operation {id_}, which is not there" for id_ in operations - set(there)]
    if not keyed and len(operations) < len(answered):
        proof.lost.append(f"{named} was accepted {len(answered)} times, as operations {sorted(operations)} only")
    if keyed and len(operations) > 1:
        proof.doubled.append(f"{named} was answered as operations {sorted(operations)} under one key")
    most = min(1, len(operations) + unsure) if keyed else len(operations) + unsure
    if not most and there:
        proof.never_made.append(f"{named} was refused ({tries[-1].code}) and is in the journal")
    elif len(there) > most:
        proof.doubled.append(f"{named} is {len(there)} times in the journal, at most {most} were asked for")
    if not operations and unsure:
        proof.unanswered += 1
        proof.taken += bool(there)
    if not keyed:
        proof.repeated += sum(before.open for before, _ in pairwise(tries))
        proof.twice += max(0, min(len(there), most) - 1)


def prove_records(journal: Mapping[int, Sequence[Journaled]], marks: Mapping[int, str | None]) -> Iterator[str]:
    """Sentences about calls that were not applied, and records that do not show their last call.

    ``marks``: the marks in the records. Only for VPSs that get nothing but marked calls, and when no call waits.
    """
    for vps_id, entries in journal.items():
        for entry in entries:
            if entry.state != "applied":
                yield f"VPS {vps_id}: call {entry.mark} (operation {entry.operation}) is {entry.state}"
        last = entries[-1].mark if entries else None
        if last != marks.get(vps_id):
            yield f"VPS {vps_id}: its last call has the mark {last}, its record has {marks.get(vps_id)}"
