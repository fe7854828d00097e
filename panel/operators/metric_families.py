"""The numbers of :mod:`panel.operators.metrics` as Prometheus' metrics. Ages and durations are in seconds.

Labels are kinds, classes, phases, lanes and sources: what code and settings name, never a customer or a VPS.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from prometheus_client.core import GaugeMetricFamily

Numbers = Mapping[str, Any]
Labels = tuple[str, ...]


def families_of(numbers: Numbers | None) -> list[GaugeMetricFamily]:
    """All metrics of the database; ``numbers``: what ``metrics`` answered, None if the database did not answer."""
    up = _gauge("database_up", "Whether the database answered with the numbers below", 0 if numbers is None else 1)
    if numbers is None:
        return [up]
    return [up, *_calls(numbers), *_runs(numbers), *_sources(numbers), *_decisions(numbers), *_lanes(numbers),
            *_repairs(numbers), *_webhooks(numbers)]  # fmt: skip


def _calls(numbers: Numbers) -> Iterable[GaugeMetricFamily]:
    journal = numbers["journal"]
    yield _gauge("calls_queued", "Accepted calls that wait to be applied", journal["queued"])
    yield _gauge("calls_oldest_queued_seconds", "Age of the oldest waiting call", journal["oldest_queued_s"] or 0)
    yield _gauge(
        "relay_lag_seconds", "Age of the oldest call that no worker was told of", journal["unpublished_s"] or 0
    )
    yield _gauge("calls_dead", "Calls that were given up and wait for an operator", journal["dead"])
    yield _gauge("records_live", "Records that are not deleted", numbers["records"]["live"])


def _runs(numbers: Numbers) -> Iterable[GaugeMetricFamily]:
    runs = numbers["runs"]
    ended = [((run["kind"], result), run[f"{result}_day"]) for run in runs for result in ("done", "failed")]
    yield _labelled("runs_day", "Runs of the last day", ("kind", "result"), ended)
    for name, of_run, said in (
        ("run_last_done_seconds", "last_done_s", "Time since a run ended well, if one did in the last day"),
        ("run_longest_seconds", "longest_s", "The longest run of the last day"),
    ):
        yield _labelled(name, said, ("kind",), [((run["kind"],), run[of_run]) for run in runs])
    for name, of_phase, said in (
        ("run_phase_mean_seconds", "mean_s", "Mean time of a phase in the last day"),
        ("run_phase_longest_seconds", "longest_s", "Longest time of a phase in the last day"),
    ):
        times = [((run["kind"], phase), time[of_phase]) for run in runs for phase, time in run["phases"].items()]
        yield _labelled(name, said, ("kind", "phase"), times)


def _sources(numbers: Numbers) -> Iterable[GaugeMetricFamily]:
    for name, column, said in (
        ("source_read_age_seconds", "read_s", "Age of the last complete read"),
        ("source_degraded", "degraded", "Whether much of it vanished at once, so that its absences do not count"),
        ("source_unwell_seconds", "unwell_s", "For how long it has not been believed, 0 if it is"),
        ("source_backing_off", "backing_off", "Whether some runs leave it alone, because it refused or was late"),
    ):
        shown = [((source["source"],), source[column] or 0) for source in numbers["sources"]]
        yield _labelled(name, said, ("source",), shown)


def _decisions(numbers: Numbers) -> Iterable[GaugeMetricFamily]:
    """What waits for a person."""
    for name, column, said in (
        ("findings_open", "open", "Open findings"),
        ("finding_oldest_seconds", "oldest_s", "Age of the oldest open finding"),
    ):
        shown = [((finding["class"], finding["severity"]), finding[column]) for finding in numbers["findings"]]
        yield _labelled(name, said, ("class", "severity"), shown)
    held = numbers["held"]
    yield _gauge("held_sets", "Sets of changes that exceed a limit and wait for an operator", held["sets"])
    yield _gauge("held_items", "Changes in these sets", held["items"])
    yield _gauge("held_oldest_seconds", "Age of the oldest of these sets", held["oldest_s"] or 0)
    yield _gauge("pauses", "Pauses in force", numbers["pauses"])
    yield _gauge("quarantined", "Orders, guests and records at which runs keep failing", numbers["quarantined"])


def _lanes(numbers: Numbers) -> Iterable[GaugeMetricFamily]:
    for name, column, said in (
        ("lane_late", "late", "Whether a periodic duty was not done for three intervals"),
        ("lane_last_done_seconds", "last_done_s", "Time since a periodic duty was done"),
        ("lane_interval_seconds", "every_s", "How often a periodic duty is due"),
    ):
        yield _labelled(name, said, ("lane",), [((lane["lane"],), lane[column]) for lane in numbers["lanes"]])


def _repairs(numbers: Numbers) -> Iterable[GaugeMetricFamily]:
    repairs = numbers["repairs"]
    yield _labelled(
        "repairs_day", "Repairs of the last day", ("class",), [((one["kind"],), one["day"]) for one in repairs]
    )
    yield _labelled(
        "repairs_hour", "Repairs of the last hour", ("class",), [((one["kind"],), one["hour"]) for one in repairs]
    )
    parts = (("0.5", "median_s"), ("0.95", "p95_s"), ("1", "longest_s"))
    lasted = [((one["kind"], quantile), one[column]) for one in repairs for quantile, column in parts]
    said = "How long a difference had lasted that was repaired in the last day"
    yield _labelled("out_of_sync_seconds", said, ("class", "quantile"), lasted)


def _webhooks(numbers: Numbers) -> Iterable[GaugeMetricFamily]:
    """The events for the main site."""
    webhooks = numbers["webhooks"]
    yield _gauge("webhook_events_waiting", "Events that the main site has not taken yet", webhooks["waiting"])
    yield _gauge("webhook_oldest_waiting_seconds", "Age of the oldest of them", webhooks["oldest_waiting_s"] or 0)
    yield _gauge("webhook_events_dead", "Events that were given up", webhooks["dead"])
    yield _gauge("webhook_disabled", "Whether the main site answered 410 Gone", webhooks["disabled"])
    yield _gauge(
        "webhook_failing_seconds",
        "For how long the main site has taken no event, 0 if it takes them",
        webhooks["failing_s"] or 0,
    )


def _gauge(name: str, said: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"panel_sync_{name}", said, value=float(value))


def _labelled(name: str, said: str, labels: Labels, values: Iterable[tuple[Labels, float | None]]) -> GaugeMetricFamily:
    """One sample for each value that is known."""
    family = GaugeMetricFamily(f"panel_sync_{name}", said, labels=labels)
    for of, value in values:
        if value is not None:
            family.add_metric(of, float(value))
    return family
