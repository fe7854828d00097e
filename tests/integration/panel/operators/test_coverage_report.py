"""What the coverage report says of a panel in which one thing was not read."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import pytest
from sqlalchemy import Connection, Engine

from panel.operators.reports.blind_spots import CLASSES, SpotFilter
from panel.operators.reports.coverage import CoverageReport, coverage
from panel.operators.reports.looks import Configured, SourceLook
from panel.runs.source_states import remember_source
from tests.integration.panel.operators.conftest import AGO, GUEST, HERE, PROOF, SOLD, SPARE, spoil
from tests.support.fleets.hoster import Hoster


def report(
    connection: Connection, wanted: SpotFilter | None = None, of: Configured = HERE, **page: int
) -> CoverageReport:
    return coverage(connection, of, wanted or SpotFilter(), **{"limit": 50, **page})


def look_at(report: CoverageReport, source: str, node: str | None = None) -> SourceLook:
    (found,) = [one for one in report.sources if (one.source, one.node) == (source, node)]
    return found


class TestCoverage:
    def test_nothing_is_hidden_where_all_was_read(self, steady: Connection) -> None:
        seen = report(steady)
        assert (seen.records, seen.judged, list(seen.counts), list(seen.spots)) == (SOLD, SOLD, [], [])
        nodes = [one.node for one in seen.sources if one.source == "proxmox:main"]
        assert nodes == [None, "pve1", "pve2", "pve3"]
        assert all(one.complete and one.looked_at and one.complete_at for one in seen.sources)
        assert look_at(seen, "orders").refused == 0

    def test_a_source_that_no_run_has_read(self, steady: Connection) -> None:
        more = Configured(("main", "second"), HERE.feed, names=True, shared_ids=False, proof=PROOF)
        never = look_at(report(steady, of=more), "proxmox:second")
        assert (never.complete, never.cause, never.looked_at, never.since) == (False, "never", None, None)

    @pytest.mark.parametrize(
        ("class_", "statements"),
        [
            pytest.param(
                "other-hypervisor",
                [
                    "UPDATE vps SET hypervisor = 'vmware', cluster = NULL, vmid = NULL, fingerprint = NULL,"
                    " link_state = 'unlinked' WHERE order_id = 'o2'"
                ],
                id="vmware",
            ),
            pytest.param(
                "cluster-not-configured",
                ["UPDATE vps SET cluster = 'gone' WHERE order_id = 'o2'"],
                id="another cluster",
            ),
            pytest.param(
                "guest-status-unknown", [f"UPDATE guests SET power = 'unknown' {GUEST}"], id="listed without a status"
            ),
            pytest.param(
                "config-refused",
                [f"UPDATE guests SET fingerprint_state = 'forbidden' {GUEST}"],
                id="403 on its configuration",
            ),
            pytest.param(
                "config-failed",
                [f"UPDATE guests SET fingerprint_state = 'stale', fingerprint_tried_at = clock_timestamp() {GUEST}"],
                id="500 on its configuration",
            ),
            pytest.param(
                "config-waiting",
                [f"UPDATE guests SET fingerprint_state = 'stale', doubted_at = clock_timestamp() {GUEST}"],
                id="its turn comes later",
            ),
            pytest.param(
                "guest-without-identity", [f"UPDATE guests SET fingerprint = NULL {GUEST}"], id="no uuid in it"
            ),
            pytest.param("order-not-shown", ["DELETE FROM orders_seen WHERE order_id = 'o2'"], id="no order was shown"),
            pytest.param(
                "order-state-unknown",
                ["UPDATE orders_seen SET state = 'unknown', status = 'frozen' WHERE order_id = 'o2'"],
                id="a word that nobody knows",
            ),
            pytest.param(
                "owner-unmapped",
                ["UPDATE orders_seen SET owner = 'm900' WHERE order_id = 'o2'"],
                id="a customer not mapped",
            ),
        ],
    )
    def test_one_record_cannot_be_judged(self, steady: Connection, class_: str, statements: Sequence[str]) -> None:
        spoil(steady, *statements)
        seen = report(steady)
        (spot,) = seen.spots
        assert (spot.class_, spot.order_id, seen.judged) == (class_, "o2", SOLD - 1)
        assert (spot.why, spot.remedy) == CLASSES[class_]
        assert [(one.class_, one.kind, one.count) for one in seen.counts] == [(class_, "vps", 1)]
        assert list(report(steady, SpotFilter(class_=class_)).spots) == [spot]
        assert list(report(steady, SpotFilter(user=spot.user_id)).spots) == [spot]
        assert list(report(steady, SpotFilter(cluster=spot.cluster)).spots) == [spot]
        assert list(report(steady, SpotFilter(user=999)).spots) == []

    def test_a_node_that_is_offline(self, engine: Engine, fleet: Hoster) -> None:
        fleet.cluster.offline.add("pve2")
        fleet.fast()
        with engine.connect() as connection:
            seen = report(connection)
        on_it = fleet.count("vps", "node = 'pve2'")
        assert {(one.class_, one.node) for one in seen.spots} == {("node-not-read", "pve2")}
        assert (len(seen.spots), seen.judged) == (on_it, SOLD - on_it)
        node = look_at(seen, "proxmox:main", "pve2")
        assert (node.complete, node.cause) == (False, "incomplete")
        assert "pve2" in (node.reason or "")
        assert node.since is not None
        assert node.looked_at is not None
        assert node.since == node.complete_at
        assert node.since < node.looked_at
        assert look_at(seen, "proxmox:main").cause == "incomplete"
        assert look_at(seen, "proxmox:main", "pve1").complete

    def test_a_source_that_is_not_read(self, steady: Connection) -> None:
        unwell = {
            "unwell_since": datetime(2026, 1, 1, tzinfo=UTC),
            "unwell_cause": "unread",
            "unwell_reason": "HTTP 500",
        }
        remember_source(steady, "orders", **unwell)
        seen = report(steady)
        assert (seen.judged, {one.class_ for one in seen.spots}) == (0, {"feed-not-read"})
        feed = look_at(seen, "orders")
        assert (feed.complete, feed.cause, feed.reason, feed.since) == (
            False,
            "unread",
            "HTTP 500",
            unwell["unwell_since"],
        )
        remember_source(steady, "proxmox:main", **unwell)
        seen = report(steady)
        assert (seen.judged, {one.class_ for one in seen.spots}) == (0, {"cluster-not-read"})
        assert [one.node for one in seen.sources if one.source == "proxmox:main"] == [None], "its nodes are not known"

    def test_a_pause_is_no_look(self, steady: Connection) -> None:
        values = f"('proxmox:main', {AGO}, clock_timestamp() + interval '1 hour', 'ann', 'storage')"
        spoil(steady, f"INSERT INTO pauses (target, paused_at, paused_until, paused_by, reason) VALUES {values}")
        seen = report(steady)
        paused = look_at(seen, "proxmox:main")
        assert (seen.judged, paused.cause) == (0, "paused")
        assert "storage" in (paused.reason or "")

    def test_orders_and_guests_without_a_record(self, steady: Connection) -> None:
        spoil(steady, SPARE, "UPDATE guests SET fingerprint_state = 'forbidden' WHERE vmid = 900")
        for order_id, state, owner in (("new", "pending", "m900"), ("odd", "unknown", "m1"), ("old", "ended", "m900")):
            spoil(
                steady,
                "INSERT INTO orders_seen (order_id, state, status, state_since, owner, owner_since, panel_vps_id_given,"
                f" first_seen_at, changed_at) VALUES ('{order_id}', '{state}', 'word', {AGO}, '{owner}', {AGO}, true,"
                f" {AGO}, {AGO})",
            )
        seen = report(steady)
        assert [(one.class_, one.subject, one.user_id) for one in seen.spots] == [
            ("config-refused", "guest:main/900", None),
            ("order-state-unknown", "order:odd", 1),
            ("owner-unmapped", "order:new", None),
        ]
        assert seen.judged == SOLD, "they are no records"

    def test_ids_that_both_sides_share(self, steady: Connection) -> None:
        shared = Configured(HERE.clusters, HERE.feed, names=True, shared_ids=True, proof=PROOF)
        assert report(steady, of=shared).judged == 0, "m1 is no id of the panel's"
        spoil(steady, "UPDATE orders_seen SET owner = substr(owner, 2)")
        assert report(steady, of=shared).judged == SOLD

    def test_pages(self, steady: Connection) -> None:
        spoil(steady, "UPDATE orders_seen SET state = 'unknown'")
        first, second = report(steady, limit=3), report(steady, limit=3, offset=3)
        assert ([first.more, second.more], len(first.spots)) == ([True, False], 3)
        assert [*first.spots, *second.spots] == report(steady).spots

    def test_rows_that_the_feed_refused_are_counted(self, steady: Connection) -> None:
        spoil(steady, "UPDATE runs SET counts = counts || '{\"orders_refused\": 2}'")
        assert look_at(report(steady), "orders").refused == 2
        spoil(steady, "UPDATE runs SET counts = counts - 'orders_refused'")
        assert look_at(report(steady), "orders").refused is None, "a run of an earlier version counted none"
