"""A fleet in which nothing happens: runs write their own bookkeeping, and touch nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import text

from panel.schema import tables
from panel.sessions import sync_engine
from reconcile.observation import fingerprints
from reconcile.run import rolling_read
from tests.support.databases import Databases
from tests.support.fleets.hoster import Hoster, versions

A_RUN_S_OWN = {"runs", "snapshots", "scopes", "leases", "source_states"}
"""Each run writes a row for each node there, two for each cluster, and a few for itself."""

TOUCHED_BY_NOBODY = tuple(table.name for table in tables.metadata.sorted_tables if table.name not in A_RUN_S_OWN)


@pytest.fixture(scope="module")
def hoster(databases: Databases) -> Iterator[Hoster]:
    """Forty machines, of which ten are gone with their orders, ten guests nobody sold, and findings that stand."""
    database = databases.clone()
    engine = sync_engine(database.app_url, "panel-sync test", pool_size=4)
    made = Hoster(engine)
    made.open()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fingerprints, "PER_RUN", 1_000)
        orders = made.sell(40)
        for vmid in range(500, 510):
            made.cluster.add(vmid, "pve1")
        made.full(3)
        assert made.count("vps", "deleted_at IS NULL AND link_state = 'verified'") == 40
        for order_id in orders[:10]:
            made.end(order_id)
        made.full()
        made.acknowledge_losses()
        made.full(4)
        assert made.count("vps", "deleted_at IS NULL") == 30
        assert made.count("absences") == 10
        assert made.count("findings", "resolved_at IS NULL") == 10
        with engine.begin() as connection:  # all that was some hours ago
            for column in ("created_at", "updated_at", "deleted_at"):
                connection.execute(text(f"UPDATE vps SET {column} = {column} - interval '2 hours'"))
        made.full()
        yield made
    engine.dispose()
    databases.drop(database)


@pytest.mark.parametrize("sweep", [timedelta(0), timedelta(hours=1)], ids=["whole", "what-changed"])
def test_quiet_full_runs_write_nothing_but_their_own(hoster: Hoster, sweep: timedelta) -> None:
    hoster.sweep_interval = sweep
    before = versions(hoster.engine, TOUCHED_BY_NOBODY)
    hoster.full(3)
    after = versions(hoster.engine, TOUCHED_BY_NOBODY)
    assert {table for table in before if before[table] != after[table]} == set()


def test_quiet_fast_runs_write_nothing_but_their_own(hoster: Hoster) -> None:
    before = versions(hoster.engine, TOUCHED_BY_NOBODY)
    hoster.fast(3)
    after = versions(hoster.engine, TOUCHED_BY_NOBODY)
    assert {table for table in before if before[table] != after[table]} == set()


def test_the_rolling_read_notes_when_it_read_a_machine_and_nothing_else(hoster: Hoster) -> None:
    """How old an identity is must be known, so each read is one row."""
    with hoster.engine.begin() as connection:  # as the reads of half an hour ago left it
        connection.execute(text("UPDATE guests SET fingerprint_read_at = fingerprint_read_at - interval '10 minutes'"))
    looked_at = (*TOUCHED_BY_NOBODY, "guest_configs")
    before = versions(hoster.engine, looked_at)
    read = rolling_read(hoster.reconciler())
    after = versions(hoster.engine, looked_at)
    assert {table for table in before if before[table] != after[table]} == {"guests"}
    assert read


def test_what_is_proven_gone_is_counted_anew_for_a_record_that_is_linked_to_it_later(hoster: Hoster) -> None:
    """The proof stands still once it is made; a record that turns up gets one of its own."""
    orders = hoster.sell(1)
    gone = next(v for o, v in hoster.vmids.items() if o == "o1")
    sold = hoster.feed.listed[orders[0]]
    hoster.full(2)
    assert hoster.count("vps", "deleted_at IS NULL") == 31
    with hoster.engine.begin() as connection:
        connection.execute(
            text(
                "UPDATE vps SET vmid = :vmid, link_state = 'pushed', fingerprint = NULL,"
                " link_changed_at = clock_timestamp(), updated_at = clock_timestamp() WHERE order_id = :order"
            ),
            {"vmid": gone, "order": sold.order_id},
        )
    times = f"kind = 'guest' AND subject = 'main/{gone}'"
    hoster.fast()
    assert hoster.count("absences", f"{times} AND consecutive = 1") == 1
    hoster.fast(2)
    assert hoster.count("absences", f"{times} AND consecutive = 3 AND cardinality(evidence) = 3") == 1


def test_what_is_counted_no_more_is_known_to_be_missed_in_every_read(hoster: Hoster) -> None:
    """A proof that stands still is not taken for a guest of whom nothing is known any more."""
    order_id = next(iter(hoster.sell(1)))
    hoster.full(3)
    hoster.cluster.guests.pop(hoster.vmids[order_id])  # its order goes on
    result = hoster.full(6)
    assert result.plan is not None
    assert {f.class_ for f in result.plan.findings if f.order_id == order_id} == {"paid-but-missing"}


def test_an_order_is_known_to_say_so_for_as_long_as_its_record_may_ask(hoster: Hoster) -> None:
    """What a call changed just now is compared with what the order says since: that moment is written until then."""
    changed = next(order_id for order_id in hoster.vmids if hoster.count("vps", f"order_id = '{order_id}' AND {QUIET}"))
    known = "SELECT effective_at FROM orders_seen WHERE order_id = :order"
    with hoster.engine.begin() as connection:
        before = connection.scalar(text(known), {"order": changed})
        touched = connection.scalar(
            text("UPDATE vps SET updated_at = clock_timestamp() WHERE order_id = :order RETURNING updated_at"),
            {"order": changed},
        )
    hoster.full()
    with hoster.engine.begin() as connection:
        after = connection.scalar(text(known), {"order": changed})
    assert before is not None
    assert touched is not None
    assert after is not None
    assert before < touched < after
    quiet = f"order_id IN (SELECT order_id FROM vps WHERE {QUIET})"
    assert hoster.count("orders_seen", quiet) > 0
    assert hoster.count("orders_seen", f"{quiet} AND effective_at > '{touched.isoformat()}'") == 0


QUIET = "deleted_at IS NULL AND order_state = 'active' AND updated_at < clock_timestamp() - interval '1 hour'"


def test_an_answer_that_is_older_than_the_last_complete_one_is_not_taken(hoster: Hoster) -> None:
    """Also where that one said nothing new and was not written: the order was seen to say so since."""
    order_id = next(o for o in hoster.vmids if hoster.count("vps", f"order_id = '{o}' AND {QUIET}"))
    hoster.full()
    now = hoster.feed.listed[order_id]
    hoster.feed.listed[order_id] = replace(now, name="as-it-was-called-before")
    hoster.feed.staleness_s = 300.0
    try:
        hoster.full()
        assert hoster.count("orders_seen", "name = 'as-it-was-called-before'") == 0
    finally:
        hoster.feed.staleness_s = 0.0
    hoster.full()
    assert hoster.count("orders_seen", "name = 'as-it-was-called-before'") == 1
