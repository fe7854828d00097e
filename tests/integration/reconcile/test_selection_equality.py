"""What the database's join leaves out changes nothing: on random worlds, the filtered plan equals the unfiltered one.

Worlds are written straight into the tables, mostly in order and with everything that can be wrong somewhere.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from random import Random
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, insert

from panel import tables, views
from panel.run_log import begin_run
from panel.sessions import sync_engine
from reconcile.cases import Policy
from reconcile.changes import Plan
from reconcile.decide import plan
from reconcile.gate import Budget
from reconcile.observe import Observed, database_now
from reconcile.ports import ClusterReading, GuestConfig, GuestSource, Health, Lookup, OrderFeed, Sweep
from reconcile.run import Reconciler, load_world
from reconcile.state import GuestType, Order, User
from tests.support.databases import Databases
from tests.support.world import add_user

pytestmark = pytest.mark.xdist_group("selection")

SEEDS = range(40)
CLUSTERS = ("main", "second")
MACHINES, CUSTOMERS = 40, 20


class NoSource:
    """A cluster that nobody asks: what it showed is in the tables already."""

    def __init__(self, cluster: str) -> None:
        self.cluster = cluster

    def read(self) -> ClusterReading:
        raise NotImplementedError

    def config(self, node: str, guest_type: GuestType, vmid: int) -> Lookup[GuestConfig]:
        raise NotImplementedError

    confirm = config

    def health(self) -> Health:
        raise NotImplementedError


class NoFeed:
    """A feed that nobody asks."""

    name = "orders"

    def __init__(self, *, names: bool) -> None:
        self.names_are_authoritative = names

    def users(self) -> Sweep[User]:
        raise NotImplementedError

    def orders(
        self, updated_since: str | None = None, suspects: tuple[str, ...] = (), rolled_to: str | None = None
    ) -> Sweep[Order]:
        raise NotImplementedError

    def order(self, order_id: str, control_id: str | None) -> Lookup[Order]:
        raise NotImplementedError

    def health(self) -> Health:
        raise NotImplementedError


@pytest.fixture(scope="module")
def engine(databases: Databases) -> Iterator[Engine]:
    database = databases.clone()
    made = sync_engine(database.app_url, "panel-sync test", pool_size=4)
    for user in range(1, CUSTOMERS + 1):
        add_user(made, user, main_site_user_id=str(user + 100))
    yield made
    made.dispose()
    databases.drop(database)


class Rows:
    """Rows of a world in the making; everything agrees until it is disturbed."""

    def __init__(self, random: Random, now: datetime) -> None:
        self.random, self.now = random, now
        self.vps: list[dict[str, Any]] = []
        self.orders: list[dict[str, Any]] = []
        self.guests: list[dict[str, Any]] = []
        self.absences: list[dict[str, Any]] = []
        self.unstaged: set[tuple[str, int]] = set()
        for n in range(1, MACHINES + 1):
            self._machine(n)
        for n in range(MACHINES):
            if random.random() < 0.3:
                self._disturb(n)

    def _machine(self, n: int) -> None:
        old = self.now - timedelta(days=10)
        cluster, vmid, user = CLUSTERS[n % 2], 100 + n // 2, self.random.randint(1, CUSTOMERS)
        plan_: dict[str, Any] = {
            "name": self.random.choice(("web", "db", f"own-{n}")), "cpu": self.random.choice((2, 4)), "ram_mb": 4096,
            "disk_gb": 50, "os": "Debian", "hypervisor": "proxmox",
        }  # fmt: skip
        place = {"cluster": cluster, "node": "pve1", "vmid": vmid, "guest_type": "qemu"}
        times = ("order_changed_at", "order_as_of", "link_changed_at", "power_changed_at", "power_as_of",
                 "owner_changed_at", "plan_changed_at", "created_at", "updated_at")  # fmt: skip
        self.vps.append(
            plan_ | place | dict.fromkeys(times, old)
            | {
                "id": n, "user_id": user, "order_id": str(n), "order_state": "active", "order_source": "orders",
                "fingerprint": f"smbios:{n}", "link_state": "verified", "power_state": "running",
                "power_source": "proxmox", "status": "running", "order_linked_once": True, "guest_linked_once": True,
                "applied_seq": 1, "version": 1, "ip_address": None, "missing_since": None, "deleted_at": None,
                "deleted_reason": None, "merged_into": None, "last_update_at": None, "protected_until": None,
            }
        )  # fmt: skip
        seen = self.now - timedelta(seconds=5)
        self.orders.append(
            plan_ | place
            | {
                "order_id": str(n), "state": "active", "status": "running", "state_since": old,
                "owner": str(user + 100), "owner_since": old,
                "panel_vps_id": self.random.choice((n, None)), "panel_vps_id_given": True,
                "first_seen_at": old, "changed_at": seen, "effective_at": seen, "created_at": old, "ip_address": None,
            }
        )  # fmt: skip
        self.guests.append(
            place
            | {
                "status": "running", "power": "running", "power_since": old, "name": plan_["name"], "template": False,
                "cores": float(plan_["cpu"]), "memory_mb": 4096, "disk_gb": 50, "tags": [], "signature": "s",
                "fingerprint": f"smbios:{n}", "fingerprint_state": "read", "fingerprint_read_at": old,
                "fingerprint_seen": 2, "previous_fingerprint": None, "first_seen_at": old, "changed_at": old,
                "read_at": old, "lock": None, "lock_since": None,
            }
        )  # fmt: skip

    def _disturb(self, n: int) -> None:
        other = self.random.randrange(MACHINES)
        self.random.choice((self._absent, self._order, self._guest, self._record))(n, other)

    def _absent(self, n: int, other: int) -> None:
        order = self.orders[n]
        match self.random.randrange(6):
            case 4:  # gone, and another record's well-known guest carries its identity
                self.vps[other]["fingerprint"] = self.guests[other]["fingerprint"] = self.vps[n]["fingerprint"]
                self._gone(n)
            case 5:  # two settled machines of one identity in two clusters
                self.vps[other]["fingerprint"] = self.guests[other]["fingerprint"] = self.vps[n]["fingerprint"]
            case 0:
                self._gone(n)
            case 1:
                self.absences.append(self._absence("order", order["order_id"]))
            case 2:
                self.absences.append(self._absence("order", order["order_id"]))
                self._gone(n)
            case _:
                order |= {"state": "ended", "status": "cancelled"}
                self._gone(n)

    def _order(self, n: int, other: int) -> None:
        order, pick = self.orders[n], self.random.choice
        state = pick(("suspended", "pending", "unknown", "ended"))
        place = {name: self.orders[other][name] for name in ("cluster", "vmid")}
        order |= pick(
            (
                {"state": state, "status": state},
                {"panel_vps_id": self.vps[other]["id"]},
                place,
                {"owner": pick(("101", "102", "900"))},
                pick(({"cpu": 8}, {"name": "renamed"}, {"ip_address": "192.0.2.1"}, {"cpu": None}, {"os": None})),
            )
        )

    def _guest(self, n: int, other: int) -> None:
        guest, pick = self.guests[n], self.random.choice
        guest |= pick(
            (
                {"power": "stopped", "status": "stopped"},
                {"fingerprint": f"smbios:new-{n}", "fingerprint_seen": pick((1, 2))},
                {"fingerprint": self.guests[other]["fingerprint"]},
                {"fingerprint_state": pick(("stale", "forbidden"))},
                {"lock": "backup", "lock_since": self.now - timedelta(hours=pick((1, 3)))},
                {"node": "pve2"},
                {"cluster": "second" if guest["cluster"] == "main" else "main", "vmid": 900 + n},
                {"template": True},
            )
        )

    def _record(self, n: int, other: int) -> None:
        record, order, pick = self.vps[n], self.orders[n], self.random.choice
        match self.random.randrange(8):
            case 0:
                self._loosen(record)
                order["panel_vps_id"] = None
            case 1:
                self._loosen(record)
                order["panel_vps_id"] = self.vps[other]["id"]
            case 2:
                record |= {"deleted_at": self.now - timedelta(hours=1), "deleted_reason": "sync"}
            case 3 if other != n:
                merged = {"deleted_reason": "merged", "merged_into": self.vps[other]["id"]}
                record |= {"deleted_at": self.now} | merged
            case 4:
                record |= {"link_state": pick(("pushed", "unverified")), "fingerprint": None}
            case 5:
                record["missing_since"] = self.now - timedelta(hours=1)
            case 6:
                record["applied_seq"] = 0  # a call is in flight
            case _:
                record["hypervisor"] = order["hypervisor"] = "vmware"

    def _gone(self, n: int) -> None:
        guest = self.guests[n]
        self.unstaged.add((guest["cluster"], guest["vmid"]))
        self.absences.append(self._absence("guest", f"{guest['cluster']}/{guest['vmid']}"))

    def _absence(self, kind: str, subject: str) -> dict[str, Any]:
        since = self.now - timedelta(hours=self.random.choice((0, 1, 30)))
        return {
            "kind": kind, "subject": subject, "absent_since": since, "consecutive": self.random.choice((1, 3)),
            "last_absent_at": self.now, "evidence": [1],
        }  # fmt: skip

    def _loosen(self, record: dict[str, Any]) -> None:
        record |= dict.fromkeys(("cluster", "node", "vmid", "guest_type", "fingerprint", "order_id"))
        record |= {"link_state": "unlinked", "order_linked_once": False, "guest_linked_once": False}

    def store(self, connection: Connection, run_id: int) -> None:
        lanes = [{"vps_id": r["id"], "last_seq": 1, "applied_seq": r["applied_seq"], "head": "live"} for r in self.vps]
        connection.execute(insert(tables.lanes), lanes)
        vps = tables.vps
        connection.execute(insert(vps), [row | {"merged_into": None} for row in self.vps])
        for row in self.vps:
            if row["merged_into"] is not None:
                connection.execute(vps.update().where(vps.c.id == row["id"]).values(merged_into=row["merged_into"]))
        connection.execute(insert(tables.orders_seen), self.orders)
        places = {(g["cluster"], g["vmid"]): g for g in self.guests}
        connection.execute(insert(tables.guests), list(places.values()))
        absences = {(a["kind"], a["subject"]): a | {"last_run_id": run_id} for a in self.absences}
        if absences:
            connection.execute(insert(tables.absences), list(absences.values()))
        staged = [tuple(g.get(c) for c in views.GUEST_COLUMNS) for k, g in places.items() if k not in self.unstaged]
        views.copy_rows(connection, "stage_guests", views.GUEST_COLUMNS, staged)


@contextmanager
def _scratch(engine: Engine) -> Iterator[Connection]:
    """A connection whose work, temporary tables too, is forgotten."""
    with engine.connect() as connection:
        views.make_stages(connection)
        try:
            yield connection
        finally:
            connection.rollback()
            connection.invalidate()


def identities(made: Plan) -> list[str]:
    """Changes and findings, comparable."""
    changes = [
        json.dumps(c.identity() | {"values": {k: str(v) for k, v in c.values.items()}}, sort_keys=True)
        for c in made.changes
    ]
    findings = [json.dumps([f.class_, f.subject, f.reason, f.severity]) for f in made.findings]
    return sorted(changes + findings)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_filter_changes_no_decision(engine: Engine, seed: int) -> None:
    random = Random(seed)
    clusters: tuple[GuestSource, ...] = tuple(NoSource(name) for name in CLUSTERS)
    feed: OrderFeed = NoFeed(names=random.random() < 0.7)
    policy = replace(Policy(), proof_t=timedelta(0))
    reconciler = Reconciler(
        engine, feed, clusters, policy, Budget(), shared_ids=False, sweep_interval=policy.proof_t,
        users_interval=policy.proof_t,
    )  # fmt: skip
    run_id, _ = begin_run(engine, "full", "test", 1)
    with _scratch(engine) as connection:
        now = database_now(connection)
        Rows(random, now).store(connection, run_id)
        before = now - timedelta(minutes=2)
        seen = Observed(
            began=dict.fromkeys(CLUSTERS, now),
            previous=dict.fromkeys(CLUSTERS, before),
            trusted=set(CLUSTERS) if random.random() < 0.8 else {"main"},
            orders_at=now,
            previous_orders_at=before,
        )
        with connection.begin_nested() as once:
            world, counts = load_world(reconciler, connection, seen)
            once.rollback()
        whole, all_counts = load_world(reconciler, connection, seen, everything=True)
    assert counts["settled"] > 0
    assert counts["records"] < all_counts["records"], "the filter left something out"
    filtered, unfiltered = plan(replace(world, now=now), policy), plan(replace(whole, now=now), policy)
    assert unfiltered.changes or unfiltered.findings, "the world holds differences"
    assert identities(filtered) == identities(unfiltered)
