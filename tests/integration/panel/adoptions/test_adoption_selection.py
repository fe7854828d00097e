"""A run decides about an adopted guest and its order together, or about neither."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import Engine, text

from panel.adoptions.decisions import open_of_selection
from panel.observations import candidates, snapshots
from panel.observations.proof import Proof
from tests.support.fleets.world import add_user

KNOWN = (
    "INSERT INTO guests (cluster, vmid, guest_type, node, status, power, power_since, template, signature, fingerprint,"
    " fingerprint_state, first_seen_at, changed_at, read_at)"
    " SELECT 'main', n, 'qemu', 'pve1', 'running', 'running', t, false, 's', 'smbios:' || n, 'read', t, t, t"
    " FROM generate_series(1, 4) n, clock_timestamp() t",
    "INSERT INTO orders_seen (order_id, state, status, state_since, owner, owner_since, panel_vps_id_given,"
    " first_seen_at, changed_at)"
    " SELECT 'o' || n, 'active', 'running', t, '77', t, true, t, t FROM generate_series(1, 4) n, clock_timestamp() t",
    "INSERT INTO adoptions (cluster, vmid, guest_type, fingerprint, order_id, owner, user_id, reason, evidence,"
    " adopted_by) SELECT 'main', n, 'qemu', 'smbios:' || n, 'o' || n, '77', 5, 'r', '{}', 'api:ann'"
    " FROM generate_series(1, 4) n",
    "UPDATE adoptions SET outcome = 'withdrawn', ended_at = clock_timestamp() WHERE vmid = 4",
)
LISTED = (
    "INSERT INTO stage_guests (cluster, vmid, guest_type, node, status, power, template, tags)"
    " SELECT cluster, vmid, guest_type, node, status, power, template, tags FROM guests"
)


@pytest.mark.parametrize("budget", [8, 400], ids=["a cut run", "a run that takes all"])
def test_an_adoption_that_stands_joins_them(engine: Engine, owner: Engine, budget: int) -> None:
    add_user(engine, 5, main_site_user_id="77")
    with owner.begin() as connection:
        for statement in KNOWN:
            connection.execute(text(statement))
    with engine.connect() as connection:
        snapshots.make_stages(connection)
        connection.execute(text(LISTED))
        proof = Proof(3, timedelta(minutes=10))
        candidates.select_candidates(connection, shared_ids=False, names=True, proof=proof, budget=budget)
        orders = {row.order_id[1:]: row.part for row in connection.execute(text("SELECT * FROM pick_orders"))}
        guests = {str(row.vmid): row.part for row in connection.execute(text("SELECT * FROM pick_guests"))}
        taken = {adoption.order_id[1:] for adoption in open_of_selection(connection)}
        connection.rollback()
    adopted = {"1", "2", "3"}
    assert orders, "something is selected"
    assert {n: part for n, part in orders.items() if n in adopted} == {
        n: part for n, part in guests.items() if n in adopted
    }
    assert taken == set(orders) & adopted
    if budget > 8:
        assert set(orders) == {"1", "2", "3", "4"}
        assert orders["4"] != guests["4"], "a withdrawn one joins nothing"
