"""What is let go, what stays however old it is, and that it takes no longer than it may."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, text

from panel.observations.proof import Proof
from panel.operators import prune as pruning
from panel.operators.prune import prune
from tests.support.fleets.world import add_user

DAYS = 400
PROOF = Proof(3, timedelta(minutes=10))


def ago(days: float) -> str:
    return f"clock_timestamp() - interval '{days} days'"


OLD = ago(100)
ANCIENT = ago(500)


class Rows:
    """Rows as the panel leaves them, each as old as a test says."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.seq: dict[int, int] = {}

    def do(self, statement: str, **values: Any) -> None:
        self.connection.execute(text(statement), values)

    def run(self, age: str = OLD) -> int:
        statement = f"INSERT INTO runs (kind, trigger, epoch, state, started_at) VALUES ('full', 't', 1, 'done', {age})"
        return int(self.connection.scalar(text(statement + " RETURNING id")) or 0)

    def snapshot(self, run: int, age: str = OLD) -> int:
        statement = (
            "INSERT INTO snapshots (run_id, source, scope, complete, count, finished_at)"
            f" VALUES ({run}, 'proxmox:main', 'pve1', true, 1, {age}) RETURNING id"
        )
        return int(self.connection.scalar(text(statement)) or 0)

    def record(self, id_: int, *, deleted: str = "NULL", at: str = ANCIENT, **values: Any) -> None:
        """A record with its queue. What is not said of it is as of any VPS."""
        row = {
            "id": str(id_), "user_id": "5", "name": f"'v{id_}'", "cpu": "1", "ram_mb": "512", "disk_gb": "5",
            "os": "'o'",
            "hypervisor": "'proxmox'", "order_state": "'active'", "order_source": "'sync'", "power_state": "'running'",
            "power_source": "'sync'", "status": "'running'", "applied_seq": "1", "version": "1", "deleted_at": deleted,
            "deleted_reason": "NULL" if deleted == "NULL" else "'sync'",
        }  # fmt: skip
        for column in ("order_changed_at", "order_as_of", "link_changed_at", "power_changed_at", "power_as_of",
                       "owner_changed_at", "plan_changed_at", "created_at", "updated_at"):  # fmt: skip
            row[column] = at
        row |= {name: str(value) if isinstance(value, int) else f"'{value}'" for name, value in values.items()}
        if "vmid" in values:
            row |= {"cluster": "'main'", "link_state": "'verified'"}
        head = "live" if deleted == "NULL" else "deleted"
        into = row.get("merged_into", "NULL")
        self.do(
            "INSERT INTO vps_queues (vps_id, last_seq, applied_seq, queue_state, merged_into)"
            f" VALUES ({id_}, 1, 1, '{head}', {into})"
        )
        self.do(f"INSERT INTO vps ({', '.join(row)}) VALUES ({', '.join(row.values())})")

    def operation(
        self, vps: int, action: str = "update", age: str = ANCIENT, state: str = "applied", **after: Any
    ) -> int:
        seq = self.seq[vps] = self.seq.get(vps, 0) + 1
        finished_at = "NULL" if state == "queued" else age
        statement = (
            "INSERT INTO operations (kind, action, vps_id, seq, source, payload, state, accepted_at, applied_at, after)"
            f" VALUES ('sync', '{action}', {vps}, {seq}, 'sync', '{{}}', '{state}', {age}, {finished_at},"
            " CAST(:after AS jsonb)) RETURNING id"
        )
        return int(self.connection.scalar(text(statement), {"after": json.dumps(after)}) or 0)

    def guest(self, vmid: int, *, unlisted: str = OLD, proven: bool = True, state: str = "read", **values: Any) -> None:
        row = {
            "cluster": "'main'", "vmid": str(vmid), "guest_type": "'qemu'", "node": "'pve1'", "status": "'running'",
            "power": "'unknown'", "template": "false", "signature": "'s'", "fingerprint": f"'smbios:{vmid}'",
            "fingerprint_state": f"'{state}'", "unlisted_since": unlisted,
        } | {name: str(value) for name, value in values.items()}  # fmt: skip
        for column in ("power_since", "first_seen_at", "changed_at", "read_at"):
            row[column] = OLD
        self.do(f"INSERT INTO guests ({', '.join(row)}) VALUES ({', '.join(row.values())})")
        if proven:
            self.absence("guest", f"main/{vmid}")

    def absence(self, kind: str, subject: str, age: str = OLD, evidence: str = "'{}'", times: int = 3) -> None:
        """Missed so often, an hour apart at most."""
        run = self.run(age)
        self.do(
            "INSERT INTO absences (kind, subject, absent_since, consecutive, last_absent_at, last_run_id, evidence)"
            f" VALUES ('{kind}', '{subject}', {age}, {times}, {age} + interval '1 hour', {run}, {evidence})"
        )

    def order(self, id_: str, state: str = "ended", unlisted: str = OLD, **values: Any) -> None:
        row = {
            "order_id": f"'{id_}'", "state": f"'{state}'", "status": "'s'", "panel_vps_id_given": "false",
            "unlisted_since": unlisted,
        } | {name: str(value) for name, value in values.items()}  # fmt: skip
        for column in ("state_since", "owner_since", "first_seen_at", "changed_at"):
            row[column] = OLD
        self.do(f"INSERT INTO orders_seen ({', '.join(row)}) VALUES ({', '.join(row.values())})")


def ids(engine: Engine, statement: str) -> list[Any]:
    with engine.connect() as connection:
        return list(connection.execute(text(statement)).scalars())


def test_old_bookkeeping_goes_and_what_is_referred_to_stays(engine: Engine, owner: Engine) -> None:
    with owner.begin() as connection:
        rows = Rows(connection)
        for age in (OLD, OLD, OLD, ago(1)):
            rows.snapshot(rows.run(age), age)
        rows.do("INSERT INTO scopes (source, scope, snapshot_id, began_at, count)"
                " VALUES ('orders', 'all', 2, clock_timestamp(), 1)")  # fmt: skip
        rows.do("INSERT INTO absences (kind, subject, absent_since, consecutive, last_absent_at, last_run_id, evidence)"
                f" VALUES ('order', '7', {OLD}, 1, {OLD}, 4, ARRAY[3])")  # fmt: skip
        rows.do("INSERT INTO holds (plan_hash, scope, reason, items, run_id, decision, decided_at)"
                f" VALUES ('a', 'deletes', 'r', '[]', 4, 'expired', {OLD}), ('b', 'deletes', 'r', '[]', 4, 'approved',"
                f" {OLD}), ('c', 'deletes', 'r', '[]', 4, 'expired', clock_timestamp()),"
                " ('d', 'deletes', 'r', '[]', 4, NULL, NULL)")  # fmt: skip
        rows.do(f"INSERT INTO refused_calls (at, status_code, code, message) VALUES ({OLD}, 422, 'c', 'm')")
        rows.do("INSERT INTO refused_calls (status_code, code, message) VALUES (422, 'c', 'm')")
        rows.do("INSERT INTO access_counts"
                f" SELECT h, 'no-key', '192.0.2.1', 'GET /api/vps', 401, 'c', 1, h, h, 'r' FROM (VALUES ({OLD}),"
                " (clock_timestamp())) AS t(h)")  # fmt: skip
        rows.do(f"INSERT INTO operator_actions (at, \"by\", action, subject) VALUES ({OLD}, 'api:ann', 'pause', 'all'),"
                f" ({ago(401)}, 'api:ann', 'pause', 'feed')")  # fmt: skip
        rows.do("INSERT INTO idempotency_keys (scope, key, body_hash, created_at)"
                f" VALUES ('main-site', 'a', 'h', {OLD}), ('main-site', 'b', 'h', {ago(1.5)})")  # fmt: skip
        rows.do("INSERT INTO client_sessions (token_hash, user_id, credential, expires_at)"
                f" VALUES ('a', 5, 'c', {ago(0.001)}), ('b', 5, 'c', {ago(-0.5)})")  # fmt: skip
        rows.do("INSERT INTO adoptions (cluster, vmid, guest_type, fingerprint, order_id, owner, user_id, reason,"
                " evidence, adopted_by, adopted_at, outcome, ended_at)"
                f" VALUES ('m', 1, 'qemu', 'f', 'a', 'o', 5, 'r', '{{}}', 'ann', {OLD}, 'lapsed', {OLD}),"
                f" ('m', 1, 'qemu', 'f', 'b', 'o', 5, 'r', '{{}}', 'ann', {OLD}, 'lapsed', {ago(80)}),"
                f" ('m', 1, 'qemu', 'f', 'c', 'o', 5, 'r', '{{}}', 'ann', {OLD}, NULL, NULL)")  # fmt: skip
        rows.do("INSERT INTO operator_sessions (token_hash, operator, expires_at)"
                f" VALUES ('a', 'ann', {ago(0.001)}), ('b', 'ann', {ago(-0.5)})")  # fmt: skip
        rows.do("INSERT INTO used_sign_in_links (signature, expires_at)"
                f" VALUES ('a', {ago(0.1)}), ('b', {ago(0.01)})")  # fmt: skip
        rows.do(
            "INSERT INTO vps_statistics (vps_id, user_id, timeframe, cluster, node, asked_at)"
            f" VALUES (1, 5, 'hour', 'main', 'pve1', {ago(0.05)}), (1, 5, 'day', 'main', 'pve1', {ago(0.03)})"
        )
        rows.do("INSERT INTO findings (class, subject, severity, reason, resolved_at)"
                f" VALUES ('moving', 'a', 'info', 'r', {OLD}), ('moving', 'b', 'info', 'r', {ago(80)}),"
                " ('moving', 'c', 'info', 'r', NULL)")  # fmt: skip
        rows.do("INSERT INTO what_ifs (asked_at, asked_by, policy, state)"
                f" VALUES ({OLD}, 'ann', '{{}}', 'waiting'), ({ago(13)}, 'bob', '{{}}', 'waiting')")  # fmt: skip
    once = ("idempotency_keys", "refused_calls", "access_counts", "operator_actions", "holds", "snapshots", "runs",
            "findings", "client_sessions", "operator_sessions", "used_sign_in_links", "vps_statistics", "adoptions",
            "what_ifs")  # fmt: skip
    assert {name: count for name, count in prune(engine, DAYS, PROOF).items() if count} == dict.fromkeys(once, 1)
    assert ids(engine, "SELECT id FROM snapshots ORDER BY id") == [2, 3, 4]
    assert ids(engine, "SELECT id FROM runs ORDER BY id") == [2, 3, 4]
    assert ids(engine, "SELECT plan_hash FROM holds ORDER BY id") == ["b", "c", "d"]
    assert ids(engine, "SELECT key FROM idempotency_keys") == ["b"]
    assert ids(engine, "SELECT token_hash FROM client_sessions") == ["b"]
    assert ids(engine, "SELECT token_hash FROM operator_sessions") == ["b"]
    assert ids(engine, "SELECT signature FROM used_sign_in_links") == ["b"]
    assert ids(engine, "SELECT timeframe FROM vps_statistics") == ["day"]
    assert ids(engine, "SELECT order_id FROM adoptions ORDER BY id") == ["b", "c"]
    assert ids(engine, "SELECT asked_by FROM what_ifs") == ["bob"]
    assert ids(engine, "SELECT subject FROM findings ORDER BY id") == ["b", "c"]
    assert sum(prune(engine, DAYS, PROOF).values()) == 0


def test_a_read_goes_sooner_than_its_run(engine: Engine, owner: Engine) -> None:
    """Each fast run leaves a row for each node."""
    with owner.begin() as connection:
        rows = Rows(connection)
        for age in (ago(3), ago(1.5)):
            rows.snapshot(rows.run(age), age)
    assert prune(engine, DAYS, PROOF)["snapshots"] == 1
    assert ids(engine, "SELECT id FROM snapshots") == [2]
    assert ids(engine, "SELECT id FROM runs ORDER BY id") == [1, 2]


def test_rows_from_the_future_stop_nothing(engine: Engine, owner: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """They were written while the database's clock was ten years ahead."""
    monkeypatch.setattr(pruning, "WINDOW", 3)
    with owner.begin() as connection:
        rows = Rows(connection)
        for age in (OLD, ago(-3650), OLD, OLD, OLD, ago(-3650), OLD, ago(1), OLD):
            rows.snapshot(rows.run(age), age)
    for _ in range(2):
        pruned = prune(engine, DAYS, PROOF)
        assert (pruned["snapshots"], pruned["runs"]) in {(5, 5), (0, 0)}
    assert ids(engine, "SELECT id FROM snapshots ORDER BY id") == [2, 6, 8, 9], "behind a young one all are young"
    assert ids(engine, "SELECT id FROM runs ORDER BY id") == [2, 6, 8, 9]


def test_calls_from_the_future_keep_the_journal_from_no_end(
    engine: Engine, owner: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruning, "WINDOW", 3)
    add_user(engine, 5)
    with owner.begin() as connection:
        rows = Rows(connection)
        rows.record(1)
        for age in (ANCIENT, ago(-3650), ANCIENT, ANCIENT, ANCIENT, ago(1), ANCIENT):
            rows.operation(1, age=age)
    assert prune(engine, DAYS, PROOF)["operations"] == 4
    assert ids(engine, "SELECT id FROM operations ORDER BY id") == [2, 6, 7], "behind a young one all are young"


def test_the_journal_keeps_what_made_a_vps_what_it_is(engine: Engine, owner: Engine) -> None:
    add_user(engine, 5)
    with owner.begin() as connection:
        rows = Rows(connection)
        rows.record(1)
        kept = [
            rows.operation(1, "create", name="v1"),
            rows.operation(1, user_id=6),
            rows.operation(1, vmid=7),
            rows.operation(1, order_id="9"),
            rows.operation(1, "merge"),
            rows.operation(1, state="dead", power_state="stopped"),
            rows.operation(1, state="queued"),
        ]
        gone = [rows.operation(1, power_state="stopped"), rows.operation(1, "update", ANCIENT, "superseded")]
        kept += [rows.operation(1, "update", ago(399), power_state="running"), rows.operation(1, "update", OLD)]
    assert prune(engine, DAYS, PROOF)["operations"] == len(gone)
    assert ids(engine, "SELECT id FROM operations ORDER BY id") == sorted(kept)
    assert prune(engine, 1, PROOF)["operations"] == 2, "100 days and 399 are older than the shortest age"
    with owner.begin() as connection:
        rows.connection = connection
        kept.append(rows.operation(1, "update", ago(89), power_state="running"))
    assert prune(engine, 1, PROOF)["operations"] == 0, "nobody can make it shorter than 90 days"


def test_a_deleted_record_goes_with_all_its_own_once_nothing_names_it(engine: Engine, owner: Engine) -> None:
    add_user(engine, 5)
    with owner.begin() as connection:
        rows = Rows(connection)
        rows.record(1, deleted=ANCIENT, vmid=101, fingerprint="smbios:101", order_id="a")
        for action in ("create", "update", "delete"):
            rows.operation(1, action)
        rows.do("INSERT INTO order_claims (order_id, vps_id, operation_id) VALUES ('a', 1, 1)")
        rows.record(2, deleted=OLD)  # deleted 100 days ago
        rows.record(3, deleted=ANCIENT, order_id="c")
        rows.order("c", "active", "NULL")
        rows.record(4, deleted=ANCIENT)
        rows.order("d", "active", "NULL", panel_vps_id=4)
        rows.record(5, deleted=ANCIENT, vmid=105, fingerprint="smbios:500")
        rows.guest(500, unlisted="NULL", proven=False)  # its machine, elsewhere
        rows.record(6, deleted=ANCIENT, vmid=106, fingerprint="smbios:6")
        rows.guest(106, unlisted="NULL", proven=False)  # nobody's machine at its address
        rows.record(7)
        rows.record(8, deleted=ANCIENT, merged_into=7)
        rows.record(9, deleted=ANCIENT)
        rows.operation(9, "delete", ago(10))
        rows.record(10, deleted=ANCIENT, vmid=110, fingerprint="smbios:10")
        rows.record(11, vmid=110, fingerprint="smbios:110")  # who has its address now
        rows.guest(110, unlisted="NULL", proven=False)
        rows.do("INSERT INTO vps_queues (vps_id, last_seq, applied_seq, queue_state) VALUES (12, 1, 1, 'deleted')")
        rows.operation(12, "create", ANCIENT, "dead")  # a create that died
        rows.record(13, deleted=ANCIENT)
        rows.record(14, deleted=ANCIENT, merged_into=13)
    assert prune(engine, DAYS, PROOF)["vps"] == 4
    assert prune(engine, DAYS, PROOF)["vps"] == 1, "the survivor of a merge goes after whom it survived"
    assert ids(engine, "SELECT id FROM vps ORDER BY id") == [2, 3, 4, 5, 6, 7, 8, 9, 11]
    assert ids(engine, "SELECT vps_id FROM vps_queues ORDER BY 1") == [2, 3, 4, 5, 6, 7, 8, 9, 11]
    assert ids(engine, "SELECT vps_id FROM operations") == [9]
    assert ids(engine, "SELECT order_id FROM order_claims") == []


def test_a_guest_that_is_gone_goes_with_the_proof_once_nothing_needs_it(engine: Engine, owner: Engine) -> None:
    add_user(engine, 5)
    with owner.begin() as connection:
        rows = Rows(connection)
        rows.guest(101)
        rows.do(f"INSERT INTO guest_configs (cluster, vmid, fingerprint, since, read_at)"
                f" VALUES ('main', 101, 'f', {OLD}, {OLD})")  # fmt: skip
        rows.do("INSERT INTO ignored_guests (cluster, vmid, fingerprint, reason, ignored_by)"
                " VALUES ('main', 101, 'f', 'r', 'ann')")  # fmt: skip
        rows.guest(102, unlisted=ago(80))
        rows.guest(103)
        rows.record(1, vmid=103, fingerprint="smbios:1")  # a record has its address
        rows.guest(104)
        rows.record(2, vmid=204, fingerprint="smbios:104")  # a record has its machine
        rows.guest(105)
        rows.record(3, deleted=ago(7.5), vmid=105, fingerprint="smbios:105")  # one that can be restored
        rows.guest(106)
        rows.record(4, deleted=ago(9), vmid=106, fingerprint="smbios:106")  # one that cannot
        rows.guest(107)
        rows.order("a", "active", "NULL", cluster="'main'", vmid=107)
        rows.guest(108)
        rows.order("b", "ended", "NULL", cluster="'main'", vmid=108)
        rows.guest(109, proven=False)  # its node left, and it is known to be nobody's
        rows.guest(110, proven=False, state="stale")  # its node left, and it may be anybody
        rows.guest(111, proven=False, state="unread", template="true", fingerprint="NULL")
        rows.guest(112, unlisted="NULL", proven=False)
        rows.guest(113, proven=False, state="forbidden", fingerprint="NULL")  # it was missed once, and may be anybody
        rows.absence("guest", "main/113", times=1)
        rows.guest(114, state="forbidden", fingerprint="NULL")  # it is proven gone, whoever it was
    assert prune(engine, DAYS, PROOF)["guests"] == 6
    assert ids(engine, "SELECT vmid FROM guests ORDER BY vmid") == [102, 103, 104, 105, 107, 110, 112, 113]
    left = ids(engine, "SELECT subject FROM absences ORDER BY subject")
    assert left == [f"main/{vmid}" for vmid in (102, 103, 104, 105, 107, 113)]
    assert ids(engine, "SELECT vmid FROM guest_configs UNION ALL SELECT vmid FROM ignored_guests") == []


def test_an_order_that_is_listed_no_more_goes(engine: Engine, owner: Engine) -> None:
    add_user(engine, 5)
    with owner.begin() as connection:
        rows = Rows(connection)
        rows.order("ended")
        rows.order("listed", unlisted="NULL")
        rows.order("lately", unlisted=ago(80))
        rows.order("vanished", "active")
        rows.absence("order", "vanished")
        rows.order("not-counted", "active")
        rows.order("missed", "active")
        rows.absence("order", "missed", times=1)
        rows.order("kept", "active")
        rows.absence("order", "kept")
        rows.record(1, order_id="kept")
        rows.order("named", panel_vps_id=1)
        rows.order("restorable")
        rows.record(2, deleted=ago(7), order_id="restorable")
    assert prune(engine, DAYS, PROOF)["orders_seen"] == 2
    left = ["kept", "lately", "listed", "missed", "named", "not-counted", "restorable"]
    assert ids(engine, "SELECT order_id FROM orders_seen ORDER BY order_id") == left
    assert ids(engine, "SELECT subject FROM absences ORDER BY subject") == ["kept", "missed"]


def test_a_decision_stays_for_as_long_as_what_it_was_about(engine: Engine, owner: Engine) -> None:
    add_user(engine, 5)
    with owner.begin() as connection:
        rows = Rows(connection)
        run = rows.run()
        rows.record(1)
        rows.order("9")
        for n, subject in enumerate(("vps:1", "vps:2", "order:9", "order:10", "guest:main/101", "scope"), start=1):
            rows.do(
                "INSERT INTO holds (plan_hash, scope, reason, items, run_id, decision, decided_at) VALUES"
                f" ('{n}', 'deletes', 'r', jsonb_build_array(jsonb_build_object('subject', CAST(:s AS text))), {run},"
                f" 'rejected', {ANCIENT})",
                s=subject,
            )
        rows.do("UPDATE orders_seen SET unlisted_since = NULL")
    assert prune(engine, DAYS, PROOF)["decisions"] == 4
    assert ids(engine, "SELECT plan_hash FROM holds ORDER BY id") == ["1", "3"]


def test_it_goes_on_where_its_time_was_over(engine: Engine, owner: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """However much is left after a long time without pruning, no statement looks at more than a window."""
    monkeypatch.setattr(pruning, "WINDOW", 10)
    add_user(engine, 5)
    with owner.begin() as connection:
        rows = Rows(connection)
        for id_ in range(1, 36):
            rows.record(id_, deleted=ANCIENT if id_ > 5 else "NULL")
            rows.guest(1_000 + id_, unlisted=OLD if id_ % 2 else "NULL", proven=bool(id_ % 2))
    counts = [prune(engine, DAYS, PROOF, for_s=0) for _ in range(5)]
    assert [count["vps"] for count in counts] == [5, 10, 10, 5, 0]
    assert [count["guests"] for count in counts] == [5, 5, 5, 3, 0]
    assert ids(engine, "SELECT count(*) FROM vps") == [5]


def test_what_the_database_refuses_for_one_table_is_done_for_the_others(engine: Engine, owner: Engine) -> None:
    with owner.begin() as connection:
        rows = Rows(connection)
        rows.run()
        connection.execute(text("REVOKE DELETE ON orders_seen FROM panel_app"))
    with pytest.raises(Exception, match="orders_seen"):
        prune(engine, DAYS, PROOF)
    assert ids(engine, "SELECT count(*) FROM runs") == [0]


def test_nobody_prunes_the_audit_by_an_age_of_their_own(engine: Engine, owner: Engine) -> None:
    with owner.begin() as connection:
        connection.execute(
            text(
                'INSERT INTO operator_actions (at, "by", action, subject)'
                " VALUES (clock_timestamp() - interval '399 days', 'api:ann', 'pause', 'all')"
            )
        )
    assert prune(engine, DAYS, PROOF)["operator_actions"] == 0
    # Whoever may call the function cannot have it look at tables of their own instead.
    with engine.connect() as connection:
        connection.execute(text("CREATE TEMP TABLE operator_actions (at timestamptz)"))
        connection.execute(text("INSERT INTO operator_actions VALUES ('2001-01-01')"))
        connection.execute(text("SET search_path = pg_temp, public"))
        assert connection.scalar(text("SELECT public.prune_audit('operator_actions', 10)")) == 0
