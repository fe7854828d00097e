"""Checks every call against the journal by its mark: there as often as its caller was told, and in order. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from lab.chaos.calls import Said


@dataclass(frozen=True, slots=True)
class Journaled:
    """A marked call in the journal, in the order of its VPS's queue."""

    operation: int
    mark: str
    state: str


@dataclass(slots=True)
class Calls:
    """What the calls show: sentences by kind of fault, and counts of what is no fault.

    ``unasked``: in the journal, though no caller made that call or all tries were refused. ``unanswered``: calls whose
    last try got no answer; ``taken``: those of them that are in the journal. ``repeated``: keyless repeats after no
    answer; ``twice``: those that made a second entry, as a repeat without a key may.
    """

    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    disordered: list[str] = field(default_factory=list)
    unasked: list[str] = field(default_factory=list)
    unanswered: int = 0
    taken: int = 0
    repeated: int = 0
    twice: int = 0

    @property
    def wrong(self) -> list[str]:
        """All sentences."""
        return [*self.lost, *self.doubled, *self.disordered, *self.unasked]


def prove_calls(said: Mapping[int, Sequence[Said]], journal: Mapping[int, Sequence[Journaled]]) -> Calls:
    """Both by VPS: the calls in the order in which its one caller made them, the entries in the order of its queue.

    An accepted call is in the journal once, a refused one is not, and one without an answer is there at most once.
    Repeats have the first call's mark. With a key they are one call. Without a key each accepted one is there, and each
    unanswered one may be.
    """
    found = Calls()
    for vps_id, calls in said.items():
        by_mark: dict[str, list[Said]] = defaultdict(list)
        for one in calls:
            by_mark[one.mark].append(one)
        entries = journal.get(vps_id, ())
        there: dict[str, list[int]] = defaultdict(list)
        for entry in entries:
            there[entry.mark].append(entry.operation)
        for mark, tries in by_mark.items():
            _prove_call(found, f"VPS {vps_id}: call {mark}", tries, there.get(mark, []))
        found.unasked += [f"VPS {vps_id}: nobody made call {mark}" for mark in there if mark not in by_mark]
        place = {mark: n for n, mark in enumerate(by_mark)}
        order = [(place[entry.mark], entry) for entry in entries if entry.mark in place]
        found.disordered += [
            f"VPS {vps_id}: call {after.mark} (operation {after.operation}) stands behind call {before.mark}, which was"
            f" made later"
            for (m, before), (n, after) in pairwise(order)
            if n < m
        ]
    return found


def _prove_call(found: Calls, named: str, tries: Sequence[Said], there: Sequence[int]) -> None:
    answered = [one.operation for one in tries if one.operation is not None]
    told, silent, keyed = set(answered), sum(one.open for one in tries), tries[0].keyed
    found.lost += [f"{named} was accepted as operation {id_}, which is not there" for id_ in told - set(there)]
    if not keyed and len(told) < len(answered):
        found.lost.append(f"{named} was accepted {len(answered)} times, as operations {sorted(told)} only")
    if keyed and len(told) > 1:
        found.doubled.append(f"{named} was answered as operations {sorted(told)} under one key")
    most = min(1, len(told) + silent) if keyed else len(told) + silent
    if not most and there:
        found.unasked.append(f"{named} was refused ({tries[-1].code}) and is in the journal")
    elif len(there) > most:
        found.doubled.append(f"{named} is {len(there)} times in the journal, at most {most} were asked for")
    if not told and silent:
        found.unanswered += 1
        found.taken += bool(there)
    if not keyed:
        found.repeated += sum(before.open for before, _ in pairwise(tries))
        found.twice += max(0, min(len(there), most) - 1)


def prove_records(journal: Mapping[int, Sequence[Journaled]], marks: Mapping[int, str | None]) -> Iterator[str]:
    """Sentences about calls that were not applied and records that do not show their last call.

    ``marks``: what the records say. For VPSs with marked calls only and nothing waiting.
    """
    for vps_id, entries in journal.items():
        for entry in entries:
            if entry.state != "applied":
                yield f"VPS {vps_id}: call {entry.mark} (operation {entry.operation}) is {entry.state}"
        last = entries[-1].mark if entries else None
        if last != marks.get(vps_id):
            yield f"VPS {vps_id}: its last call said {last}, the record says {marks.get(vps_id)}"
