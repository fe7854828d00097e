"""Of whom nobody knows who they are: at a record's address too, and whether or not they were listed now."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest
from sqlalchemy import Engine, text

from panel.observations.loaded_candidates import load_unidentified
from panel.observations.proof import Proof
from reconcile.run import Reconciler, run_full
from tests.integration.reconcile.observation.test_nodes_away import reconciler
from tests.support.fleets.hoster import Hoster
from tests.support.stand_ins.listed_cluster import ListedCluster, make_record

PROOF = Proof(3, timedelta(0))


@pytest.fixture
def clusters(engine: Engine) -> tuple[ListedCluster, ListedCluster]:
    """Guests 100 to 103 of cluster main and 200 of the second, all looked at; 100 is record 1's."""
    main, second = ListedCluster(), ListedCluster("second")
    for vmid in range(100, 104):
        main.add(vmid, "pve1")
    for vmid in (200, 201, 202):
        second.add(vmid, "pve2")
    make_record(engine, 1, 100, "pve1")
    for _ in range(2):
        assert run_full(reconciler(engine, main, second), trigger="test").state == "done"
    assert unidentified(engine) == []
    return main, second


def unidentified(engine: Engine, *names: str) -> list[str] | None:
    with engine.connect() as connection:
        found = load_unidentified(connection, names or ("main", "second"), PROOF)
    return None if found is None else [str(guest.key) for guest in found]


def become(engine: Engine, vmid: int, state: str, fingerprint: str | None) -> None:
    with engine.begin() as connection:
        statement = "UPDATE guests SET fingerprint_state = :state, fingerprint = :fingerprint WHERE vmid = :vmid"
        connection.execute(text(statement), {"state": state, "fingerprint": fingerprint, "vmid": vmid})


@pytest.mark.usefixtures("clusters")
@pytest.mark.parametrize(
    ("vmid", "state", "fingerprint", "unknown"),
    [
        pytest.param(101, "unread", None, True, id="not looked at yet"),
        pytest.param(101, "stale", "smbios:101", True, id="to be looked at anew"),
        pytest.param(101, "forbidden", None, True, id="refused, and nobody knows who it was"),
        pytest.param(101, "forbidden", "smbios:101", False, id="refused, and it passes for who it was"),
        pytest.param(101, "read", None, False, id="read, and it has nothing to be known by"),
        pytest.param(100, "stale", "smbios:100", False, id="last seen to be its record's own"),
        pytest.param(100, "stale", "smbios:other", True, id="last seen to be somebody else at a record's address"),
        pytest.param(100, "forbidden", None, True, id="refused at a record's address"),
    ],
)
def test_who_is_nobody(engine: Engine, vmid: int, state: str, fingerprint: str | None, *, unknown: bool) -> None:
    become(engine, vmid, state, fingerprint)
    assert unidentified(engine) == ([f"main/{vmid}"] if unknown else [])


def test_who_was_not_listed_now_is_where_he_was_until_he_is_proven_gone(
    engine: Engine, clusters: tuple[ListedCluster, ListedCluster]
) -> None:
    main, second = clusters
    become(engine, 200, "forbidden", None)
    second.silent = {"pve2"}
    assert unidentified(engine) == ["second/200"]
    assert run_full(reconciler(engine, main), trigger="test").state == "done", "the second was not read"
    assert unidentified(engine) == ["second/200"]
    assert unidentified(engine, "main") == [], "no cluster of the panel's any more"
    del second.guests[200]
    for times in range(1, PROOF.times + 1):
        assert run_full(reconciler(engine, main, second), trigger="test").state == "done"
        assert unidentified(engine) == (["second/200"] if times < PROOF.times else [])


@dataclass(slots=True)
class TwoClusters(Hoster):
    """Its machines move to a second cluster, whose configurations may not be read."""

    second: ListedCluster = field(default_factory=lambda: ListedCluster("second", silent={"pve2"}))

    def reconciler(self) -> Reconciler:
        return replace(Hoster.reconciler(self), sources=(self.cluster, self.second))


@pytest.mark.parametrize("ended", [True, False], ids=["its order ended", "it is paid for"])
def test_a_machine_is_not_gone_because_one_list_left_out_where_it_may_be(engine: Engine, *, ended: bool) -> None:
    hoster = TwoClusters(engine)
    hoster.open()
    (order_id, *_) = hoster.sell(2)
    hoster.full(2)
    order = hoster.feed.listed[order_id]
    hoster.end(order_id)
    hoster.feed.listed[order_id] = hoster.feed.listed[order_id] if ended else order
    hoster.second.add(200, "pve2")
    hoster.full(4)
    is_held = f"order_id = '{order_id}' AND deleted_at IS NULL AND missing_since IS NULL"
    assert hoster.count("vps", is_held) == 1, "it may be second/200"
    there = hoster.second.guests.pop(200)
    hoster.full(2)
    assert hoster.count("vps", is_held) == 1, "two lists left it out, which proves nothing"
    hoster.second.guests[200] = there
    hoster.full()
    assert hoster.count("vps", is_held) == 1
    del hoster.second.guests[200]
    hoster.full(4)
    assert hoster.count("vps", is_held) == 0, "it is gone from there, too"


@pytest.mark.usefixtures("clusters")
def test_too_many_are_anybody(engine: Engine) -> None:
    for vmid in (101, 102, 103):
        become(engine, vmid, "unread", None)
    with engine.connect() as connection:
        assert load_unidentified(connection, ["main"], PROOF, limit=2) is None
        assert len(load_unidentified(connection, ["main"], PROOF, limit=3) or ()) == 3
