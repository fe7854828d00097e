"""Which machines run unpaid and which orders are paid without a machine, where one thing is wrong."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Connection, text

from panel.operators.reports.money import COLUMNS, REASONS, MoneyFilter, MoneyReport, money, write_money
from panel.operators.reports.money_statements import Subject
from panel.runs.source_states import remember_source
from tests.integration.panel.operators.conftest import AGO, GUEST, HERE, SPARE, end_order, spoil


def told(
    connection: Connection, subject: Subject, wanted: MoneyFilter | None = None, *, limit: int = 50, offset: int = 0
) -> MoneyReport:
    return money(connection, HERE, subject, wanted or MoneyFilter(), limit=limit, offset=offset)


def listed(connection: Connection, subject: Subject) -> list[tuple[str, str | None]]:
    return [(row.reason, row.order_id) for row in told(connection, subject).rows]


ABSENT = (
    "INSERT INTO absences (kind, subject, absent_since, consecutive, last_absent_at, last_run_id, evidence)"
    " SELECT '{kind}', {subject}, clock_timestamp() - interval '1 hour', {times}, clock_timestamp(), max(id), '{{}}'"
    " FROM runs"
)
O2 = "(SELECT cluster || '/' || vmid FROM vps WHERE order_id = 'o2')"
QUIET = f"UPDATE vps SET order_changed_at = {AGO}, link_changed_at = {AGO} WHERE order_id = 'o2'"
ORDER_GONE = ABSENT.format(kind="order", subject="'o2'", times=3)
GUEST_GONE = ABSENT.format(kind="guest", subject=O2, times=3)
UNLISTED = f"UPDATE guests SET unlisted_since = {AGO} {GUEST}"
STOPPED = f"UPDATE guests SET power = 'stopped', power_since = {AGO} {GUEST}"
NAMED = "WHERE (cluster, vmid) = (SELECT cluster, vmid FROM orders_seen WHERE order_id = 'o2')"
CALLED = "UPDATE vps SET order_state = '{state}', order_changed_at = {at} WHERE order_id = 'o2'"
LATER, EARLIER = "clock_timestamp()", "(SELECT effective_at - interval '1 s' FROM orders_seen WHERE order_id = 'o2')"
UNLINK = "UPDATE vps SET cluster = NULL, vmid = NULL, fingerprint = NULL, link_state = 'unlinked' WHERE order_id = 'o2'"
RENEWED = (
    "UPDATE orders_seen SET cluster = NULL, vmid = NULL, panel_vps_id = (SELECT id FROM vps WHERE order_id = '{of}')"
    " WHERE order_id = 'o3'"
)
MERGED = (
    "DELETE FROM guests WHERE vmid = (SELECT vmid FROM vps WHERE order_id = 'o4')",
    "UPDATE orders_seen SET state = 'ended' WHERE order_id = 'o4'",
    f"UPDATE vps SET deleted_at = {AGO}, deleted_reason = 'r', merged_into = (SELECT id FROM vps WHERE order_id = 'o2')"
    " WHERE order_id = 'o4'",
)
ADOPTED = (
    "INSERT INTO adoptions (cluster, vmid, guest_type, fingerprint, order_id, owner, user_id, reason, evidence,"
    " adopted_by) SELECT cluster, vmid, guest_type, fingerprint, 'o2', 'm1', 1, 'ours', '{}', 'api:ann' FROM guests"
    " WHERE vmid = 900"
)
ASKED = (
    "INSERT INTO power_actions (vps_id, user_id, action, force, cluster, vmid, guest_type, fingerprint, state,"
    " valid_until, code, reason, ended_at) SELECT id, user_id, 'stop', false, cluster, vmid, 'qemu', 'f', 'done',"
    f" {AGO}, 'done', 'It is stopped', {AGO} FROM vps WHERE order_id = 'o2'"
)


class TestMoney:
    @pytest.mark.parametrize(
        ("statements", "unpaid", "missing"),
        [
            pytest.param([], [], [], id="all is paid for and there"),
            pytest.param([end_order("ended")], [("order-ended", "o2")], [], id="its order ended"),
            pytest.param([end_order("suspended")], [("order-suspended", "o2")], [], id="its order is suspended"),
            pytest.param([end_order("unknown")], [], [], id="a word that nobody knows says nothing"),
            pytest.param([end_order("ended"), STOPPED], [], [], id="what does not run costs nothing"),
            pytest.param([QUIET, ORDER_GONE], [("order-gone", "o2")], [], id="its order is proven gone"),
            pytest.param(
                [end_order("ended"), "UPDATE orders_seen SET cluster = 'main', vmid = (SELECT vmid FROM vps WHERE"
                 " order_id = 'o2') WHERE order_id = 'o3'"], [], [], id="another order that is paid names the guest",
            ),
            pytest.param(
                ["DELETE FROM orders_seen WHERE order_id = 'o2'"], [], [], id="of a record's order nothing is known"
            ),
            pytest.param(
                [end_order("suspended"), CALLED.format(state="active", at=LATER)], [], [],
                id="its order is suspended, and a later call says that it is paid",
            ),
            pytest.param(
                [end_order("ended"), CALLED.format(state="active", at=EARLIER)], [("order-ended", "o2")], [],
                id="its order ended after a call said that it is paid",
            ),
            pytest.param(
                [CALLED.format(state="suspended", at=LATER)], [("order-suspended", "o2")], [],
                id="a later call suspends it",
            ),
            pytest.param(
                [QUIET, ORDER_GONE, CALLED.format(state="active", at=LATER)], [], [],
                id="its order is proven gone, and a later call says that it goes on",
            ),
            pytest.param([ORDER_GONE], [], [], id="its order is missed since before the record's last change"),
            pytest.param(
                [end_order("ended"), UNLINK, CALLED.format(state="active", at=LATER)], [], [],
                id="its order ended, and a later call to a record without a guest says that it is paid",
            ),
            pytest.param(
                [end_order("ended"), RENEWED.format(of="o2")], [], [],
                id="its order ended, and one that goes on names the record by its id",
            ),
            pytest.param(
                [end_order("ended"), RENEWED.format(of="o4"), *MERGED], [], [],
                id="its order ended, and one that goes on names a record that was merged into its own",
            ),
            pytest.param([SPARE, ADOPTED], [], [], id="an operator gave the guest to an order"),
            pytest.param(
                [SPARE, ADOPTED, f"UPDATE adoptions SET outcome = 'withdrawn', ended_at = {AGO}"],
                [("no-order", None)], [], id="an operator took that back",
            ),
            pytest.param([GUEST_GONE, UNLISTED], [], [("guest-gone", "o2")], id="its guest is proven gone"),
            pytest.param([UNLISTED], [], [("guest-not-listed", "o2")], id="its guest is not listed"),
            pytest.param(
                [f"UPDATE guests SET power = 'error', power_since = {AGO} {GUEST}"], [], [("guest-in-error", "o2")],
                id="its guest is in error",
            ),
            pytest.param(
                [f"UPDATE guests SET template = true {GUEST}"], [], [("guest-is-template", "o2")], id="a template",
            ),
            pytest.param([STOPPED], [], [("guest-stopped", "o2")], id="stopped although the order says running"),
            pytest.param([STOPPED, ASKED], [], [], id="its customer stopped it by the panel"),
            pytest.param(
                [end_order("ended"), f"UPDATE guests SET fingerprint = 'smbios-new' {GUEST}"], [], [],
                id="its order ended, and another machine has its address: whose, nobody knows",
            ),
            pytest.param(
                ["UPDATE vps SET vmid = 990 WHERE order_id = 'o2'",
                 "UPDATE orders_seen SET vmid = 990 WHERE order_id = 'o2'"],
                [], [], id="its guest moved to another address",
            ),
            pytest.param(
                [SPARE, "UPDATE vps SET cluster = NULL, vmid = NULL, fingerprint = NULL, link_state = 'conflict',"
                 " claimed_cluster = 'main', claimed_vmid = 900 WHERE order_id = 'o2'", f"DELETE FROM guests {NAMED}"],
                [], [("guest-never-listed", "o2")], id="a call named the guest for it",
            ),
            pytest.param(
                ["UPDATE vps SET hypervisor = 'kvm' WHERE order_id = 'o2'",
                 "UPDATE orders_seen SET hypervisor = 'kvm' WHERE order_id = 'o2'", UNLISTED],
                [], [("guest-not-listed", "o2")], id="a word of the main site's own for Proxmox",
            ),
            pytest.param(
                [STOPPED, "UPDATE orders_seen SET status = 'stopped' WHERE order_id = 'o2'"], [], [],
                id="the order says stopped, too",
            ),
            pytest.param(
                ["UPDATE vps SET cluster = NULL, vmid = NULL, fingerprint = NULL, link_state = 'unlinked'"
                 " WHERE order_id = 'o2'",
                 "UPDATE orders_seen SET cluster = NULL, vmid = NULL WHERE order_id = 'o2'"],
                [("no-order", None)], [("no-guest", "o2")], id="order and guest do not know each other",
            ),
            pytest.param(
                ["UPDATE vps SET vmid = 990, fingerprint = 'another' WHERE order_id = 'o2'",
                 "UPDATE orders_seen SET vmid = 990 WHERE order_id = 'o2'"],
                [("no-order", None)], [("guest-never-listed", "o2")], id="it names a guest that never was",
            ),
            pytest.param(
                ["UPDATE vps SET cluster = 'gone' WHERE order_id = 'o2'",
                 "UPDATE orders_seen SET cluster = 'gone' WHERE order_id = 'o2'", "DELETE FROM guests WHERE vmid IN"
                 " (SELECT vmid FROM vps WHERE order_id = 'o2')"], [], [], id="a cluster that is not configured",
            ),
        ],
    )  # fmt: skip
    def test_one_is_wrong(
        self, steady: Connection, statements: Sequence[str],
        unpaid: Sequence[tuple[str, str | None]], missing: Sequence[tuple[str, str | None]],
    ) -> None:  # fmt: skip
        spoil(steady, *statements)
        assert (listed(steady, Subject.UNPAID), listed(steady, Subject.MISSING)) == (unpaid, missing)

    def test_its_age_is_that_of_the_word_that_counts(self, steady: Connection) -> None:
        spoil(steady, CALLED.format(state="suspended", at=LATER))
        called = steady.scalar(text("SELECT order_changed_at FROM vps WHERE order_id = 'o2'"))
        assert [row.since for row in told(steady, Subject.UNPAID).rows] == [called]
        spoil(steady, end_order("suspended"))
        since = steady.scalar(text("SELECT state_since FROM orders_seen WHERE order_id = 'o2'"))
        assert [row.since for row in told(steady, Subject.UNPAID).rows] == [since], "said before, and once more"

    def test_a_guest_that_nobody_ordered(self, steady: Connection) -> None:
        spoil(steady, SPARE)
        (row,) = told(steady, Subject.UNPAID).rows
        assert (row.reason, row.vmid, row.vps_id, row.user_id, row.cores) == ("no-order", 900, None, None, 2.0)
        assert row.as_of is not None
        ended = "INSERT INTO orders_seen (order_id, state, status, state_since, owner, owner_since, panel_vps_id_given,"
        ended += (
            f" cluster, vmid, first_seen_at, changed_at) VALUES ('x', 'ended', 'cancelled', {AGO}, 'm1', {AGO}, true,"
        )
        spoil(steady, f"{ended} 'main', 900, {AGO}, {AGO})")
        assert listed(steady, Subject.UNPAID) == [("order-ended", "x")]
        spoil(
            steady,
            f"UPDATE vps SET deleted_at = {AGO}, deleted_reason = 'r', order_id = 'x' WHERE order_id = 'o4'",
        )
        assert ("no-order", None) in listed(steady, Subject.UNPAID), "the record shows that x had another machine"
        spoil(
            steady,
            "INSERT INTO ignored_guests (cluster, vmid, fingerprint, reason, ignored_by)"
            " SELECT cluster, vmid, fingerprint, 'ours', 'ann' FROM guests WHERE vmid = 900",
        )
        assert 900 not in {row.vmid for row in told(steady, Subject.UNPAID).rows}

    def test_totals_groups_filters_and_pages(self, steady: Connection) -> None:
        spoil(
            steady,
            "UPDATE orders_seen SET state = 'ended', state_since = statement_timestamp() - interval '40 days'"
            " WHERE order_id IN ('o1', 'o2')",
            f"UPDATE orders_seen SET state = 'suspended', state_since = {AGO} WHERE order_id = 'o3'",
        )
        seen = told(steady, Subject.UNPAID)
        assert (seen.total.count, seen.total.cores, seen.total.ram_gb, seen.total.disk_gb) == (3, 6.0, 6.0, 30)
        assert {group.of: group.total.count for group in seen.reasons} == {"order-ended": 2, "order-suspended": 1}
        assert [(group.of, group.total.count) for group in seen.ages] == [("1-7", 1), ("30-", 2)]
        assert [(group.of, group.total.count) for group in seen.plans] == [("2/2048/10", 3)]
        assert [row.order_id for row in seen.rows] == ["o1", "o2", "o3"], "the oldest first"
        assert [round(row.age_days or 0) for row in seen.rows] == [40, 40, 2]

        def orders(wanted: MoneyFilter, **page: int) -> list[str | None]:
            return [row.order_id for row in told(steady, Subject.UNPAID, wanted, **page).rows]

        assert orders(MoneyFilter(reason="order-suspended")) == ["o3"]
        assert orders(MoneyFilter(older=timedelta(days=7))) == ["o1", "o2"]
        assert orders(MoneyFilter(cluster="other")) == []
        assert orders(MoneyFilter(user=seen.rows[2].user_id)) == ["o3"]
        assert told(steady, Subject.UNPAID, MoneyFilter(reason="order-suspended")).total.count == 1
        assert (orders(MoneyFilter(), limit=2), orders(MoneyFilter(), limit=2, offset=2)) == (["o1", "o2"], ["o3"])
        assert told(steady, Subject.UNPAID, limit=2).more

    def test_what_was_not_read_is_said_to_be_unknown(self, steady: Connection) -> None:
        spoil(steady, end_order("ended"), "UPDATE guests SET unlisted_since = clock_timestamp() WHERE vmid = 102")
        unwell = {"unwell_since": datetime.now(UTC), "unwell_cause": "unread", "unwell_reason": "r"}
        remember_source(steady, "proxmox:main", **unwell)
        for subject in Subject:
            seen = told(steady, subject)
            assert (list(seen.rows), "proxmox:main" in seen.unread) == ([], True)

    @pytest.mark.parametrize(
        ("source", "cause", "old"),
        [
            pytest.param("orders", "old", True, id="the feed answers from a replica that stopped"),
            pytest.param("orders", "mass-loss", True, id="half of the feed is missing"),
            pytest.param("orders", "incomplete", False, id="a row of the feed was refused"),
            pytest.param("proxmox:main", "incomplete", False, id="a node is offline"),
            pytest.param("users", "unread", False, id="the users tell nothing of orders"),
        ],
    )
    def test_old_news_are_said_to_be_old(self, steady: Connection, source: str, cause: str, *, old: bool) -> None:
        spoil(steady, end_order("ended"))
        remember_source(steady, source, unwell_since=datetime.now(UTC), unwell_cause=cause, unwell_reason="r")
        for subject in Subject:
            assert list(told(steady, subject).unread) == ([source] if old else [])

    def test_the_orders_have_their_own_time(self, steady: Connection) -> None:
        week_ago = datetime.now(UTC) - timedelta(days=7)
        spoil(steady, end_order("ended"), f"UPDATE scopes SET began_at = '{week_ago}' WHERE source = 'orders'")
        seen = told(steady, Subject.UNPAID)
        assert seen.orders_as_of == week_ago
        assert seen.rows[0].as_of is not None
        assert seen.rows[0].as_of > week_ago, "the node was read since"
        out = io.StringIO(newline="")
        write_money(steady, HERE, Subject.UNPAID, MoneyFilter(), out)
        (line,) = csv.DictReader(io.StringIO(out.getvalue(), newline=""), strict=True)
        assert datetime.fromisoformat(line["orders_as_of"]) == week_ago
        spoil(steady, "DELETE FROM scopes WHERE source = 'orders'")
        assert told(steady, Subject.UNPAID).orders_as_of is None

    def test_a_file_has_all_rows(self, steady: Connection) -> None:
        spoil(steady, "UPDATE orders_seen SET state = 'ended'", "UPDATE guests SET name = '=1+1' WHERE vmid = 101")
        out = io.StringIO(newline="")
        write_money(steady, HERE, Subject.UNPAID, MoneyFilter(), out)
        header, *lines = list(csv.reader(io.StringIO(out.getvalue(), newline=""), strict=True))
        assert tuple(header) == COLUMNS
        rows = told(steady, Subject.UNPAID).rows
        assert [line[header.index("order_id")] for line in lines] == [row.order_id for row in rows]
        assert min(line[header.index("name")] for line in lines) == "'=1+1"
        assert not {"email", "username"} & set(header)

    def test_every_reason_has_a_case(self) -> None:
        (cases,) = [mark for mark in TestMoney.test_one_is_wrong.pytestmark if mark.name == "parametrize"]  # type: ignore[attr-defined]
        tried = {reason for case in cases.args[1] for rows in case.values[1:] for reason, _ in rows}
        assert tried == {reason for reasons in REASONS.values() for reason in reasons}
