"""What was read or missed before a link, a name or an identity was there says nothing of it."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Engine, text

from reconcile.run import run_full
from tests.integration.reconcile.observation.test_nodes_away import column, reconciler
from tests.support.stand_ins.listed_cluster import ListedCluster, make_record


def runs(engine: Engine, cluster: ListedCluster, times: int) -> None:
    for _ in range(times):
        assert run_full(reconciler(engine, cluster), trigger="test").state == "done"


def listed(engine: Engine) -> ListedCluster:
    """Three guests; the one at 100 is that of record 1."""
    cluster = ListedCluster()
    for vmid in (100, 200, 201):
        cluster.add(vmid, "pve1")
    make_record(engine, 1, 100, "pve1")
    runs(engine, cluster, 2)
    assert column(engine, "link_state", 1) == "verified"
    return cluster


def first_seen(engine: Engine) -> datetime:
    with engine.connect() as connection:
        found = connection.scalar(text("SELECT first_seen_at FROM guests WHERE vmid = 100"))
    assert isinstance(found, datetime)
    return found


def absence(engine: Engine) -> tuple[int, datetime]:
    with engine.connect() as connection:
        row = connection.execute(
            text("SELECT consecutive, absent_since FROM absences WHERE subject = 'main/100'")
        ).one()
    return row.consecutive, row.absent_since


def test_a_guest_s_absence_is_counted_anew_when_a_record_is_linked_to_it(engine: Engine) -> None:
    cluster = listed(engine)
    del cluster.guests[100]
    runs(engine, cluster, 3)
    assert absence(engine)[0] == 3
    with engine.begin() as connection:
        connection.execute(text("UPDATE vps SET link_changed_at = clock_timestamp() WHERE id = 1"))
    linked = column(engine, "link_changed_at", 1)
    assert isinstance(linked, datetime)
    runs(engine, cluster, 1)
    times, since = absence(engine)
    assert (times, since > linked) == (1, True)
    runs(engine, cluster, 1)
    assert absence(engine) == (2, since)


def test_another_machine_at_an_address_is_first_seen_anew(engine: Engine) -> None:
    cluster = listed(engine)

    first = first_seen(engine)
    guest = cluster.guests.pop(100)
    runs(engine, cluster, 1)
    cluster.guests[100] = guest
    runs(engine, cluster, 1)
    assert first_seen(engine) == first, "it came back, and is the same one"
    cluster.change(100, name="made anew")
    cluster.fingerprints[100] = "smbios:another"
    runs(engine, cluster, 1)
    second = first_seen(engine)
    assert second > first
    with engine.begin() as connection:
        connection.execute(text("UPDATE guests SET fingerprint = NULL, fingerprint_state = 'unread' WHERE vmid = 100"))
    del cluster.guests[100]
    runs(engine, cluster, 1)
    cluster.guests[100] = guest
    runs(engine, cluster, 1)
    assert first_seen(engine) > second, "nobody knows whether it is the same one"


def test_a_machine_counts_from_when_it_was_identified(engine: Engine) -> None:
    """Until then another one may have stood there, at the same address and never left out of a list."""
    cluster = ListedCluster()
    cluster.add(100, "pve1")
    cluster.silent = {"pve1"}
    runs(engine, cluster, 1)

    first = first_seen(engine)
    runs(engine, cluster, 1)
    assert first_seen(engine) == first
    cluster.change(100, name="the next customer's")
    runs(engine, cluster, 1)
    second = first_seen(engine)
    assert second > first, "its name is all that is known of it"
    cluster.silent = set()
    runs(engine, cluster, 1)
    third = first_seen(engine)
    assert third > second
    runs(engine, cluster, 2)
    assert first_seen(engine) == third


def test_since_when_a_guest_is_who_it_is(engine: Engine) -> None:
    cluster = listed(engine)

    def since() -> datetime:
        with engine.connect() as connection:
            found = connection.scalar(text("SELECT fingerprint_since FROM guests WHERE vmid = 100"))
        assert isinstance(found, datetime)
        return found

    first = since()
    cluster.change(100, name="renamed")
    runs(engine, cluster, 1)
    assert since() == first, "looked at anew, and the same one"
    cluster.change(100, name="made anew")
    cluster.fingerprints[100] = "smbios:another"
    runs(engine, cluster, 1)
    second = since()
    assert second > first
    runs(engine, cluster, 2)
    assert since() == second
