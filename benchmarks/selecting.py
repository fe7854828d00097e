"""Choosing what to think about: the set-based selection against loading the whole fleet into memory."""

from __future__ import annotations

import time
import tracemalloc
from datetime import timedelta

from sqlalchemy import Connection, text

from benchmarks.measure import Ratio
from benchmarks.servers import Servers
from panel.journal.rows import database_now
from panel.observations import candidates, components, loaded_candidates, snapshots
from panel.observations.proof import Proof
from panel.sessions import sync_engine

FLEET = 20_000
DRIFTED = 20


def measure(servers: Servers) -> list[Ratio]:
    """Seconds and peak Python memory for a fleet of which 20 machines have drifted."""
    engine = sync_engine(servers.database(), "panel-sync bench", statement_ms=120_000)
    budget, components.BUDGET = components.BUDGET, FLEET * 20
    try:
        with engine.connect() as connection:
            snapshots.make_stages(connection)
            for statement in FILL:
                connection.execute(text(statement), {"fleet": FLEET, "drifted": DRIFTED})
            connection.commit()
            connection.execute(text("ANALYZE"))
            connection.commit()
            chosen_s, chosen_mb, chosen = _load(connection, everything=False)
            whole_s, whole_mb, whole = _load(connection, everything=True)
    finally:
        components.BUDGET = budget
        engine.dispose()
    if chosen != DRIFTED or whole < FLEET:
        raise RuntimeError(f"the fleet is not what it should be: {chosen} of {whole}")
    about = f"{FLEET} machines, {DRIFTED} drifted (selection / whole fleet)"
    return [
        Ratio(f"seconds to load, {about}", f"{chosen_s:.2f} s", f"{whole_s:.2f} s", chosen_s / whole_s),
        Ratio(f"peak Python memory, {about}", f"{chosen_mb:.1f} MB", f"{whole_mb:.1f} MB", chosen_mb / whole_mb),
    ]


def _load(connection: Connection, *, everything: bool) -> tuple[float, float, int]:
    tracemalloc.start()
    now = database_now(connection)
    began = time.perf_counter()
    proof = Proof(3, timedelta(minutes=10))
    candidates.select_candidates(connection, shared_ids=True, names=True, proof=proof, everything=everything)
    orders = loaded_candidates.load_orders(connection)
    guests = loaded_candidates.load_guests(connection, {"main": now - timedelta(seconds=15)}, {"main": now})
    records = loaded_candidates.load_records(connection)
    took = time.perf_counter() - began
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    connection.rollback()  # the temporary tables go with their transaction
    del orders, guests
    return took, peak / 1e6, len(records)


FILL = (
    "INSERT INTO runs (kind, trigger, epoch, state) VALUES ('full', 'bench', 1, 'running')",
    "INSERT INTO vps_queues (vps_id, last_seq, applied_seq, queue_state, order_id)"
    " SELECT i, 1, 1, 'live', i FROM generate_series(1, :fleet) i",
    "INSERT INTO orders_seen (order_id, state, status, state_since, owner, owner_since, panel_vps_id_given, name, cpu,"
    " ram_mb, disk_gb, os, cluster, vmid, first_seen_at, changed_at, effective_at)"
    " SELECT i::text, 'active', 'running', now(), '5', now(), true, 'web-' || i, 2, 4096, 50, 'Debian 13', 'main',"
    " 100 + i, now(), now(), now() FROM generate_series(1, :fleet) i",
    "INSERT INTO guests (cluster, vmid, guest_type, node, status, power, power_since, name, template, cores, memory_mb,"
    " signature, fingerprint, fingerprint_state, fingerprint_seen, first_seen_at, changed_at, read_at)"
    " SELECT 'main', 100 + i, 'qemu', 'pve1', 'running', 'running', now(), 'web-' || i, false, 2, 4096, md5(i::text),"
    " 'smbios:' || i, 'read', 1, now(), now(), now() FROM generate_series(1, :fleet) i",
    "INSERT INTO stage_guests (cluster, vmid, guest_type, node, status, power, template)"
    " SELECT 'main', 100 + i, 'qemu', 'pve1', 'running', 'running', false FROM generate_series(1, :fleet) i",
    "INSERT INTO vps (id, user_id, name, cpu, ram_mb, disk_gb, os, hypervisor, order_id, order_state, order_source,"
    " order_changed_at, order_as_of, cluster, node, vmid, guest_type, fingerprint, link_state, link_changed_at,"
    " power_state, power_source, power_changed_at, power_as_of, owner_changed_at, plan_changed_at, status, applied_seq,"
    " version, created_at, updated_at)"
    " SELECT i, 5, 'web-' || i, 2, 4096, 50, 'Debian 13', 'proxmox', i, 'active', 'orders', now(), now(), 'main',"
    " 'pve1', 100 + i, 'qemu', 'smbios:' || i, 'verified', now(), CASE WHEN i <= :drifted THEN 'stopped' ELSE 'running'"
    " END, 'proxmox', now(), now(), now(), now(), CASE WHEN i <= :drifted THEN 'stopped' ELSE 'running' END, 1, 1,"
    " now(), now() FROM generate_series(1, :fleet) i",
)
