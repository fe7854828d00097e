"""A run while it is under way: what it needs, what it may ask, and its writes under its lease."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, Engine

from domain.changes import Change, Kind, Plan
from domain.failures import Interrupts
from domain.source_protocols import GuestSource, OrderFeed
from panel.observations.absences import Proof
from panel.operators import gate_context
from panel.operators.pauses import CLUSTER, FEED, PauseView
from panel.runs import source_memory
from panel.runs.lease import FencedError, Lease, hold_lease
from reconcile.apply import Confirmer, Confirming, Outcome, apply_changes, unconfirmed_last
from reconcile.decision.cases import Policy
from reconcile.decision.gate import Budget, Gated, Handling, Standing, gate
from reconcile.decision.subjects import Paused, parse_subject
from reconcile.observation.fingerprints import Looks
from reconcile.observation.observe import FeedRead, Observed
from reconcile.parallel_confirmations import SideBySide
from reconcile.phases import Phases, Tell, tell_nobody

RUN_FOR_S = 540.0
"""How long a run may read and write. Reporting comes after it, so the task's own limit is later."""
APPLY_FOR_S = 180.0
"""How long a full run writes at most: the fast lane waits for it. What is left, the next run goes on with."""
APPLY_AT_LEAST_S = 30.0
"""However long the reading took, some of what it found is mended, or slow sources would let nothing be."""
POWER_FOR_S = 20.0
"""How long power states and nodes are written, which need no confirmation."""


@dataclass(frozen=True, slots=True)
class Reconciler:
    """Everything a run needs. ``first_run_asks``: hold the first deletes, and bulk creates of a new panel, until
    an operator has seen a plan (off in the demo). ``interrupts``: exceptions that end the run and say nothing about
    the object it was at (a task's time limit). ``feed_age_max``: how old the feed's content may be.
    ``tell``: is told what the run does, for a person at a terminal."""

    engine: Engine
    feed: OrderFeed | None
    sources: tuple[GuestSource, ...]
    policy: Policy
    budget: Budget
    shared_ids: bool
    sweep_interval: timedelta
    users_interval: timedelta
    first_run_asks: bool = True
    handling: Mapping[Kind, Handling] = field(default_factory=dict)
    interrupts: Interrupts = ()
    feed_age_max: timedelta = timedelta(minutes=5)
    tell: Tell = tell_nobody

    @property
    def clusters(self) -> frozenset[str]:
        return frozenset(source.cluster for source in self.sources)


@dataclass(slots=True)
class _Told:
    """Confirms, and tells before each change how far the writing is."""

    confirming: Confirming
    tell: Tell
    total: int
    done: int = 0

    def hindrance(self, change: Change) -> tuple[str | None, dict[str, Any]]:
        self.tell("applying", self.done, self.total)
        self.done += 1
        return self.confirming.hindrance(change)


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a run did. ``state``: done, busy (another run is under way), paused, or fenced (another run took over,
    since this one lost its connection). ``summary`` goes to the task list: counts only, no personal data."""

    run_id: int | None
    state: str
    summary: str
    plan: Plan | None = None
    gated: Gated | None = None
    outcome: Outcome | None = None
    problems: tuple[str, ...] = ()
    counts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Run:
    """A run under way: its lease, what is paused, and what was read before the lease was taken. ``began``: on the
    monotonic clock."""

    reconciler: Reconciler
    lease: Lease
    id: int
    pauses: Mapping[str, PauseView]
    phases: Phases
    feed_read: FeedRead | None = None
    looks: Looks | None = None
    began: float = field(default_factory=time.monotonic)

    @property
    def paused(self) -> Paused:
        clusters = frozenset(t.removeprefix(CLUSTER) for t in self.pauses if t.startswith(CLUSTER))
        subjects = frozenset(subject for t in self.pauses if (subject := parse_subject(t)) is not None)
        return Paused(clusters, FEED in self.pauses, subjects)

    @property
    def sources(self) -> list[GuestSource]:
        """The clusters that may be asked."""
        return [s for s in self.reconciler.sources if s.cluster not in self.paused.clusters]

    @property
    def feed(self) -> OrderFeed | None:
        """The main site, if it may be asked."""
        return None if self.paused.feed else self.reconciler.feed

    @property
    def proof(self) -> Proof:
        """What proves that something is gone."""
        return Proof(self.reconciler.policy.proof_n, self.reconciler.policy.proof_t)

    def nothing_seen(self) -> Observed:
        """Before the first read; a paused source counts as not seen, so that no finding is taken for settled."""
        sources = {target: pause for target, pause in self.pauses.items() if parse_subject(target) is None}
        problems = [f"{target}: {pause}" for target, pause in sources.items()]
        return Observed(problems=problems, gap=self.reconciler.policy.read_gap)

    def applied(self, gated: Gated, confirmer: Confirmer, unconfirmed: Collection[str]) -> Outcome:
        """Write what the gate let through, as far as the run's time goes. Raises FencedError when another run has the
        lease. ``unconfirmed``: subjects that earlier runs asked about in vain."""
        changes, now = unconfirmed_last(gated.allowed, unconfirmed), time.monotonic()
        until = max(now + APPLY_AT_LEAST_S, min(now + APPLY_FOR_S, self.began + RUN_FOR_S))
        with SideBySide(confirmer, changes, until) as confirming:
            return self._written(changes, confirming, until)

    def power_applied(self, gated: Gated) -> Outcome:
        """Write power states and nodes that the gate let through. Raises FencedError as above."""
        nobody = Confirmer(self.reconciler.engine, None, {}, frozenset(), self.reconciler.clusters)
        return self._written(gated.allowed, nobody, time.monotonic() + POWER_FOR_S)

    def _written(self, changes: tuple[Change, ...], confirming: Confirming, until: float) -> Outcome:
        reconciler, epoch = self.reconciler, self.lease.epoch
        told = _Told(confirming, reconciler.tell, len(changes))
        outcome = apply_changes(reconciler.engine, self.id, epoch, changes, told, reconciler.interrupts, until)
        if outcome.fenced:
            raise FencedError(f"run {self.id} was fenced after {len(outcome.written)} repairs")
        return outcome

    @contextmanager
    def reporting(self) -> Iterator[Connection]:
        """A transaction in which nobody else has the lease. Raises FencedError."""
        with self.reconciler.engine.begin() as connection:
            hold_lease(connection, self.lease.epoch)
            yield connection

    def gated(self, plan: Plan) -> Gated:
        """What of the plan may be applied."""
        standing = _standing(self.reconciler, self.lease.connection)
        return gate(plan, standing, self.reconciler.budget, self.reconciler.handling)


def _standing(reconciler: Reconciler, connection: Connection) -> Standing:
    measures = gate_context.load_gate_context(connection)
    holds: dict[str, str] = {}
    if reconciler.first_run_asks:
        state = source_memory.source_state(connection, "panel")
        if state.get("acknowledged_at") is None:
            holds["deletes"] = (
                "no plan was applied yet; after a look at it (panel-sync plan): panel-sync reconcile --apply, "
                "or approve it"
            )
            if measures["live"] == 0 and measures["filling"] is None:
                holds["creates"] = (
                    "the panel is empty, and its first filling waits for one word, after a look at the plan: "
                    "panel-sync reconcile --apply, or approve it"
                )
    return Standing(holds=holds, **measures)
