"""Records in sync with the orders and guests of ``benchmarks.sweeping_sources``, as they are a day after their sale."""

from __future__ import annotations

import psycopg

A_CLUSTER = 4_000
NODES = 10
A_PAGE = 1_000


def clusters_of(machines: int) -> int:
    """How many clusters so many machines take."""
    return (machines + A_CLUSTER - 1) // A_CLUSTER


def fill(url: str, machines: int) -> None:
    """Put so many records, their orders and their guests into a fresh database."""
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in FILL:
            connection.execute(statement.format(machines=machines).encode())
        connection.execute("VACUUM ANALYZE")


def drift(url: str, every: int) -> None:
    """Give each ``every``-th record another name than its order has."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("UPDATE vps SET name = 'old-' || id WHERE id %% %s = 0", (every,))
        connection.execute("VACUUM ANALYZE vps")


_THEN = "now() - interval '1 day'"
_MACHINES = (
    f"(SELECT i, 'c' || (i - 1) / {A_CLUSTER} AS cluster, 100 + (i - 1) % {A_CLUSTER} AS vmid,"
    f" 'pve' || i % {NODES} + 1 AS node, 10 + i % 5000 AS user_id,"
    " '10.' || (i >> 16 & 255) || '.' || (i >> 8 & 255) || '.' || (i & 255) AS ip"
    " FROM generate_series(1, {machines}) i) m"
)
_RECORDED = _THEN + ", " + _THEN
FILL = (
    "INSERT INTO users (id, username, main_site_user_id, map_source, mapped_at)"
    f" SELECT 10 + i, 'user' || i, 'u' || 10 + i, 'import', {_THEN} FROM generate_series(0, 4999) i",
    f"INSERT INTO source_states (source, last_users_at) VALUES ('orders', {_THEN})",
    "INSERT INTO vps_queues (vps_id, last_seq, applied_seq, queue_state, order_id)"
    f" SELECT i, 1, 1, 'live', i FROM {_MACHINES}",
    "INSERT INTO order_claims (order_id, vps_id, operation_id) SELECT i, i, i FROM " + _MACHINES,
    "INSERT INTO orders_seen (order_id, state, status, state_since, owner, owner_since, panel_vps_id,"
    " panel_vps_id_given, name, cpu, ram_mb, disk_gb, os, hypervisor, ip_address, cluster, node, vmid, guest_type,"
    " guest_since, created_at, updated_at, first_seen_at, changed_at, effective_at)"
    f" SELECT i, 'active', 'active', {_THEN}, 'u' || user_id, {_THEN}, i, true, 'web-' || i, 2, 4096, 50, 'Debian 13',"
    f" 'proxmox', ip, cluster, node, vmid, 'qemu', {_THEN}, '2025-03-01 10:00:00Z', '2025-03-02 10:00:00Z',"
    f" {_RECORDED}, now() - interval '1 hour' FROM {_MACHINES}",
    "INSERT INTO guests (cluster, vmid, guest_type, node, status, power, power_since, name, template, cores, memory_mb,"
    " disk_gb, tags, signature, fingerprint, fingerprint_state, fingerprint_read_at, fingerprint_seen,"
    " fingerprint_since, first_seen_at, changed_at, read_at)"
    f" SELECT cluster, vmid, 'qemu', node, 'running', 'running', {_THEN}, 'web-' || i, false, 2, 4096, 50,"
    f" '{{{{web,paid}}}}', md5(concat_ws('|', 'web-' || i, 'qemu', node, 4096, CAST(2 AS float8))), 'smbios:' || i,"
    f" 'read', now(), 9, {_RECORDED}, {_RECORDED} FROM {_MACHINES}",
    "INSERT INTO guest_configs (cluster, vmid, fingerprint, cores, memory_mb, disk_gb, since, read_at)"
    f" SELECT cluster, vmid, 'smbios:' || i, 2, 4096, 50, {_THEN}, now() FROM {_MACHINES}",
    "INSERT INTO vps (id, user_id, name, cpu, ram_mb, disk_gb, os, hypervisor, ip_address, order_id, order_state,"
    " order_source, order_changed_at, order_as_of, cluster, node, vmid, guest_type, fingerprint, link_state,"
    " link_changed_at, power_state, power_source, power_changed_at, power_as_of, owner_changed_at, plan_changed_at,"
    " status, applied_seq, version, created_at, updated_at, order_linked_once, guest_linked_once)"
    " SELECT i, user_id, 'web-' || i, 2, 4096, 50, 'Debian 13', 'proxmox', ip, i, 'active', 'orders',"
    f" {_RECORDED}, cluster, node, vmid, 'qemu', 'smbios:' || i, 'verified', {_THEN}, 'running', 'proxmox',"
    f" {_RECORDED}, {_RECORDED}, 'running', 1, 1, {_RECORDED}, true, true FROM {_MACHINES}",
)
