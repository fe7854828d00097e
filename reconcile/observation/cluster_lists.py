"""Reads the lists of all clusters into the panel's store. It changes no record.

A cluster's fault is a value here, never an exception: what was not read completely proves nothing. Each list is staged
as it arrives. Those that have arrived are compared with what is known and merged together, while the others are read.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial

from sqlalchemy import Connection

from domain.guests import GuestType
from domain.source_protocols import ClusterReading, Gone, GuestSource
from domain.source_troubles import cluster_trouble
from panel.journal.rows import database_now
from panel.observations import absences, listed_guests, snapshots
from panel.observations.listed_guests import Missing, TrustedList
from panel.observations.proof import Proof
from panel.observations.snapshots import ScopeRead
from panel.runs import source_states
from reconcile.observation import parallel_reads
from reconcile.observation.mass_disappearance import ASKED_SINGLY, Loss, why_not_believed
from reconcile.observation.observe import Observed, answers
from reconcile.observation.parallel_reads import FAST, FULL, Answered, ReadDeadline

MERGED_AT_ONCE = 50_000
"""Guests. With more of them a transaction would keep the calls for changed guests waiting."""


def read_clusters(
    connection: Connection,
    run_id: int,
    sources: list[GuestSource],
    seen: Observed,
    deadline: ReadDeadline,
    proof: Proof,
) -> None:
    """Read every cluster at the same time and merge what may be believed. A cluster that hangs delays the others by
    ``deadline`` at most, and the next runs of this kind leave it alone."""
    if not sources:
        return
    asked, began = time.monotonic(), database_now(connection)
    late = source_states.late_lanes(connection)
    paused = {
        source.cluster: until
        for source in sources
        if deadline.lane in late.get(f"proxmox:{source.cluster}", ())
        and (until := source_states.late_until(connection, f"proxmox:{source.cluster}", deadline.lane)) is not None
    }
    previous = listed_guests.previous_reads(connection, [source.cluster for source in sources])
    degraded = source_states.degraded_sources(connection)
    connection.commit()
    reads = parallel_reads.ParallelReads([s for s in sources if s.cluster not in paused], deadline.within_s)
    taking = _Taking(connection, run_id, seen, proof, began, previous, degraded, reads)
    for source in sources:
        if (until := paused.get(source.cluster)) is not None:
            taking.take(parallel_reads.not_asked(source, until), began)
    for answer in reads:
        if answer is None:  # nothing more has arrived yet
            taking.merge()
            continue
        name = f"proxmox:{answer.source.cluster}"
        if answer.took_s is None:
            source_states.note_late(connection, name, deadline.lane)
        elif name in late:
            lanes = [lane.lane for lane in (FAST, FULL) if answer.took_s <= lane.within_s]
            source_states.note_in_time(connection, name, lanes)
        # "asked" was before "began", so this is not earlier than the answer.
        taking.take(answer, began + timedelta(seconds=answer.at - asked))
    taking.merge()


@dataclass(frozen=True, slots=True)
class _Staged:
    """A trusted list without its guests: they are in the stage. ``listed``: how many are on each node."""

    source: GuestSource
    reading: ClusterReading
    listed: Counter[str]
    answered: datetime

    @property
    def cluster(self) -> str:
        return self.reading.cluster

    def believed(self, shrunk: str | None) -> frozenset[str]:
        """The nodes from which an absence counts. ``shrunk``: why none does."""
        return self.reading.nodes_complete if shrunk is None else frozenset()


@dataclass(slots=True)
class _Taking:
    """Takes lists: stages each, and merges those that are staged. ``began``: when all clusters were asked (database
    clock). ``previous``: by cluster, when the trusted read before this one began. ``degraded``: sources that lost much
    in an earlier read."""

    connection: Connection
    run_id: int
    seen: Observed
    proof: Proof
    began: datetime
    previous: dict[str, datetime]
    degraded: frozenset[str]
    reads: parallel_reads.ParallelReads
    staged: list[_Staged] = field(default_factory=list)
    reads_of: list[ScopeRead] = field(default_factory=list)

    def take(self, answer: Answered, answered: datetime) -> None:
        """Stage a list that may be believed. ``answered``: not earlier than its end, by the database's clock."""
        reading, seen = answer.reading, self.seen
        cluster, source = reading.cluster, f"proxmox:{reading.cluster}"
        seen.problems += [f"{cluster}: {problem}" for problem in reading.problems]
        seen.warnings += [f"{cluster}: {warning}" for warning in reading.warnings]
        seen.counts[f"guests:{cluster}"] = len(reading.guests)
        seen.troubles[source] = cluster_trouble(reading, None)
        if answer.took_s is None:
            seen.late.add(cluster)
        if not reading.trusted:
            problem = "; ".join(reading.problems) or "not trusted"
            self.reads_of.append(ScopeRead(source, "all", complete=False, count=len(reading.guests), problem=problem))
            return
        listed_guests.stage_guests(self.connection, reading.guests)
        listed = Counter(guest.node for guest in reading.guests)
        self.staged.append(_Staged(answer.source, replace(reading, guests=()), listed, answered))
        if sum(staged.listed.total() for staged in self.staged) >= MERGED_AT_ONCE:
            self.merge()

    def merge(self) -> None:
        """Merge the lists that are staged, and note all that was read."""
        if not self.staged and not self.reads_of:
            return
        connection, began = self.connection, self.began
        lists = [
            TrustedList(s.cluster, s.answered, self.previous.get(s.cluster), s.reading.nodes_complete)
            for s in self.staged
        ]
        if lists:
            listed_guests.compare_lists(connection, lists, began, self.seen.gap)
            missing = listed_guests.missing_guests(connection, lists)
            shrunk = {s.cluster: self._why_not_believed(s, missing.get(s.cluster)) for s in self.staged}
            listed_guests.merge_guests(connection, began)
        for staged in self.staged:
            self.reads_of += _scopes(staged, shrunk[staged.cluster])
        ids = snapshots.record_snapshots(connection, self.run_id, began, self.reads_of)
        evidence = {
            (s.cluster, node): ids[f"proxmox:{s.cluster}", node]
            for s in self.staged
            for node in s.believed(shrunk[s.cluster])
        }
        absences.count_absent_guests(connection, self.run_id, evidence, began, self.proof)
        for staged in self.staged:
            self._note(staged, shrunk[staged.cluster])
        connection.commit()
        self.staged.clear()
        self.reads_of.clear()

    def _why_not_believed(self, staged: _Staged, missing: Missing | None) -> str | None:
        """Why no absence from this list counts. Most lists lack nothing new, and nothing is asked about them."""
        connection, source = self.connection, f"proxmox:{staged.cluster}"
        if missing is None and source not in self.degraded:
            return None
        missing, nodes = missing or Missing(0, 0), sorted(staged.reading.nodes_complete)

        def vanished(limit: int) -> list[tuple[str, GuestType, int]]:
            return listed_guests.vanished_guests(connection, staged.cluster, nodes, limit)

        def each_is_gone() -> bool:
            guests = vanished(ASKED_SINGLY)
            connection.commit()
            questions = (partial(staged.source.confirm, *guest) for guest in guests)
            until = time.monotonic() + self.reads.left_s
            return all(isinstance(found, Gone) for found in answers(f"cluster {staged.cluster}", questions, until))

        def names() -> frozenset[str]:
            return frozenset(f"{staged.cluster}/{vmid}" for _, _, vmid in vanished(missing.missing))

        return why_not_believed(connection, source, Loss(missing.missing, missing.known, names, each_is_gone))

    def _note(self, staged: _Staged, shrunk: str | None) -> None:
        """Note for the run what this list was good for."""
        seen, reading, cluster = self.seen, staged.reading, staged.cluster
        if shrunk is not None:
            seen.troubles[f"proxmox:{cluster}"] = cluster_trouble(reading, shrunk)
            seen.problems.append(f"{cluster}: {shrunk}")
        seen.previous[cluster] = self.previous.get(cluster)
        seen.began[cluster] = self.began
        seen.trusted.add(cluster)
        seen.away[cluster] = reading.nodes_away
        if shrunk is None:
            seen.believed.add(cluster)
        if reading.complete and shrunk is None:
            seen.complete.add(cluster)


def _scopes(staged: _Staged, shrunk: str | None) -> Iterator[ScopeRead]:
    """The reads of each node, and of "all". That one dates the trusted list itself, for "two observations". Only nodes
    prove absence."""
    source, complete = f"proxmox:{staged.cluster}", staged.believed(shrunk)
    for node in sorted(staged.reading.nodes | staged.reading.nodes_complete):
        well = node in complete
        yield ScopeRead(source, node, well, staged.listed[node], None if well else shrunk)
    yield ScopeRead(source, "all", complete=True, count=staged.listed.total(), problem=shrunk)
