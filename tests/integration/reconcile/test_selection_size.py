"""What a run loads follows what differs, not what its customer has besides."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import Engine, text

from reconcile.cases import Policy
from reconcile.gate import Budget
from reconcile.observe import Observed, database_now
from reconcile.run import Reconciler, load_world
from reconcile.state import Record
from tests.integration.reconcile.test_selection_equality import NoFeed, NoSource, _scratch
from tests.support.world import add_user

SETTLED, LOOSE = 500, 3
"""Machines of one customer that agree in everything, and records and orders of his that nothing joins yet."""


def test_one_unlinked_record_does_not_load_its_customer_s_whole_fleet(engine: Engine) -> None:
    """Beside it there are what it may belong to: the unlinked orders, and who has its name."""
    add_user(engine, 5, main_site_user_id="77")
    nothing = timedelta(0)
    reconciler = Reconciler(
        engine, NoFeed(names=True), (NoSource("main"),), Policy(), Budget(), shared_ids=False, sweep_interval=nothing,
        users_interval=nothing,
    )  # fmt: skip
    with _scratch(engine) as connection:
        for statement in FLEET:
            connection.execute(text(statement), {"settled": SETTLED, "all": SETTLED + LOOSE})
        now = database_now(connection)
        seen = Observed(began={"main": now}, previous={"main": now}, trusted={"main"}, orders_at=now)
        world, counts = load_world(reconciler, connection, seen)
    assert counts["settled"] == SETTLED
    assert counts["cut"] == 0
    linked, loose = _named(world.records, linked=True), _named(world.records, linked=False)
    assert loose == ["like-8", "loose-1", "loose-2"]
    assert linked == ["like-8"], "who has an unlinked one's name, and nobody else"
    assert sorted(o.name or "" for o in world.orders) == ["like-8", "sold-1", "sold-2", "sold-3"]
    assert [g.vmid for g in world.guests] == [1000 + 8]


def _named(records: tuple[Record, ...], *, linked: bool) -> list[str]:
    return sorted(r.name for r in records if (r.order_id is not None) == linked)


_NAME = "CASE WHEN n = 8 THEN 'like-8' ELSE 'own-' || n END"
_PLAN = "2, 4096, 50, 'Debian', 'proxmox'"
_OLD = "now() - interval '10 days'"
_FACTS = (
    "order_state, order_source, order_changed_at, order_as_of, power_state, power_source, power_changed_at,"
    " power_as_of, owner_changed_at, plan_changed_at, link_changed_at, status, applied_seq, version, created_at,"
    " updated_at"
)
_VALUES = (
    f"'active', 'orders', {_OLD}, {_OLD}, 'running', 'proxmox', {_OLD}, {_OLD}, {_OLD}, {_OLD}, {_OLD}, 'running', 1,"
    f" 1, {_OLD}, {_OLD}"
)
FLEET = (
    "INSERT INTO lanes (vps_id, last_seq, applied_seq, head) SELECT n, 1, 1, 'live' FROM generate_series(1, :all) n",
    "INSERT INTO vps (id, user_id, name, cpu, ram_mb, disk_gb, os, hypervisor, order_id, cluster, node, vmid,"
    f" guest_type, fingerprint, link_state, {_FACTS})"
    f" SELECT n, 5, {_NAME}, {_PLAN}, n::text, 'main', 'pve1', 1000 + n, 'qemu', 'smbios:' || n, 'verified', {_VALUES}"
    " FROM generate_series(1, :settled) n",
    f"INSERT INTO vps (id, user_id, name, cpu, ram_mb, disk_gb, os, hypervisor, link_state, {_FACTS})"
    f" SELECT n, 5, CASE WHEN n = :all THEN 'like-8' ELSE 'loose-' || n - :settled END, {_PLAN}, 'unlinked', {_VALUES}"
    " FROM generate_series(:settled + 1, :all) n",
    "INSERT INTO orders_seen (order_id, state, status, state_since, owner, owner_since, panel_vps_id_given, name, cpu,"
    " ram_mb, disk_gb, os, hypervisor, cluster, vmid, first_seen_at, changed_at, effective_at, created_at)"
    f" SELECT n::text, 'active', 'running', {_OLD}, '77', {_OLD}, true,"
    f" CASE WHEN n > :settled THEN 'sold-' || n - :settled ELSE {_NAME} END, {_PLAN},"
    " CASE WHEN n <= :settled THEN 'main' END, CASE WHEN n <= :settled THEN 1000 + n END,"
    f" {_OLD}, now(), now(), {_OLD} FROM generate_series(1, :all) n",
    "INSERT INTO guests (cluster, vmid, guest_type, node, status, power, power_since, name, template, cores, memory_mb,"
    " disk_gb, tags, signature, fingerprint, fingerprint_state, fingerprint_read_at, fingerprint_seen, first_seen_at,"
    " changed_at, read_at)"
    f" SELECT 'main', 1000 + n, 'qemu', 'pve1', 'running', 'running', {_OLD}, {_NAME}, false, 2, 4096, 50, '{{}}', 's',"
    f" 'smbios:' || n, 'read', {_OLD}, 2, {_OLD}, {_OLD}, {_OLD} FROM generate_series(1, :settled) n",
    "INSERT INTO stage_guests (cluster, vmid, guest_type, node, status, power, template, tags)"
    " SELECT cluster, vmid, guest_type, node, status, power, template, tags FROM guests",
)
