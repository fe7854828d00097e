"""The machines of one customer, by set-based statements: ``converged`` of ``all`` agree in everything, the others are
records and orders that nothing joins yet. The customer is the panel's user 5 and the main site's user 77."""

from __future__ import annotations

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
    "INSERT INTO vps_queues (vps_id, last_seq, applied_seq, queue_state)"
    " SELECT n, 1, 1, 'live' FROM generate_series(1, :all) n",
    "INSERT INTO vps (id, user_id, name, cpu, ram_mb, disk_gb, os, hypervisor, order_id, cluster, node, vmid,"
    f" guest_type, fingerprint, link_state, {_FACTS})"
    f" SELECT n, 5, {_NAME}, {_PLAN}, n::text, 'main', 'pve1', 1000 + n, 'qemu', 'smbios:' || n, 'verified', {_VALUES}"
    " FROM generate_series(1, :converged) n",
    f"INSERT INTO vps (id, user_id, name, cpu, ram_mb, disk_gb, os, hypervisor, link_state, {_FACTS})"
    f" SELECT n, 5, CASE WHEN n = :all THEN 'like-8' ELSE 'loose-' || n - :converged END, {_PLAN}, 'unlinked',"
    f" {_VALUES}"
    " FROM generate_series(:converged + 1, :all) n",
    "INSERT INTO orders_seen (order_id, state, status, state_since, owner, owner_since, panel_vps_id_given, name, cpu,"
    " ram_mb, disk_gb, os, hypervisor, cluster, vmid, first_seen_at, changed_at, effective_at, created_at)"
    f" SELECT n::text, 'active', 'running', {_OLD}, '77', {_OLD}, true,"
    f" CASE WHEN n > :converged THEN 'sold-' || n - :converged ELSE {_NAME} END, {_PLAN},"
    " CASE WHEN n <= :converged THEN 'main' END, CASE WHEN n <= :converged THEN 1000 + n END,"
    f" {_OLD}, now(), now(), {_OLD} FROM generate_series(1, :all) n",
    "INSERT INTO guests (cluster, vmid, guest_type, node, status, power, power_since, name, template, cores, memory_mb,"
    " disk_gb, tags, signature, fingerprint, fingerprint_state, fingerprint_read_at, fingerprint_seen, first_seen_at,"
    " changed_at, read_at)"
    f" SELECT 'main', 1000 + n, 'qemu', 'pve1', 'running', 'running', {_OLD}, {_NAME}, false, 2, 4096, 50, '{{}}', 's',"
    f" 'smbios:' || n, 'read', {_OLD}, 2, {_OLD}, {_OLD}, {_OLD} FROM generate_series(1, :converged) n",
    "INSERT INTO stage_guests (cluster, vmid, guest_type, node, status, power, template, tags)"
    " SELECT cluster, vmid, guest_type, node, status, power, template, tags FROM guests",
)
