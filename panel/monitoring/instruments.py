"""What each process counts while it works, with label sets that do not grow with customers, paths or callers.

The functions here are what the rest of the panel calls. Each costs a few microseconds and waits for nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

from panel.monitoring.process_files import Reserved

disable_created_metrics()

RESERVED = Reserved()  # before the first metric, which opens the files

REGISTRY = CollectorRegistry()
"""The panel's own. Libraries such as Flower put theirs into the library's registry."""

METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
SYNC_ROUTE = "/api/vps/sync"
NO_ROUTE = "none"
"""The route of a request that no route takes, whatever its path is."""

_ANSWER_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10)
_TASK_BUCKETS = (0.01, 0.05, 0.1, 0.5, 1, 5, 15, 60, 300, 900)

REQUESTS = Counter("panel_sync_http_requests", "Answered requests", ["route", "method", "status"], registry=REGISTRY)
DURATIONS = Histogram(
    "panel_sync_http_request_duration_seconds", "From request to end of answer", ["route", "method"],
    buckets=_ANSWER_BUCKETS, registry=REGISTRY,
)  # fmt: skip
IN_FLIGHT = Gauge(
    "panel_sync_http_requests_in_flight", "Requests under way", multiprocess_mode="livesum", registry=REGISTRY
)
UNAVAILABLE = Counter("panel_sync_http_unavailable", "Answers 503", registry=REGISTRY)
SYNC_CALLS = Counter("panel_sync_sync_calls", "Answered sync calls", ["outcome"], registry=REGISTRY)
CALLS_FINISHED = Counter("panel_sync_calls_finished", "Journaled calls that ended", ["state"], registry=REGISTRY)
WEBHOOK_TRIES = Counter(
    "panel_sync_webhook_tries", "Tries to send the main site an event", ["outcome"], registry=REGISTRY
)
TASKS = Counter("panel_sync_tasks", "Tasks that ended", ["task", "outcome"], registry=REGISTRY)
TASK_DURATIONS = Histogram(
    "panel_sync_task_duration_seconds", "How long tasks took", ["task"], buckets=_TASK_BUCKETS, registry=REGISTRY
)
STATISTICS_READS = Counter(
    "panel_sync_statistics_reads", "Reads of statistics that ended", ["outcome"], registry=REGISTRY
)
BEAT_SENT = Counter("panel_sync_beat_sent", "Tasks that beat asked for", ["task"], registry=REGISTRY)
BEAT_LAST_SENT = Gauge(
    "panel_sync_beat_last_sent_timestamp_seconds", "When beat last asked for it", ["task"],
    multiprocess_mode="max", registry=REGISTRY,
)  # fmt: skip

_SYNC_OUTCOMES = {outcome: SYNC_CALLS.labels(outcome) for outcome in ("accepted", "refused", "unavailable", "failed")}
_FINISHED = {state: CALLS_FINISHED.labels(state) for state in ("applied", "superseded", "rejected", "dead")}
_TRIED = {outcome: WEBHOOK_TRIES.labels(outcome) for outcome in ("delivered", "refused", "away", "gone")}
_answers: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}

IN_FLIGHT.set(0)  # the file may be that of a process that had the same id


def request_began() -> None:
    """A request arrived."""
    if RESERVED.may_count:
        IN_FLIGHT.inc()


def request_ended(route: str | None, method: str, status: int, seconds: float) -> None:
    """A request was answered. ``route``: the template of its path, None if no route took it. ``status``: 0 if it got no
    answer."""
    if not RESERVED.may_count:
        return
    IN_FLIGHT.dec()
    if route is None or status == 405:  # any method may be tried at any route
        route, method = NO_ROUTE, method if method in METHODS else "OTHER"
    key = (route, method, status // 100)
    found = _answers.get(key)
    if found is None:
        labelled = REQUESTS.labels(route, method, f"{status // 100}xx"), DURATIONS.labels(route, method)
        found = _answers[key] = labelled
    answered, took = found
    answered.inc()
    took.observe(seconds)
    if status == 503:
        UNAVAILABLE.inc()
    if route == SYNC_ROUTE:
        _SYNC_OUTCOMES[_sync_outcome(status)].inc()


def items_answered(statuses: Iterable[int]) -> None:
    """The items of a batch of sync calls were answered with these status codes."""
    if RESERVED.may_count:
        for status in statuses:
            _SYNC_OUTCOMES[_sync_outcome(status)].inc()


def _sync_outcome(status: int) -> str:
    if status == 503:
        return "unavailable"
    return {2: "accepted", 3: "accepted", 4: "refused"}.get(status // 100, "failed")


def calls_finished(states: Iterable[str]) -> None:
    """These journaled calls ended in these states, and that is committed."""
    if RESERVED.may_count:
        for state in states:
            _FINISHED[state].inc()


def webhook_tried(outcome: str) -> None:
    """An event was sent to the main site: it was delivered or refused, or the main site was away or gone for good."""
    if RESERVED.may_count:
        _TRIED[outcome].inc()


def announce_tasks(names: Iterable[str]) -> None:
    """Show these tasks with zero before the first of them ends."""
    for name in names:
        for outcome in ("success", "failure", "retry", "killed"):
            TASKS.labels(name, outcome)
        TASK_DURATIONS.labels(name)


def task_ended(name: str, outcome: str, seconds: float | None) -> None:
    """A task ended. ``seconds``: None if that is not known, because its process was killed."""
    if RESERVED.may_count:
        TASKS.labels(name, outcome).inc()
        if seconds is not None:
            TASK_DURATIONS.labels(name).observe(seconds)


def statistics_read(outcome: str) -> None:
    """Statistics of a VPS were read, or not. ``outcome``: ``read``, or the code of why not."""
    if RESERVED.may_count:
        STATISTICS_READS.labels(outcome).inc()


def beat_sent(name: str) -> None:
    """Beat asked for a task."""
    if RESERVED.may_count:
        BEAT_SENT.labels(name).inc()
        BEAT_LAST_SENT.labels(name).set(time.time())
