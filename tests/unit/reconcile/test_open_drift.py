"""What a run saw and did not mend, as it counts it."""

from __future__ import annotations

from datetime import timedelta

from domain.changes import Delete, SetSize
from reconcile.open_drift import open_drift
from tests.unit.reconcile.worlds import NOW, ago, order, record

WITHIN = timedelta(minutes=15)


def ended(minutes: float) -> Delete:
    """A missed delete whose order ended so long ago."""
    return Delete(source="orders", reason="why", record=record(), order=order(state_since=ago(minutes=minutes)))


def test_by_class_how_many_how_many_late_and_since_when() -> None:
    changes = [ended(20), ended(15), ended(1), SetSize(source="orders", reason="why", record=record())]
    counted = open_drift(changes, set(), NOW, WITHIN)
    assert counted["open"] == {"missed-delete": 3, "plan": 1}
    assert counted["open_late"] == {"missed-delete": 1}, "15 minutes are within 15 minutes"
    assert counted["open_since"] == {"missed-delete": ago(minutes=20).isoformat()}, "of a plan nobody knows"


def test_what_was_written_is_not_open() -> None:
    changes = [ended(20), ended(1)]
    assert open_drift(changes, {id(changes[0])}, NOW, WITHIN)["open_late"] == {}
    nothing: dict[str, object] = {"open": {}, "open_late": {}, "open_since": {}}
    assert open_drift(changes, {id(change) for change in changes}, NOW, WITHIN) == nothing
