"""Reads the order feed into the panel's store. It changes no record.

A source's fault is a value here, never an exception: what was not read completely proves nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any, TypeVar

import structlog
from sqlalchemy import Connection, text

from domain.adoptions.decision import Judgement
from domain.failures import Broken
from domain.identity_doubts import GAP
from domain.orders import Order, OrderState
from domain.source_protocols import Found, Gone, Lookup, OrderFeed, Page, Sweep, Unclear
from domain.source_troubles import Cause, Trouble, feed_trouble
from panel.journal.rows import database_now
from panel.observations import absences, snapshots
from panel.observations.components import Entangled
from panel.observations.copying import copy_rows
from panel.observations.proof import Proof
from panel.runs import source_states
from reconcile.observation.mass_disappearance import ASKED_SINGLY, Loss, why_not_believed
from reconcile.observation.parallel_reads import FULL
from reconcile.question_slots import QuestionSlots

log = structlog.get_logger(__name__)

T = TypeVar("T")

FEED_FOR_S = 400.0
"""How long the order feed may be read, so that the run can still do its work and report within its own limit."""

DELTA_OVERLAP = timedelta(seconds=60)

DATES_DIFFER_BY = timedelta(seconds=5)
"""Two reads of one content may be dated so far apart: servers write the date in whole seconds."""


@dataclass(slots=True)
class Observed:
    """What a run saw. ``began``, ``previous``: by cluster, when this trusted read and the one before it began.
    ``away``: by trusted cluster, the nodes whose guests cannot be asked about. ``late``: clusters that did not answer
    in time. ``believed``: trusted clusters that lost nothing unusual. ``orders_well``: the feed was read without a
    problem. ``not_selected``: subjects left to another run's selection. ``entangled``: components too large for any
    run. ``adoptions``: what the run makes of operators' adoptions, by id. ``broken``: the panel's own rows that could
    not be parsed, by subject. ``troubles``: by source that was asked, what is wrong with it, or None."""

    began: dict[str, datetime] = field(default_factory=dict)
    previous: dict[str, datetime | None] = field(default_factory=dict)
    trusted: set[str] = field(default_factory=set)
    complete: set[str] = field(default_factory=set)
    away: dict[str, frozenset[str]] = field(default_factory=dict)
    late: set[str] = field(default_factory=set)
    orders_at: datetime | None = None
    previous_orders_at: datetime | None = None
    orders_read_before: datetime | None = None
    orders_swept: bool = False
    orders_well: bool = False
    believed: set[str] = field(default_factory=set)
    not_selected: frozenset[str] = frozenset()
    entangled: tuple[Entangled, ...] = ()
    adoptions: Mapping[int, Judgement] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    broken: dict[str, Broken] = field(default_factory=dict)
    troubles: dict[str, Trouble | None] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    gap: timedelta = GAP  # after this long without a read of its cluster a guest may be another machine

    @property
    def nodes_away(self) -> frozenset[tuple[str, str]]:
        """(cluster, node) pairs whose guests are unknown now."""
        return frozenset((cluster, node) for cluster, nodes in self.away.items() for node in nodes)

    @property
    def messages(self) -> tuple[str, ...]:
        """Problems and warnings, for operators."""
        return (*self.problems, *self.warnings)


@dataclass(frozen=True, slots=True)
class FeedRead:
    """The feed's answer, staged but not merged. ``began``: on the database's clock. ``since``: from when changes were
    read, None for a full sweep. ``effective``: the oldest time for which all of it holds, if known. ``before``: the
    same of the last read without a problem."""

    feed: OrderFeed
    sweep: Sweep[Order]
    began: datetime
    since: datetime | None
    effective: datetime | None
    before: datetime | None


def stage_orders(connection: Connection, feed: OrderFeed, sweep_interval: timedelta) -> FeedRead:
    """Read the order feed: what changed since the last read, or everything if a full sweep is due."""
    state = source_states.source_state(connection, feed.name)
    began = database_now(connection)
    last_sweep = state.get("last_sweep_at")
    full = last_sweep is None or began - last_sweep >= sweep_interval
    delta_since = state.get("delta_since")
    since = None if full else delta_since
    suspects = tuple(row.owner for row in connection.execute(text(SUSPECT_OWNERS)))
    connection.commit()
    sweep = feed.orders(
        updated_since=since.isoformat() if since is not None else None,
        suspects=suspects,
        rolled_to=state.get("rolled_to"),
    )
    oldest = _OldestEffective(began)
    for rows in _order_rows(sweep, oldest):  # a statement for each page: none may take as long as a slow feed
        copy_rows(connection, "stage_orders", snapshots.ORDER_COLUMNS, rows)
    connection.execute(text("ANALYZE stage_orders (order_id, state, cluster, vmid)"))
    connection.commit()
    before = delta_since + DELTA_OVERLAP if delta_since is not None else None
    return FeedRead(feed, sweep, began, since, oldest.value, before)


def take_orders(
    connection: Connection, run_id: int, read: FeedRead, seen: Observed, age_max: timedelta, proof: Proof
) -> None:
    """Merge a staged read, and count absent orders if it is complete and believed. ``age_max``: how old its content may
    be before that is a problem."""
    feed, sweep, began, since = read.feed, read.sweep, read.began, read.since
    seen.counts["orders"], problems = sweep.count, len(seen.problems)
    seen.counts["orders_refused"] = sweep.refused
    effective = read.effective
    seen.previous_orders_at = snapshots.scope_time(connection, feed.name, "all")
    snapshots.merge_orders(connection, feed.name, began)
    scopes, problem, trouble = _believed(connection, read, seen.previous_orders_at, age_max)
    if problem is not None:
        seen.problems.append(f"{feed.name}: {problem}")
    seen.troubles[feed.name] = trouble
    if trouble is not None and problem is None:
        seen.problems.append(f"{feed.name}: {trouble.reason}")
    if effective is None and scopes:
        seen.problems.append(f"{feed.name}: no usable as_of, so nothing is written from it")
        scopes = set()
    swept = "all" in scopes
    seen.orders_read_before = _read_before(read, seen.previous_orders_at, swept=swept)
    read_of = snapshots.ScopeRead(
        feed.name, "all" if since is None else "changes", swept, sweep.count,
        None if swept else problem or "only what changed was read", effective,
    )  # fmt: skip
    (snapshot_id,) = snapshots.record_snapshots(connection, run_id, began, [read_of]).values()
    if swept and effective is not None:
        absences.count_absent_orders(connection, run_id, {"all": snapshot_id}, effective, proof)
    elif scopes and effective is not None:
        # A snapshot of users whose orders are all present proves nothing, and there may be thousands of them.
        lacking = absences.scopes_with_missing_orders(connection, sorted(scopes), effective, proof)
        snapshot_ids = snapshots.record_evidence(
            connection, run_id, feed.name, lacking, count=sweep.count, began_at=began, effective_at=effective
        )
        absences.count_absent_orders(connection, run_id, snapshot_ids, effective, proof)
    if scopes and effective is not None:
        snapshots.note_unlisted_orders(connection, sorted(scopes), began, effective)
    remembered: dict[str, Any] = {"rolled_to": sweep.rolled_to} if sweep.rolled_to is not None else {}
    if sweep.problem is None and effective is not None:
        remembered["delta_since"] = effective - DELTA_OVERLAP
        if swept:
            remembered["last_sweep_at"] = began
            seen.orders_swept = True
    if remembered:
        source_states.remember_source(connection, feed.name, **remembered)
    seen.orders_at = snapshots.scope_time(connection, feed.name, "all")
    seen.orders_well = len(seen.problems) == problems
    connection.commit()


def _believed(
    connection: Connection, read: FeedRead, previous_orders_at: datetime | None, age_max: timedelta
) -> tuple[set[str], str | None, Trouble | None]:
    """The scopes of which a read is complete and may prove that an order is missing; and what is wrong with the read: a
    sentence, and the source's trouble."""
    feed, sweep = read.feed, read.sweep
    scopes = set(sweep.complete_scopes) if read.since is None else set[str]()
    scopes = {"all"} if "all" in scopes else scopes  # "all" covers the users' scopes
    old, shrunk = _why_old_copy(read, previous_orders_at), None
    if old is None and scopes:
        shrunk = why_not_believed(connection, feed.name, _lost_orders(connection, feed, sorted(scopes)))
    trouble = feed_trouble(sweep.problem, shrunk, sweep.count, read.began, read.effective, age_max)
    if trouble is None and old is not None:
        trouble = Trouble(Cause.OLD, old)
    why_not = trouble.reason if old is not None and trouble is not None else None
    return set() if old or shrunk else scopes, shrunk or sweep.problem or why_not, trouble


def _read_before(read: FeedRead, previous_orders_at: datetime | None, *, swept: bool) -> datetime | None:
    """When the orders were last read before this read, if both show all orders that are new."""
    if read.sweep.rolled_to is not None:  # of this feed only a full sweep reads every customer's orders
        return previous_orders_at if swept else None
    newer = read.before is not None and read.effective is not None and read.effective > read.before
    well = read.sweep.problem is None and newer
    return read.before if well and (swept or read.since is not None) else None


def _why_old_copy(read: FeedRead, previous_orders_at: datetime | None) -> str | None:
    """What is wrong with a read whose content is older than that of the last complete sweep. It proves nothing: what it
    lacks may be newer, and what it shows may be gone."""
    if read.effective is None or previous_orders_at is None or previous_orders_at > read.began:
        return None  # or the database's clock went back since
    if read.effective > previous_orders_at - DATES_DIFFER_BY:
        return None
    content, before = (moment.isoformat(timespec="seconds") for moment in (read.effective, previous_orders_at))
    return f"an old copy: its content is of {content}, and the last complete read's of {before}"


def _lost_orders(connection: Connection, feed: OrderFeed, scopes: list[str]) -> Loss:
    missing, known = snapshots.missing_orders(connection, scopes)
    return Loss(
        missing,
        known,
        names=lambda: frozenset(snapshots.vanished_orders(connection, scopes, known)),
        each_is_gone=lambda: _orders_gone(connection, feed, scopes),
    )


def _orders_gone(connection: Connection, feed: OrderFeed, scopes: list[str]) -> bool:
    """Whether every order that vanished is gone or ended when it is looked up singly."""
    lost = snapshots.vanished_orders(connection, scopes, ASKED_SINGLY)
    controls = {order_id: absences.control_order(connection, other_than=order_id) for order_id in lost}
    connection.commit()
    questions = (partial(feed.order, order_id, control) for order_id, control in controls.items())
    for found in answers("the main site", questions, time.monotonic() + FULL.within_s):
        match found:
            case Gone() | Found(value=Order(state=OrderState.ENDED)):
                continue
            case _:
                return False
    return True


def answers(source: str, questions: Iterable[Callable[[], Lookup[T]]], until: float) -> Iterator[Lookup[T]]:
    """Ask one question after the other. What is not answered by ``until`` (monotonic clock), and all that would follow,
    is unclear: other sources' repairs wait for this one."""
    slots = QuestionSlots(source, 1)
    for question in questions:
        slots.within_s = until - time.monotonic()
        yield slots.ask(question) if slots.within_s > 0 else Unclear(f"{source} was not asked: the time was over")


class _OldestEffective:
    """The oldest time for which a whole streamed read holds; None once a page has no usable time."""

    def __init__(self, began: datetime) -> None:
        self._began = began
        self.value: datetime | None = began
        self._first = True

    def page(self, page: Page[Order]) -> datetime | None:
        """The effective time of a page; it also counts for the whole."""
        if page.staleness_s is None:
            self.value = None
            return None
        effective = self._began + timedelta(seconds=page.began_s - page.staleness_s)
        if self._first:
            self.value, self._first = effective, False
        elif self.value is not None:
            self.value = min(self.value, effective)
        return effective


def _order_rows(sweep: Sweep[Order], oldest: _OldestEffective) -> Iterator[list[tuple[Any, ...]]]:
    """The rows of each page."""
    shown: set[str] = set()  # a repeated page shows an order twice: the sweep reports it, COPY must not fail
    until = time.monotonic() + FEED_FOR_S
    for page in sweep.pages:
        effective = oldest.page(page)
        fresh = {o.order_id: o for o in reversed(page.items) if o.order_id not in shown}
        shown.update(fresh)
        if fresh:
            yield [snapshots.order_row(o, effective, page.scope) for o in reversed(fresh.values())]
        if time.monotonic() > until:  # "all" is complete only if the pages came to their end
            begins = "begins at the first page again" if sweep.rolled_to is None else "goes on where this one ended"
            cut = f"not all of it was read within {FEED_FOR_S:g} s; the next read {begins}"
            sweep.problem = cut if sweep.problem is None else f"{sweep.problem}; {cut}"
            return


SUSPECT_OWNERS = """
SELECT DISTINCT coalesce(u.main_site_user_id, u.id::text) AS owner
FROM vps r JOIN users u ON u.id = r.user_id
WHERE r.deleted_at IS NULL AND (r.order_id IS NULL OR r.link_state <> 'verified' OR r.order_state <> 'active')
LIMIT 1000
"""
