"""What the journal must show after the play. Pure: it takes entries and gives sentences about what is wrong.

A repair names its run and its epoch. Each entry has the record's version before and after it, and PostgreSQL notes when
each entry was committed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of ``operations``. ``before``, ``after``: the record's version. ``committed_at``: from the server."""

    id: int
    kind: str
    action: str
    vps_id: int
    seq: int
    state: str
    accepted_at: datetime
    applied_at: datetime | None
    before: int | None = None
    after: int | None = None
    why: str | None = None  # the reason or the error of an operation that was not applied
    run_id: int | None = None
    epoch: int | None = None
    committed_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class VpsQueues:
    """Sentences about faults in the queues of VPSs, by kind of fault."""

    lost: tuple[str, ...]
    doubled: tuple[str, ...]
    disordered: tuple[str, ...]


def prove_vps_queues(entries: Iterable[Entry], versions: Mapping[int, int]) -> VpsQueues:
    """Check that each entry was applied exactly once and in its queue's order, or says why it was not applied.

    ``entries``: sorted by (vps_id, seq). ``versions``: the present version of each record. Every applied entry raises
    the version by one. So if the versions go from 1 to the record's without gap or fork, each entry was applied once
    and in order.
    """
    lost: list[str] = []
    doubled: list[str] = []
    disordered: list[str] = []
    for vps_id, queue in groupby(entries, key=lambda entry: entry.vps_id):
        version, expected, accepted, applied = 0, 0, None, None
        for entry in queue:
            expected += 1
            named = f"operation {entry.id} ({entry.kind} {entry.action}, VPS {vps_id}, seq {entry.seq})"
            if entry.seq != expected:
                lost.append(f"{named}: the queue has no seq {expected}")
                expected = entry.seq
            if entry.applied_at is None:
                lost.append(f"{named} was accepted and still is {entry.state}")
                continue
            if applied is not None and entry.applied_at < applied:
                disordered.append(f"{named} was finished before its predecessor")
            if entry.kind == "sync" and accepted is not None and entry.accepted_at < accepted:
                disordered.append(f"{named} was accepted before its predecessor")
            accepted, applied = (entry.accepted_at if entry.kind == "sync" else accepted), entry.applied_at
            if entry.state != "applied":
                if not entry.why:
                    lost.append(f"{named} is {entry.state}, without a reason")
                continue
            if (entry.before or 0) != version or entry.after != version + 1:
                doubled.append(f"{named} took the record from {entry.before} to {entry.after}, it was at {version}")
            version = entry.after or version
        if versions.get(vps_id, 0) != version:
            doubled.append(f"VPS {vps_id} is at version {versions.get(vps_id, 0)}, its journal ends at {version}")
    return VpsQueues(tuple(lost), tuple(doubled), tuple(disordered))


def prove_epochs(repairs: Iterable[Entry], epoch_of: Mapping[int, int]) -> Iterator[str]:
    """Sentences about runs that wrote at the same time as a later run, or after it.

    ``epoch_of``: each run's epoch. Every write of an epoch must be committed before the first write of the next epoch
    begins.
    """
    last: Entry | None = None
    closed: Entry | None = None  # the last write of the previous epoch
    for entry in sorted(repairs, key=lambda e: (e.committed_at is not None, e.committed_at, e.id)):
        named = f"repair {entry.id} of run {entry.run_id} (epoch {entry.epoch})"
        if entry.run_id is None or entry.epoch is None or entry.committed_at is None or entry.applied_at is None:
            yield f"{named} does not say its run, its epoch or its time"
            continue
        if epoch_of.get(entry.run_id) != entry.epoch:
            yield f"{named} was written under another epoch than its run's {epoch_of.get(entry.run_id)}"
        if last is not None and last.epoch is not None and entry.epoch < last.epoch:
            yield f"{named} was committed after repair {last.id} of epoch {last.epoch}"
        if last is not None and last.epoch is not None and entry.epoch > last.epoch:
            closed = last
        if closed is not None and closed.committed_at is not None and entry.applied_at < closed.committed_at:
            yield f"{named} was begun before repair {closed.id} of epoch {closed.epoch} was committed"
        last = entry
