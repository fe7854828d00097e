"""A run while it is under way: what it needs, what it may ask, and its writes under its lease."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, Engine

from panel import run_log
from panel.lease import FencedError, Lease, hold_lease
from panel.pauses import CLUSTER, FEED, Pause
from reconcile.apply import Confirmer, Outcome, apply_changes
from reconcile.cases import Policy
from reconcile.changes import Kind, Plan
from reconcile.fingerprints import Looks
from reconcile.gate import Budget, Gated, Handling, Standing, gate
from reconcile.isolation import Interrupts
from reconcile.observe import FeedRead, Observed
from reconcile.phases import Phases
from reconcile.ports import GuestSource, OrderFeed
from reconcile.subjects import Paused, parse_subject


@dataclass(frozen=True, slots=True)
class Reconciler:
    """Everything a run needs. ``first_run_asks``: hold the first deletes, and bulk creates of a new panel, until
    an operator has seen a plan (off in the demo). ``interrupts``: exceptions that end the run and say nothing about
    the object it was at (a task's time limit). ``feed_age_max``: how old the feed's content may be."""

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

    @property
    def clusters(self) -> frozenset[str]:
        return frozenset(source.cluster for source in self.sources)


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
    """A run under way: its lease, what is paused, and what was read before the lease was taken."""

    reconciler: Reconciler
    lease: Lease
    id: int
    pauses: Mapping[str, Pause]
    phases: Phases
    feed_read: FeedRead | None = None
    looks: Looks | None = None

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

    def nothing_seen(self) -> Observed:
        """Before the first read; a paused source counts as not seen, so that no finding is taken for settled."""
        sources = {target: pause for target, pause in self.pauses.items() if parse_subject(target) is None}
        return Observed(problems=[f"{target}: {pause}" for target, pause in sources.items()])

    def applied(self, gated: Gated, confirmer: Confirmer) -> Outcome:
        """Write what the gate let through. Raises FencedError when another run has the lease."""
        reconciler, epoch = self.reconciler, self.lease.epoch
        outcome = apply_changes(
            reconciler.engine, self.id, epoch, gated.allowed, confirmer, interrupts=reconciler.interrupts
        )
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
    measures = run_log.standing(connection)
    holds: dict[str, str] = {}
    if reconciler.first_run_asks:
        state = run_log.source_state(connection, "panel")
        if state.get("acknowledged_at") is None:
            holds["deletes"] = (
                "no plan was acknowledged yet (panel-sync plan, then panel-sync reconcile --apply; or approve the set)"
            )
            if measures["live"] == 0:
                holds["creates"] = "the panel is empty while the sources are not: acknowledge the plan first"
    return Standing(holds=holds, **measures)
