"""The list of what differs, against the page of each VPS; and the list of what was deleted."""

from __future__ import annotations

from datetime import UTC, timedelta
from random import Random

import pytest
from sqlalchemy import Connection, Engine, text

from panel.journal.restore import restore_vps
from panel.operators.pages.vps_view import vps_view
from panel.operators.reports.deleted import DeletedFilter, list_deleted
from panel.operators.reports.drift import CLASSES as DRIFTS
from panel.operators.reports.drift import DriftFilter, drift
from panel.operators.reports.looks import Configured
from tests.integration.panel.conftest import begin_run
from tests.integration.panel.operators.conftest import GUEST, HERE, PROOF, SOLD, end_order, spoil
from tests.support.fleets.hoster import Hoster
from tests.support.fleets.random_fleet import CUSTOMERS, Rows, scratch
from tests.support.fleets.world import add_user


class TestDrift:
    @pytest.mark.parametrize("seed", range(12))
    def test_it_differs_where_the_page_of_the_vps_says_so(self, engine: Engine, seed: int) -> None:
        """A random fleet: the list and the page of each VPS find the same."""
        random, names = Random(seed), bool(seed % 2)
        of = Configured(("main", "second"), "orders", names=names, shared_ids=False, proof=PROOF)
        for number in range(1, CUSTOMERS + 1):
            add_user(engine, number, main_site_user_id=str(number + 100))
        run_id = begin_run(engine)
        with scratch(engine) as connection:
            now = connection.scalar(text("SELECT clock_timestamp()"))
            assert now is not None
            Rows(random, now).store(connection, run_id)
            connection.execute(
                text("INSERT INTO guest_configs (cluster, vmid, fingerprint, cores, memory_mb, disk_gb, since, read_at)"
                     " SELECT cluster, vmid, fingerprint, CASE WHEN vmid % 7 = 0 THEN 1 ELSE cores END, memory_mb,"
                     " disk_gb, read_at, read_at FROM guests WHERE fingerprint IS NOT NULL")
            )  # fmt: skip
            seen = drift(connection, of, DriftFilter(), limit=1000)
            rows = {row.vps_id: row for row in seen.rows}
            for vps_id in connection.scalars(text("SELECT id FROM vps WHERE deleted_at IS NULL")).all():
                view = vps_view(connection, vps_id, proof=PROOF, names=names, shared_ids=False, second_above=None)
                expected = {line.name for line in view.differing}
                row = rows.pop(vps_id, None)
                assert {one.name for one in row.differences} if row else set() == expected, vps_id
                assert (row is not None) == bool(expected or view.order.get("state") == "ended"), vps_id
            assert rows == {}
            assert (seen.differing, seen.more) == (len(seen.rows), False)
            for count in seen.counts:
                only = drift(connection, of, DriftFilter(class_=count.class_), limit=1000).rows
                assert len(only) == count.count == sum(count.class_ in row.classes for row in seen.rows)

    @pytest.mark.parametrize(
        ("class_", "statement", "names"),
        [
            pytest.param("missed-status", "UPDATE guests SET power = 'stopped' {guest}", {"power_state"}, id="power"),
            pytest.param("missed-status", end_order("suspended"), {"state"}, id="the order's state"),
            pytest.param("missed-delete", end_order("ended"), {"state"}, id="the order ended"),
            pytest.param(
                "ownership",
                "UPDATE orders_seen SET owner = 'm9' WHERE order_id = 'o2'",
                {"user_id"},
                id="another customer",
            ),
            pytest.param("plan", "UPDATE orders_seen SET cpu = 8 WHERE order_id = 'o2'", {"cpu"}, id="sold larger"),
            pytest.param("link", "UPDATE guests SET node = 'pve9' {guest}", {"node"}, id="migrated"),
            pytest.param("spec", "UPDATE guest_configs SET memory_mb = 512 {guest}", {"ram_mb"}, id="another size"),
        ],
    )
    def test_classes_filters_and_sides(self, steady: Connection, class_: str, statement: str, names: set[str]) -> None:
        spoil(
            steady,
            "INSERT INTO guest_configs (cluster, vmid, fingerprint, cores, memory_mb, disk_gb, since, read_at)"
            " SELECT cluster, vmid, fingerprint, 2, 2048, 10, read_at, read_at FROM guests"
            " ON CONFLICT (cluster, vmid) DO UPDATE SET cores = 2, memory_mb = 2048, disk_gb = 10",
            statement.format(guest=GUEST),
        )
        seen = drift(steady, HERE, DriftFilter(), limit=10)
        (row,) = seen.rows
        assert (row.order_id, row.classes, {one.name for one in row.differences}) == ("o2", [class_], names)
        assert [(one.class_, one.count) for one in seen.counts] == [(class_, 1)]
        assert (seen.records, seen.differing) == (SOLD, 1)
        for kept in (DriftFilter(class_), DriftFilter(cluster="main"), DriftFilter(user=row.user_id)):
            assert [one.vps_id for one in drift(steady, HERE, kept, limit=10).rows] == [row.vps_id]
        other = next(name for name in DRIFTS if name != class_)
        for left in (DriftFilter(other), DriftFilter(cluster="other"), DriftFilter(user=999)):
            assert drift(steady, HERE, left, limit=10).rows == []


@pytest.mark.parametrize(
    "scope",
    [
        pytest.param("source = 'orders'", id="the feed"),
        pytest.param("source = 'proxmox:main' AND scope = 'pve2'", id="one node"),
    ],
)
def test_it_is_as_old_as_the_oldest_read_that_it_compares(steady: Connection, scope: str) -> None:
    fresh = drift(steady, HERE, DriftFilter(), limit=10).as_of
    assert fresh is not None
    day_ago = fresh - timedelta(days=1)
    spoil(steady, f"UPDATE scopes SET began_at = '{day_ago}' WHERE {scope}")
    assert drift(steady, HERE, DriftFilter(), limit=10).as_of == day_ago
    spoil(steady, f"DELETE FROM scopes WHERE {scope}")
    assert drift(steady, HERE, DriftFilter(), limit=10).as_of is None, "it was never read completely"


def test_the_deleted_are_listed_until_they_are_restored(engine: Engine, owner: Engine, fleet: Hoster) -> None:
    fleet.end("o1")
    fleet.full(4)
    with engine.begin() as connection:
        (one,) = list_deleted(connection, DeletedFilter(), limit=10)
        assert (one.order_id, one.deleted_by, one.taken) == ("o1", "repair", None)
        assert "ended" in one.reason
        assert one.evidence is not None
        assert one.restorable_until - one.deleted_at == timedelta(days=7)
        day = one.deleted_at.astimezone(UTC).date()
        assert len(list_deleted(connection, DeletedFilter(one.user_id, day), limit=10)) == 1
        for left in (DeletedFilter(user=999), DeletedFilter(day=day - timedelta(days=1))):
            assert list_deleted(connection, left, limit=10) == []
        assert list_deleted(connection, DeletedFilter(), limit=10, offset=1) == []
    with owner.connect() as connection:
        spoil(connection, "UPDATE vps SET order_id = 'o1' WHERE order_id = 'o2'")
        (one,) = list_deleted(connection, DeletedFilter(), limit=10)
        assert one.taken is not None
        assert one.taken.startswith("order o1 belongs to VPS")
        spoil(connection, "UPDATE vps SET order_id = 'o2' WHERE order_id = 'o1' AND deleted_at IS NULL")
        restore_vps(connection, one.vps_id, "it was a mistake", "ann")
        assert list_deleted(connection, DeletedFilter(), limit=10) == []
        old = "deleted_at = clock_timestamp() - interval '8 days', deleted_reason = 'r'"
        spoil(connection, f"UPDATE vps SET {old} WHERE order_id = 'o1'")
        assert list_deleted(connection, DeletedFilter(), limit=10) == [], "too old to be restored"
