"""Random fleets, written straight into the tables: mostly in order, and with everything that can be wrong somewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from random import Random
from typing import Any

from sqlalchemy import Connection, Engine, insert, text

from domain.guests import GuestType
from domain.orders import Order
from domain.source_protocols import ClusterReading, GuestConfig, Health, Lookup, Sweep, User
from panel.observations import snapshots
from panel.observations.copying import copy_rows
from panel.observations.listed_guests import GUEST_COLUMNS
from panel.schema import tables

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


@contextmanager
def scratch(engine: Engine) -> Iterator[Connection]:
    """A connection with a run's stages whose work, temporary tables too, is forgotten."""
    with engine.connect() as connection:
        snapshots.make_stages(connection)
        try:
            yield connection
        finally:
            connection.rollback()
            connection.invalidate()


class Rows:
    """Rows of a world in the making; everything agrees until it is disturbed. Each world knows some kinds of trouble
    only: where everything may be wrong at once, nothing that takes several facts comes about."""

    def __init__(self, random: Random, now: datetime) -> None:
        self.random, self.now = random, now
        self.old = now - timedelta(days=10)
        self.vps: list[dict[str, Any]] = []
        self.orders: list[dict[str, Any]] = []
        self.guests: list[dict[str, Any]] = []
        self.absences: list[dict[str, Any]] = []
        self.unstaged: set[tuple[str, int]] = set()
        self.customers, self.names = random.choice((2, CUSTOMERS)), random.choice(((), ("web", "db")))
        for n in range(1, MACHINES + 1):
            self._machine(n)
        kinds = random.sample(KINDS, random.choice((3, 6, len(KINDS))))
        for n in range(MACHINES):
            if random.random() < 0.3:
                random.choice(kinds)(self, n, random.randrange(MACHINES))

    def _machine(self, n: int) -> None:
        old, pick = self.old, self.random.choice
        cluster, vmid, user = CLUSTERS[n % 2], 100 + n // 2, self.random.randint(1, self.customers)
        plan_: dict[str, Any] = {
            "name": pick((*self.names, f"own-{n}")), "cpu": pick((2, 4)), "ram_mb": 4096, "disk_gb": 50, "os": "Debian",
            "hypervisor": "proxmox",
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
                "applied_seq": 1, "version": 1, "ip_address": None,
                "ip6_address": None, "missing_since": None, "deleted_at": None,
                "deleted_reason": None, "merged_into": None, "last_update_at": None, "protected_until": None,
                "claimed_cluster": None, "claimed_vmid": None,
            }
        )  # fmt: skip
        seen = self.now - timedelta(seconds=5)
        self.orders.append(
            plan_ | place
            | {
                "order_id": str(n), "state": "active", "status": "running", "state_since": old,
                "owner": str(user + 100), "owner_since": old,
                "panel_vps_id": pick((n, None)), "panel_vps_id_given": True,
                "first_seen_at": old, "changed_at": seen, "effective_at": seen, "created_at": old, "ip_address": None,
                "ip6_address": None,
            }
        )  # fmt: skip
        self.guests.append(
            place
            | {
                "status": "running", "power": "running", "power_since": old, "name": plan_["name"], "template": False,
                "cores": float(plan_["cpu"]), "memory_mb": 4096, "disk_gb": 50, "tags": [], "signature": "s",
                "fingerprint": f"smbios:{n}", "fingerprint_state": "read", "fingerprint_read_at": old,
                "fingerprint_seen": 2, "fingerprint_since": old, "previous_fingerprint": None, "first_seen_at": old,
                "changed_at": old, "read_at": old, "lock": None, "lock_since": None,
            }
        )  # fmt: skip

    # --- what is not listed any more

    def gone(self, n: int, _other: int) -> None:
        guest = self.guests[n]
        self.unstaged.add((guest["cluster"], guest["vmid"]))
        self.absences.append(self._absence("guest", f"{guest['cluster']}/{guest['vmid']}"))

    def order_gone(self, n: int, _other: int) -> None:
        self.absences.append(self._absence("order", self.orders[n]["order_id"]))

    def both_gone(self, n: int, other: int) -> None:
        self.order_gone(n, other)
        self.gone(n, other)

    def missed_delete(self, n: int, other: int) -> None:
        self.orders[n] |= {"state": "ended", "status": "cancelled"}
        self.gone(n, other)

    def gone_and_seen_elsewhere(self, n: int, other: int) -> None:
        self.same_machine(n, other)
        self.gone(n, other)

    def hidden(self, n: int, other: int) -> None:
        """Who it was may not be read any more, and it looks like nobody else."""
        self.guests[n] |= {"fingerprint_state": "forbidden", "fingerprint": None, "memory_mb": 9, "name": "hidden"}
        self.guests[n] |= {"previous_fingerprint": self.guests[other]["fingerprint"]}
        self.missed_delete(other, n)

    # --- orders

    def state(self, n: int, _other: int) -> None:
        state = self.random.choice(("suspended", "pending", "unknown", "ended"))
        self.orders[n] |= {"state": state, "status": state, "state_since": self._moment()}

    def panel_id(self, n: int, other: int) -> None:
        self.orders[n]["panel_vps_id"] = self.vps[other]["id"]

    def place(self, n: int, other: int) -> None:
        self.orders[n] |= {name: self.orders[other][name] for name in ("cluster", "vmid")}

    def no_place(self, n: int, _other: int) -> None:
        """Sold lately, and nobody says yet which guest it is."""
        self.orders[n] |= {"cluster": None, "vmid": None, "panel_vps_id": None, "created_at": self._moment()}
        self.vps[n]["order_id"] = None

    def owner(self, n: int, _other: int) -> None:
        self.orders[n]["owner"] = self.random.choice(("101", "102", "900"))

    def facts(self, n: int, _other: int) -> None:
        choices: tuple[dict[str, Any], ...] = (
            {"cpu": 8}, {"name": "renamed"}, {"ip_address": "192.0.2.1"}, {"ip6_address": "2001:db8::1"},
            {"cpu": None}, {"os": None},
        )  # fmt: skip
        self.orders[n] |= self.random.choice(choices)

    # --- guests

    def power(self, n: int, _other: int) -> None:
        self.guests[n] |= {"power": "stopped", "status": "stopped"}

    def another_machine(self, n: int, _other: int) -> None:
        self.guests[n] |= {"fingerprint": f"smbios:new-{n}", "fingerprint_seen": self.random.choice((1, 2))}

    def clone(self, n: int, other: int) -> None:
        self.guests[n]["fingerprint"] = self.guests[other]["fingerprint"]

    def unread(self, n: int, _other: int) -> None:
        self.guests[n]["fingerprint_state"] = self.random.choice(("stale", "forbidden"))

    def lock(self, n: int, _other: int) -> None:
        self.guests[n] |= {"lock": "backup", "lock_since": self.now - timedelta(hours=self.random.choice((1, 3)))}

    def node(self, n: int, _other: int) -> None:
        self.guests[n]["node"] = "pve2"

    def moved(self, n: int, _other: int) -> None:
        other = "second" if self.guests[n]["cluster"] == "main" else "main"
        self.guests[n] |= {"cluster": other, "vmid": 900 + n}

    def template(self, n: int, _other: int) -> None:
        self.guests[n]["template"] = True

    def tags(self, n: int, _other: int) -> None:
        self.guests[n]["tags"] = [f"pnl-00000000-0000-0000-0000-00000000000{n % 3}"]

    # --- records

    def loose(self, n: int, _other: int) -> None:
        self._loosen(n)
        self.orders[n]["panel_vps_id"] = None

    def loose_and_another_named(self, n: int, other: int) -> None:
        self._loosen(n)
        self.orders[n]["panel_vps_id"] = self.vps[other]["id"]

    def renamed_and_made_later(self, n: int, _other: int) -> None:
        """Its order has another name, and was made when another record was."""
        self.loose(n, n)
        self.vps[n] |= {
            "name": f"nobody-{n}",
            "created_at": self.old + timedelta(minutes=self.random.choice((0, 5, 60))),
        }

    def twin(self, n: int, other: int) -> None:
        """An answer was lost, and the call repeated: another record is made once more."""
        self._loosen(n)
        of = self.vps[other]
        self.vps[n] |= {name: of[name] for name in ("user_id", "name", "cpu", "ram_mb", "disk_gb", "os")}
        self.orders[n] |= {"panel_vps_id": None, "state": "ended", "status": "cancelled"}

    def deleted(self, n: int, _other: int) -> None:
        self.vps[n] |= {"deleted_at": self.now - timedelta(hours=1), "deleted_reason": "sync"}

    def merged(self, n: int, other: int) -> None:
        if other != n and self.vps[other]["merged_into"] is None:
            merged = {"deleted_reason": "merged", "merged_into": self.vps[other]["id"]}
            self.vps[n] |= {"deleted_at": self.now} | merged

    def unverified(self, n: int, _other: int) -> None:
        if self.vps[n]["vmid"] is not None:
            self.vps[n] |= {"link_state": self.random.choice(("pushed", "unverified")), "fingerprint": None}

    def conflict(self, n: int, other: int) -> None:
        """A call named a guest for it that another record has, or had."""
        self._loosen(n)
        self.vps[n] |= {"link_state": "conflict", "order_id": self.orders[n]["order_id"]}
        self.vps[n] |= {f"claimed_{name}": self.guests[other][name] for name in ("cluster", "vmid")}
        if self.random.random() < 0.5:
            self._loosen(other)
            self.orders[other] |= {"state": "ended", "status": "cancelled", "cluster": None, "vmid": None}
            self.orders[n] |= {"cluster": None, "vmid": None}

    def missing(self, n: int, _other: int) -> None:
        self.vps[n]["missing_since"] = self.now - timedelta(hours=1)

    def in_flight(self, n: int, _other: int) -> None:
        self.vps[n]["applied_seq"] = 0

    def elsewhere(self, n: int, _other: int) -> None:
        self.vps[n]["hypervisor"] = self.orders[n]["hypervisor"] = "vmware"

    def same_machine(self, n: int, other: int) -> None:
        self.vps[other]["fingerprint"] = self.guests[other]["fingerprint"] = self.vps[n]["fingerprint"]

    def _moment(self) -> datetime:
        return self.old + timedelta(days=self.random.choice((-10, -1, 0, 1, 9)))

    def _absence(self, kind: str, subject: str) -> dict[str, Any]:
        since = self.now - timedelta(hours=self.random.choice((0, 1, 30)))
        return {
            "kind": kind, "subject": subject, "absent_since": since, "consecutive": self.random.choice((1, 3)),
            "last_absent_at": self.now, "evidence": [1],
        }  # fmt: skip

    def _loosen(self, n: int) -> None:
        self.vps[n] |= dict.fromkeys(("cluster", "node", "vmid", "guest_type", "fingerprint", "order_id"))
        self.vps[n] |= dict.fromkeys(("claimed_cluster", "claimed_vmid"))
        self.vps[n] |= {"link_state": "unlinked", "order_linked_once": False, "guest_linked_once": False}

    def store(self, connection: Connection, run_id: int) -> None:
        vps_queues = [
            {"vps_id": r["id"], "last_seq": 1, "applied_seq": r["applied_seq"], "queue_state": "live"} for r in self.vps
        ]
        connection.execute(insert(tables.vps_queues), vps_queues)
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
        staged = [tuple(g.get(c) for c in GUEST_COLUMNS) for k, g in places.items() if k not in self.unstaged]
        copy_rows(connection, "stage_guests", GUEST_COLUMNS, staged)
        connection.execute(text("ANALYZE stage_guests"))


KINDS = (
    Rows.gone, Rows.order_gone, Rows.both_gone, Rows.missed_delete, Rows.gone_and_seen_elsewhere, Rows.hidden,
    Rows.state, Rows.panel_id, Rows.place, Rows.no_place, Rows.owner, Rows.facts, Rows.power, Rows.another_machine,
    Rows.clone, Rows.unread, Rows.lock, Rows.node, Rows.moved, Rows.template, Rows.tags, Rows.loose,
    Rows.loose_and_another_named, Rows.renamed_and_made_later, Rows.twin, Rows.deleted, Rows.merged, Rows.unverified,
    Rows.conflict, Rows.missing, Rows.in_flight, Rows.elsewhere, Rows.same_machine,
)  # fmt: skip
