"""When a read of the feed counts as the second one since a machine came."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, NamedTuple

import pytest

from domain.source_protocols import Sweep
from reconcile.observation.observe import FeedRead, _read_before, _why_old_copy
from tests.support.fleets.hoster import ListedFeed
from tests.unit.reconcile.worlds import NOW

BEFORE = NOW - timedelta(minutes=2)
SWEPT = NOW - timedelta(minutes=50)


def read(**values: Any) -> FeedRead:
    kept: dict[str, Any] = {
        "feed": ListedFeed(), "sweep": Sweep(iter(())), "began": NOW, "since": BEFORE, "effective": NOW,
        "before": BEFORE,
    }  # fmt: skip
    return FeedRead(**kept | values)


class Case(NamedTuple):
    reason: str
    values: dict[str, Any]
    before: datetime | None
    swept: bool = False


CASES = [
    Case("what changed since the read before", {}, BEFORE),
    Case("all orders", {"since": None}, BEFORE, swept=True),
    Case("all orders, and the sweep is not believed", {"since": None}, None),
    Case("the first read of all", {"before": None}, None),
    Case("nobody knows how old it is", {"effective": None}, None),
    Case("the same content once more", {"effective": BEFORE}, None),
    Case("an old copy", {"effective": BEFORE - timedelta(minutes=1)}, None),
    Case("it broke off", {"sweep": Sweep(iter(()), problem="broke off")}, None),
    Case("a feed that is read customer by customer", {"sweep": Sweep(iter(()), rolled_to="7")}, None),
    Case("the same, and all of them", {"sweep": Sweep(iter(()), rolled_to="7"), "since": None}, SWEPT, swept=True),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.reason)
def test_since_when_the_orders_were_read_twice(case: Case) -> None:
    assert _read_before(read(**case.values), SWEPT, swept=case.swept) == case.before


NEW = [
    (NOW, BEFORE),
    (BEFORE, BEFORE),
    (BEFORE - timedelta(seconds=2), BEFORE),  # servers write dates in whole seconds
    (BEFORE, None),
    (None, BEFORE),
    (BEFORE, NOW + timedelta(hours=1)),  # the database's clock was set back since
]


@pytest.mark.parametrize(("effective", "previous"), NEW)
def test_these_are_no_old_copies(effective: datetime | None, previous: datetime | None) -> None:
    assert _why_old_copy(read(effective=effective), previous) is None


def test_a_read_that_is_older_than_the_last_sweep_is_an_old_copy() -> None:
    told = _why_old_copy(read(effective=BEFORE - timedelta(minutes=1)), BEFORE)
    assert told == (
        "an old copy: its content is of 2026-06-01T11:57:00+00:00, and the last complete read's of"
        " 2026-06-01T11:58:00+00:00"
    )
