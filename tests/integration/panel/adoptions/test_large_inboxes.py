"""The inbox of an old fleet: thousands of guests that nobody ordered, and one customer with most of the orders."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import Connection, text

from panel.adoptions.inbox import guestless_orders, unmanaged_guests
from panel.adoptions.known import NEIGHBOURS, SCANNED, Reading
from panel.observations.proof import Proof
from panel.sessions import sync_engine
from tests.support.databases import Databases
from tests.support.fleets import grown
from tests.support.fleets.world import add_user

GUESTS, ORDERS, RECORDS, PAGE = 4_000, 20_000, 18_000, 5
READING = Reading(shared_ids=False, proof=Proof(3, timedelta(minutes=10)))

# Every guest and every order has the same name and the same size: nothing tells them apart. Half of the records have a
# guest, and the first thousand orders all do.
FLEET = (
    "INSERT INTO guests (cluster, vmid, guest_type, node, status, power, power_since, name, template, cores, memory_mb,"
    " disk_gb, ip_address, signature, fingerprint, fingerprint_state, fingerprint_read_at, fingerprint_seen,"
    " first_seen_at, changed_at, read_at)"
    " SELECT 'main', n, 'qemu', 'pve1', 'running', 'running', t, 'web', false, 2, 2048, 10, '192.0.2.1', md5(n::text),"
    f" 'smbios:' || n, 'read', t, 2, t, t, t FROM generate_series(1, {GUESTS}) n, clock_timestamp() t",
    "INSERT INTO findings (class, subject, severity, reason, cluster, vmid)"
    f" SELECT 'unmanaged-guest', 'guest:main/' || n, 'info', 'r', 'main', n FROM generate_series(1, {GUESTS}) n",
    "INSERT INTO orders_seen (order_id, state, status, state_since, owner, owner_since, panel_vps_id_given, name, cpu,"
    " ram_mb, disk_gb, ip_address, os, hypervisor, created_at, first_seen_at, changed_at, effective_at)"
    " SELECT 'o' || lpad(n::text, 5, '0'), 'active', 'running', t, '77', t, false, 'web', 2, 2048, 10, '192.0.2.1',"
    f" 'debian-12', 'proxmox', t, t, t, t FROM generate_series(1, {ORDERS}) n, clock_timestamp() t",
    "INSERT INTO vps_queues (vps_id, last_seq, applied_seq, queue_state, order_id)"
    f" SELECT n, 1, 1, 'live', 'o' || lpad(n::text, 5, '0') FROM generate_series(1, {RECORDS}) n",
    "INSERT INTO vps (id, user_id, name, cpu, ram_mb, disk_gb, os, hypervisor, order_id, order_state, order_source,"
    " order_changed_at, order_as_of, power_as_of, cluster, node, vmid, guest_type, fingerprint, link_state,"
    " link_changed_at, power_state,"
    " power_source, power_changed_at, owner_changed_at, plan_changed_at, status, applied_seq, version, created_at,"
    " updated_at)"
    " SELECT n, 5, 'web', 2, 2048, 10, 'debian-12', 'proxmox', 'o' || lpad(n::text, 5, '0'), 'active', 'orders',"
    " t, t, t, l.cluster, l.node, l.vmid, l.guest_type, l.fingerprint, l.state, t, 'running', 'proxmox', t, t, t,"
    f" 'running', 1, 1, t, t FROM generate_series(1, {RECORDS}) n, clock_timestamp() t,"
    " LATERAL (SELECT 'main', 'pve1', 100000 + n, 'qemu', 'smbios:linked' || n, 'verified' WHERE n % 2000 < 1000"
    "  UNION ALL SELECT NULL, NULL, NULL, NULL, NULL, 'unlinked' WHERE n % 2000 >= 1000)"
    " AS l(cluster, node, vmid, guest_type, fingerprint, state)",
)


def test_a_page_looks_at_a_few_rows_for_each_of_its_guests(databases: Databases) -> None:
    database = databases.clone()
    owner = sync_engine(database.owner_url, "panel-sync test owner", statement_ms=120_000)
    add_user(owner, 5, main_site_user_id="77")
    with owner.begin() as connection:
        for statement in FLEET:
            connection.execute(text(statement))
    with owner.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("ANALYZE"))
    with grown.explained(databases, database), grown.watched() as seen:
        engine = sync_engine(database.app_url, "panel-sync test")
        with engine.connect() as connection:
            looked_at(connection)
        engine.dispose()
    owner.dispose()
    databases.drop(database)
    most = 4 * (PAGE + 1) * SCANNED + NEIGHBOURS
    assert most < ORDERS / 3
    told = [
        f"{rows:9.0f} of {table}: {looked.statement[:200]}"
        for looked in seen.seen
        for table, rows in looked.rows.items()
        if rows > most
    ]
    assert not told, "\n".join(told)


def looked_at(connection: Connection) -> None:
    guests = unmanaged_guests(connection, READING, limit=PAGE)
    assert [guest.vmid for guest in guests] == [1, 2, 3, 4, 5]
    for guest in guests:
        assert len(guest.candidates) == 3
        assert all(one.tied for one in guest.candidates), "nobody can tell them apart"
        assert all("and others have this name" in one.against[-1] for one in guest.candidates)
    (later, *_) = unmanaged_guests(connection, READING, limit=PAGE, offset=100)
    assert later.vmid == 101
    assert len(guestless_orders(connection, READING, limit=50)) == 50
