"""A database as large as years make it, and what each statement had to look at there."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Engine, event, text

from tests.support.databases import Database, Databases

TOMBSTONES = 8_000
GONE = 20
"""Guests that went lately: what is gone for longer is pruned, so they follow the fleet."""
FIRST_ID = 1_000_000

# Years of a hoster: what ended long ago, as rows of each table that grows. Times end two days ago.
_AGE = "clock_timestamp() - interval '2 days' - make_interval(mins => 20000 - n)"
HISTORY = (
    "INSERT INTO users (id, username, main_site_user_id, map_source)"
    " SELECT 10000 + n, 'user' || n, 'x' || n, 'import' FROM generate_series(1, 500) n",
    f"INSERT INTO runs (kind, trigger, epoch, state, started_at, finished_at)"
    f" SELECT CASE WHEN n % 5 = 0 THEN 'full' ELSE 'fast' END, 'beat', 0, 'done', {_AGE}, {_AGE}"
    " FROM generate_series(1, 9000) n",
    f"INSERT INTO snapshots (run_id, source, scope, complete, count, began_at, finished_at)"
    f" SELECT n, 'proxmox:main', 'pve' || n % 3 + 1, true, 100, {_AGE}, {_AGE} FROM generate_series(1, 9000) n",
    f"INSERT INTO vps_queues (vps_id, last_seq, applied_seq, queue_state, order_id)"
    f" SELECT {FIRST_ID} + n, 5, 5, 'deleted', 'old' || n FROM generate_series(1, {TOMBSTONES}) n",
    "INSERT INTO vps (id, user_id, name, cpu, ram_mb, disk_gb, os, hypervisor, order_id, order_state, order_source,"
    " order_changed_at, order_as_of, cluster, node, vmid, guest_type, fingerprint, link_state, link_changed_at,"
    " power_state, power_source, power_changed_at, power_as_of, owner_changed_at, plan_changed_at, status, applied_seq,"
    " version, created_at, updated_at, deleted_at, deleted_reason)"
    f" SELECT {FIRST_ID} + n, 10000 + n % 500 + 1, 'old-' || n, 2, 2048, 10, 'debian-12', 'proxmox', 'old' || n,"
    f" 'ended', 'orders', {_AGE}, {_AGE}, 'main', 'pve' || n % 3 + 1, 1000000 + n, 'qemu', 'smbios:old' || n,"
    f" 'verified', {_AGE}, 'stopped', 'proxmox', {_AGE}, {_AGE}, {_AGE}, {_AGE}, 'stopped', 5, 5, {_AGE}, {_AGE},"
    f" {_AGE}, 'a missed delete' FROM generate_series(1, {TOMBSTONES}) n",
    "INSERT INTO operations (kind, action, vps_id, seq, source, payload, state, result, reason, evidence, before,"
    " after, run_id, epoch, accepted_at, applied_at, publish_at)"
    " SELECT CASE WHEN s IN (1, 2) THEN 'sync' ELSE 'repair' END,"
    " CASE s WHEN 1 THEN 'create' WHEN 5 THEN 'delete' ELSE 'update' END,"
    f" {FIRST_ID} + n, s, CASE WHEN s IN (1, 2) THEN 'sync' ELSE 'orders' END, '{{}}', 'applied', 'r', 'because',"
    " CASE WHEN s > 2 THEN jsonb_build_object('kind', 'missed-status', 'since', clock_timestamp()) END, '{}', '{}',"
    f" CASE WHEN s > 2 THEN n END, CASE WHEN s > 2 THEN 0 END, {_AGE}, {_AGE}, NULL"
    f" FROM generate_series(1, {TOMBSTONES}) n, generate_series(1, 5) s",
    f"INSERT INTO order_claims (order_id, vps_id, operation_id) SELECT 'old' || n, {FIRST_ID} + n, n"
    f" FROM generate_series(1, {TOMBSTONES}) n",
    "INSERT INTO idempotency_keys (scope, key, body_hash, operation_id, status_code, answer, created_at)"
    " SELECT 'main-site', 'key' || n, 'h', n, 202, '{}', clock_timestamp() - interval '1 hour'"
    " FROM generate_series(1, 8000) n",
    "INSERT INTO guests (cluster, vmid, guest_type, node, status, power, power_since, name, template, cores, memory_mb,"
    " disk_gb, signature, fingerprint, fingerprint_state, fingerprint_read_at, fingerprint_seen, fingerprint_since,"
    " first_seen_at, changed_at, read_at, unlisted_since)"
    f" SELECT 'main', 1000000 + n, 'qemu', 'pve' || n % 3 + 1, 'stopped', 'unknown', {_AGE}, 'old-' || n, false, 2,"
    f" 2048, 10, md5('old' || n), 'smbios:old' || n, CASE WHEN n % 10 = 0 THEN 'stale' ELSE 'read' END, {_AGE}, 5,"
    f" {_AGE}, {_AGE}, {_AGE}, {_AGE}, {_AGE} FROM generate_series(1, {GONE}) n",
    "INSERT INTO guest_configs (cluster, vmid, fingerprint, cores, memory_mb, disk_gb, since, read_at)"
    f" SELECT 'main', 1000000 + n, 'smbios:old' || n, 2, 2048, 20, {_AGE}, {_AGE}"
    f" FROM generate_series(1, {GONE}) n",
    "INSERT INTO absences (kind, subject, absent_since, consecutive, last_absent_at, last_run_id, evidence)"
    f" SELECT 'guest', 'main/' || 1000000 + n, {_AGE} - interval '1 hour', 3, {_AGE}, n, ARRAY[n, n + 1, n + 2]"
    f" FROM generate_series(1, {GONE}) n",
    "INSERT INTO orders_seen (order_id, state, status, state_since, owner, owner_since, panel_vps_id_given, name, cpu,"
    " ram_mb, disk_gb, os, hypervisor, cluster, node, vmid, guest_type, guest_since, first_seen_at, changed_at,"
    " effective_at, unlisted_since)"
    f" SELECT 'old' || n, 'ended', 'cancelled', {_AGE}, 'x' || n % 500 + 1, {_AGE}, false, 'old-' || n, 2, 2048, 10,"
    f" 'debian-12', 'proxmox', 'main', 'pve1', 1000000 + n, 'qemu', {_AGE}, {_AGE}, {_AGE}, {_AGE}, {_AGE}"
    f" FROM generate_series(1, {TOMBSTONES}) n",
    "INSERT INTO findings (class, subject, severity, reason, vps_id, cluster, vmid, first_seen_at, last_seen_at,"
    " last_run_id, resolved_at)"
    f" SELECT 'paid-but-missing', 'vps:' || {FIRST_ID} + n, 'alarm', 'gone', {FIRST_ID} + n, 'main', 1000000 + n,"
    f" {_AGE}, {_AGE}, n, clock_timestamp() - make_interval(mins => 43200 + n)"
    f" FROM generate_series(1, {TOMBSTONES}) n",
    "INSERT INTO holds (plan_hash, scope, reason, items, run_id, decision, decided_by, decided_at)"
    f" SELECT md5(n::text), 'deletes', 'too many', '[]', n, 'expired', NULL, {_AGE} FROM generate_series(1, 8000) n",
    f"INSERT INTO refused_calls (at, status_code, code, message) SELECT {_AGE}, 422, 'c', 'm'"
    " FROM generate_series(1, 8000) n",
    "INSERT INTO access_counts (hour, who, network, route, status_code, code, count, first_at, last_at,"
    " last_request_id)"
    f" SELECT {_AGE}, 'key:' || n, '192.0.2.1', 'GET /api/vps', 401, 'c', 1, {_AGE}, {_AGE}, 'r'"
    " FROM generate_series(1, 8000) n",
    "INSERT INTO client_sessions (token_hash, user_id, credential, expires_at)"
    " SELECT md5(n::text), 10000 + n % 500 + 1, 'c', clock_timestamp() + interval '1 hour'"
    " FROM generate_series(1, 8000) n",
    "INSERT INTO used_sign_in_links (signature, expires_at)"
    " SELECT md5(n::text), clock_timestamp() - interval '30 minutes' FROM generate_series(1, 8000) n",
    "INSERT INTO power_actions (vps_id, user_id, action, force, cluster, vmid, guest_type, fingerprint, state,"
    " valid_until, asked_at, code, reason, ended_at)"
    f" SELECT {FIRST_ID} + n, 10000 + n % 500 + 1, 'stop', false, 'main', 1000000 + n, 'qemu', 'smbios:old' || n,"
    f" 'done', {_AGE}, {_AGE}, 'done', 'It is stopped', {_AGE} FROM generate_series(1, {TOMBSTONES}) n",
    "INSERT INTO vps_statistics (vps_id, user_id, timeframe, cluster, node, asked_at, waits_since)"
    f" SELECT {FIRST_ID} + n, 10000 + n % 500 + 1, 'hour', 'main', 'old' || n % 100, clock_timestamp(),"
    " clock_timestamp() FROM generate_series(1, 8000) n",
    "INSERT INTO adoptions (cluster, vmid, guest_type, fingerprint, order_id, owner, user_id, reason, evidence,"
    " adopted_by, adopted_at, outcome, ended_at, why)"
    " SELECT 'main', 1000000 + n, 'qemu', 'smbios:old' || n, 'old' || n, 'x', 10001, 'r', '{}', 'api:ann',"
    f" {_AGE}, 'lapsed', {_AGE}, 'because' FROM generate_series(1, 8000) n",
    "INSERT INTO webhook_events (message_id, vps_id, type, body, state, created_at, due_at, attempts, tried_at,"
    " ended_at, first_tried_at)"
    f" SELECT 'msg_' || n, {FIRST_ID} + n, 'vps.updated', '{{}}',"
    f" CASE WHEN n % 10 = 0 THEN 'dead' ELSE 'delivered' END, {_AGE}, {_AGE}, 1, {_AGE}, {_AGE}, {_AGE}"
    f" FROM generate_series(1, {TOMBSTONES}) n",
    f"INSERT INTO operator_actions (at, \"by\", action, subject) SELECT {_AGE}, 'api:ann', 'pause', 'all'"
    " FROM generate_series(1, 8000) n",
    "INSERT INTO what_ifs (asked_at, asked_by, policy, state, ended_at, problem)"
    f" SELECT {_AGE}, 'api:ann', '{{}}', 'failed', {_AGE}, 'p' FROM generate_series(1, 8000) n",
)
FOLLOWS_THE_FLEET = frozenset({"users", "guests", "guest_configs", "absences"})
GROWN = frozenset(re.findall(r"^INSERT INTO (\w+)", "\n".join(HISTORY), re.MULTILINE)) - FOLLOWS_THE_FLEET


def grow(owner: Engine) -> None:
    """Put years behind an empty panel, and tell the planner."""
    with owner.begin() as connection:
        for statement in HISTORY:
            connection.execute(text(statement))
    with owner.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("ANALYZE"))


def grow_absences(owner: Engine) -> None:
    """As many absences as a hoster has who lost everything, each with the snapshots that it rests on."""
    with owner.begin() as connection:
        connection.execute(text(ABSENCES))
    with owner.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("ANALYZE absences"))


ABSENCES = (
    "INSERT INTO absences (kind, subject, absent_since, consecutive, last_absent_at, last_run_id, evidence)"
    f" SELECT 'order', 'lost' || n, {_AGE}, 3, {_AGE}, n, ARRAY[n, n + 1, n + 2] FROM generate_series(1, 8000) n"
)


@dataclass(frozen=True, slots=True)
class Looked:
    """What one execution of a statement visited. ``rows``: by table, whether it used them or threw them away.
    ``entries``: by index, of those that were noted before the table was looked at."""

    statement: str
    rows: dict[str, float]
    entries: dict[str, float]
    plan: dict[str, Any]


@dataclass(slots=True)
class Plans:
    """All that was executed while somebody watched, in any thread of this process."""

    seen: list[Looked] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, message: str) -> None:
        found = re.search(r"plan:\s*(\{.*\})\s*$", message, re.DOTALL)
        if found is None:
            return
        logged = json.loads(found.group(1))
        looked = Looked(" ".join(logged["Query Text"].split()), {}, {}, logged["Plan"])
        _visited(logged["Plan"], looked.rows, looked.entries)
        with self.lock:
            self.seen.append(looked)


def _visited(node: dict[str, Any], rows: dict[str, float], entries: dict[str, float]) -> None:
    loops = node.get("Actual Loops", 1)
    if node["Node Type"] == "Bitmap Index Scan":
        index = node["Index Name"]
        entries[index] = entries.get(index, 0) + node["Actual Rows"] * loops
    if (table := node.get("Relation Name")) is not None and node["Node Type"] != "ModifyTable":
        thrown = sum(node.get(f"Rows Removed by {why}", 0) for why in ("Filter", "Index Recheck"))
        rows[table] = rows.get(table, 0) + (node["Actual Rows"] + thrown) * loops
    for child in node.get("Plans", ()):
        _visited(child, rows, entries)


EXPLAIN = {
    # Years make far more rows than a test has time for; so that the planner decides as it would then, reading here and
    # there costs what it costs where all is in memory.
    "random_page_cost": "1.1",
    "session_preload_libraries": "auto_explain",
    "auto_explain.log_min_duration": "0",
    "auto_explain.log_analyze": "on",
    "auto_explain.log_timing": "off",
    "auto_explain.log_nested_statements": "on",
    "auto_explain.log_format": "json",
    "auto_explain.log_level": "notice",
    "auto_explain.log_parameter_max_length": "0",
}


@contextmanager
def explained(databases: Databases, database: Database, **planner: str) -> Iterator[None]:
    """Every statement of this database's new sessions tells its plan, as it was executed, to whoever sent it.
    ``planner``: more settings of theirs."""
    settings = EXPLAIN | planner
    with databases.server_connection(database.name) as connection:
        connection.execute("LOAD 'auto_explain'")
        try:
            for name, value in settings.items():
                connection.execute(f"ALTER DATABASE \"{database.name}\" SET {name} = '{value}'".encode())
            yield
        finally:
            for name in settings:
                connection.execute(f'ALTER DATABASE "{database.name}" RESET {name}'.encode())


@contextmanager
def watched() -> Iterator[Plans]:
    """The plans of all that this process sends over connections made from now on."""
    plans = Plans()

    def connected(connection: Any, _record: Any) -> None:
        driver = getattr(connection, "driver_connection", None) or connection
        driver.add_notice_handler(_noted(plans))

    event.listen(Engine, "connect", connected)
    try:
        yield plans
    finally:
        event.remove(Engine, "connect", connected)


def _noted(plans: Plans) -> Callable[[Any], None]:
    def note(diagnostic: Any) -> None:
        plans.note(diagnostic.message_primary or "")

    return note
