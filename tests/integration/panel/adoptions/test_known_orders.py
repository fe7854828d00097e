"""Whose orders are, as an operator who adopts a guest is told: the same that a run takes them for."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import Engine, text

from panel.adoptions.known import Reading, orders_of
from panel.observations import candidates, snapshots
from panel.observations.proof import Proof
from tests.support.fleets.world import add_user

PROOF = Proof(3, timedelta(minutes=10))
OWNERS = ("7", "007", "m7", "9", "0", "-7", "seven", "9223372036854775808")
ORDERS = text(
    "INSERT INTO orders_seen (order_id, state, status, state_since, owner, owner_since, panel_vps_id_given,"
    " first_seen_at, changed_at)"
    " SELECT 'o' || owner, 'active', 'running', t, owner, t, false, t, t"
    " FROM unnest(CAST(:owners AS text[])) owner, clock_timestamp() t"
)


@pytest.mark.parametrize(("shared", "known"), [(True, {"o7": 7}), (False, {"om7": 7})], ids=["shared", "mapped"])
def test_an_order_has_the_customer_that_a_run_gives_it(engine: Engine, *, shared: bool, known: dict[str, int]) -> None:
    add_user(engine, 7, main_site_user_id="m7")
    with engine.connect() as connection:
        connection.execute(ORDERS, {"owners": list(OWNERS)})
        told = orders_of(connection, ["o" + owner for owner in OWNERS], Reading(shared, PROOF))
        snapshots.make_stages(connection)
        candidates.select_candidates(connection, shared_ids=shared, names=True, proof=PROOF, budget=100)
        by_runs = {row.owner: row.user_id for row in connection.execute(text("SELECT * FROM user_map"))}
        connection.rollback()
    assert {order_id: one.order.user_id for order_id, one in told.items() if one.order.user_id is not None} == known
    assert {order_id: by_runs.get(order_id[1:]) for order_id in known} == known
    assert [by_runs.get(owner) for owner in OWNERS if "o" + owner not in known] == [None] * (len(OWNERS) - 1)
