"""A feed that leaves out one order: what that order claims stays claimed until it is proven gone, in both lanes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, text

from domain.guests import PowerState
from domain.orders import Order, OrderState
from domain.source_protocols import Sweep
from tests.support.fleets.hoster import Hoster, ListedFeed


@dataclass(slots=True)
class ForgetfulFeed(ListedFeed):
    """Its lists leave out orders that are there when they are asked for singly."""

    forgotten: set[str] = field(default_factory=set)

    def orders(self, *asked: Any, **named: Any) -> Sweep[Order]:
        whole = self.listed
        self.listed = {order_id: order for order_id, order in whole.items() if order_id not in self.forgotten}
        try:
            return ListedFeed.orders(self, *asked, **named)
        finally:
            self.listed = whole


@pytest.fixture
def feed() -> ForgetfulFeed:
    return ForgetfulFeed()


@pytest.fixture
def hoster(engine: Engine, feed: ForgetfulFeed) -> Hoster:
    """Order o1 with a machine, and five others, so that one miss is no loss of much."""
    made = Hoster(engine, feed=feed)
    made.open()
    made.sell(6)
    return made


def also_names(hoster: Hoster, order_id: str = "o9", **values: Any) -> None:
    """An order of another customer names the machine of o1, too."""
    first = hoster.feed.listed["o1"]
    kept: dict[str, Any] = {"order_id": order_id, "owner": "m19", "name": "next", "state": OrderState.ACTIVE}
    hoster.feed.listed[order_id] = replace(first, **kept | {"status": "running"} | values)


def record(hoster: Hoster) -> Any:
    """The record of order o1, if there is one."""
    statement = "SELECT order_id, fingerprint, power_state, link_state FROM vps WHERE order_id = 'o1'"
    with hoster.engine.connect() as connection:
        row = connection.execute(text(statement)).one_or_none()
    return None if row is None else tuple(row)


def test_a_record_is_not_made_with_a_machine_that_a_missed_order_names(hoster: Hoster, feed: ForgetfulFeed) -> None:
    also_names(hoster)
    hoster.full(3)
    assert hoster.count("vps") == 5
    assert record(hoster) is None
    feed.forgotten = {"o9"}
    hoster.full(2)
    assert record(hoster) is None, "missed twice, which proves nothing"
    assert hoster.count("findings", "subject = 'order:o1' AND class = 'ambiguous' AND resolved_at IS NULL") == 1
    hoster.full(2)
    assert record(hoster) is not None, "missed three times: it is gone, and names nothing"


def test_a_machine_made_anew_is_not_taken_from_a_missed_order(hoster: Hoster, feed: ForgetfulFeed) -> None:
    hoster.full(2)
    before = record(hoster)
    assert before == ("o1", "smbios:1", "running", "verified")
    also_names(hoster)
    hoster.cluster.fingerprints[hoster.vmids["o1"]] = "smbios:next"
    hoster.cluster.change(hoster.vmids["o1"], power=PowerState.STOPPED, status="stopped", name="next")
    hoster.full(4)
    assert record(hoster) == before
    feed.forgotten = {"o9"}
    hoster.full(2)
    hoster.fast(2)
    assert record(hoster) == before
    feed.forgotten = set()
    hoster.full(2)
    assert record(hoster) == before


def test_a_machine_that_was_sold_on_shows_its_first_customer_nothing(hoster: Hoster, feed: ForgetfulFeed) -> None:
    hoster.full(2)
    ended = replace(hoster.feed.listed["o1"], state=OrderState.ENDED, status="cancelled")
    also_names(hoster)
    hoster.feed.listed["o1"] = ended
    hoster.full()
    feed.forgotten = {"o9"}
    hoster.full()
    hoster.flip("o1")
    hoster.fast(2)
    assert record(hoster) == ("o1", "smbios:1", "running", "verified"), "the fast lane keeps it to itself"
    hoster.full()
    assert record(hoster) == ("o1", "smbios:1", "running", "verified")
    is_open = "subject LIKE 'vps:%' AND resolved_at IS NULL AND class"
    assert hoster.count("findings", f"{is_open} = 'sold-on' AND reason LIKE '%left out order o9%'") == 1
    assert hoster.count("findings", f"{is_open} = 'ended-but-running'") == 0
    assert hoster.count("vps", "order_id = 'o1' AND power_unconfirmed_since IS NOT NULL") == 1
    hoster.full(2)
    hoster.fast(2)
    assert record(hoster) == ("o1", "smbios:1", "stopped", "verified"), "proven gone, it names nothing"


def test_an_order_without_a_guest_is_thought_of_while_it_is_missed(hoster: Hoster, feed: ForgetfulFeed) -> None:
    """Nothing ties it to the machine made anew, which may be its own: every order that is not proven gone is loaded."""
    moments = {"o1": datetime(2026, 1, 1, tzinfo=UTC), "o9": datetime(2026, 1, 2, tzinfo=UTC)}
    nowhere: dict[str, Any] = {"cluster": None, "node": None, "vmid": None}
    also_names(hoster, **nowhere, state=OrderState.PENDING, status="creating", created_at=moments["o9"])
    feed.listed["o1"] = replace(feed.listed["o1"], created_at=moments["o1"])
    hoster.full(2)
    before = record(hoster)
    hoster.cluster.fingerprints[hoster.vmids["o1"]] = "smbios:next"
    hoster.cluster.change(hoster.vmids["o1"], name="next")
    hoster.full(4)
    assert record(hoster) == before
    feed.forgotten = {"o9"}
    hoster.full(2)
    assert record(hoster) == before
    hoster.full(2)
    assert record(hoster) == ("o1", "smbios:next", "running", "verified"), "reinstalled: nobody else may own it"


def test_an_old_copy_of_the_feed_brings_no_order_back(hoster: Hoster) -> None:
    """Order o1 was removed, and its machine was sold on. A server that lags behind still shows o1."""
    hoster.full(2)
    also_names(hoster)
    hoster.full()
    removed = hoster.feed.listed.pop("o1")
    hoster.full()
    hoster.flip("o1")
    hoster.fast(2)
    shown = ("o1", "smbios:1", "running", "verified")
    assert record(hoster) == shown, "the machine is the next customer's by now"
    hoster.feed.listed["o1"], hoster.feed.staleness_s = removed, 60
    told = hoster.full()
    assert any("an old copy" in problem for problem in told.problems)
    assert hoster.count("absences", "kind = 'order' AND subject = 'o1'") == 1
    assert hoster.count("orders_seen", "order_id = 'o1' AND unlisted_since IS NOT NULL") == 1
    hoster.fast(2)
    assert record(hoster) == shown
    assert hoster.count("vps", "order_id = 'o1' AND power_unconfirmed_since IS NOT NULL") == 1
    hoster.feed.staleness_s = 0
    hoster.full()
    assert hoster.count("absences", "kind = 'order' AND subject = 'o1'") == 0, "this is of now"


def test_what_was_seen_later_than_a_sweep_s_content_is_not_missing(hoster: Hoster, feed: ForgetfulFeed) -> None:
    """The sweep before was an hour ago. This one lags by half an hour, and o9 was made in between."""
    hoster.full(2)
    with hoster.engine.begin() as connection:
        connection.execute(text("UPDATE scopes SET began_at = began_at - interval '1 hour' WHERE source = 'orders'"))
    also_names(hoster)
    hoster.sweep_interval = timedelta(days=1)
    hoster.full()
    hoster.sweep_interval = timedelta(0)
    feed.forgotten, feed.staleness_s = {"o9"}, 1800
    told = hoster.full(4)
    assert not any("an old copy" in problem for problem in told.problems)
    assert hoster.count("absences", "kind = 'order'") == 0
    assert hoster.count("orders_seen", "unlisted_since IS NOT NULL") == 0
    feed.staleness_s = 0
    hoster.full()
    assert hoster.count("absences", "kind = 'order' AND subject = 'o9'") == 1
