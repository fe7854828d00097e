"""A hoster in memory: one cluster, one order feed, and the panel's real runs over them, on a real database."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Engine, text

from domain.guests import Guest, GuestType, PowerState
from domain.orders import Order, OrderState
from domain.repair_policy.budget import Budget
from domain.source_protocols import Found, Gone, Health, Lookup, Page, Sweep, User
from panel.journal.rows import database_now
from panel.runs import source_states
from reconcile.decision.cases import Policy
from reconcile.run import Reconciler, RunResult, run_fast, run_full
from tests.support.bench import QUICK
from tests.support.fleets.world import add_user
from tests.support.stand_ins.listed_cluster import ListedCluster
from tests.support.waiting import wait_until

WIDE = Budget(
    deletes_run=10_000, deletes_hour=10_000, deletes_day=10_000, deletes_node_min=10_000, deletes_user_min=10_000,
    creates_min=10_000, flips_min=10_000, owners_run=10_000, owners_day=10_000, merges_run=10_000, merges_day=10_000,
)  # fmt: skip
"""No limit of the gate stands in the way."""

CUSTOMERS = 20
NODES = ("pve1", "pve2", "pve3")


@dataclass(slots=True)
class ListedFeed:
    """An order feed in memory. Every answer is whole, and ``staleness_s`` seconds old."""

    listed: dict[str, Order] = field(default_factory=dict)
    staleness_s: float = 0.0
    name: str = "orders"
    names_are_authoritative: bool = True

    def orders(
        self, updated_since: str | None = None, suspects: tuple[str, ...] = (), rolled_to: str | None = None
    ) -> Sweep[Order]:
        del suspects, rolled_to
        since = datetime.fromisoformat(updated_since) if updated_since is not None else None
        shown = tuple(o for o in self.listed.values() if since is None or o.updated_at is None or o.updated_at >= since)

        def pages() -> Iterator[Page[Order]]:
            yield Page(shown, 0.0, self.staleness_s)

        return Sweep(pages(), {"all"}, None, len(shown))

    def order(self, order_id: str, control_id: str | None) -> Lookup[Order]:
        del control_id
        found = self.listed.get(order_id)
        return Found(found) if found is not None else Gone("404")

    def users(self) -> Sweep[User]:
        return Sweep(iter(()))

    def health(self) -> Health:
        return Health(ok=True, detail="in memory")


@dataclass(slots=True)
class Hoster:
    """Sells and ends machines; ``full`` and ``fast`` are the panel's real runs."""

    engine: Engine
    cluster: ListedCluster = field(default_factory=ListedCluster)
    feed: ListedFeed = field(default_factory=ListedFeed)
    policy: Policy = QUICK
    sweep_interval: timedelta = timedelta(0)
    sold: int = 0
    vmids: dict[str, int] = field(default_factory=dict)
    free: list[int] = field(default_factory=list)

    def open(self) -> None:
        """Give the panel its customers. All of them are mapped to the main site's."""
        for user_id in range(1, CUSTOMERS + 1):
            add_user(self.engine, user_id, main_site_user_id=f"m{user_id}")

    def sell(self, count: int = 1) -> list[str]:
        """Orders that are paid, each with a machine that runs."""
        order_ids = []
        for _ in range(count):
            self.sold += 1
            order_id, vmid = f"o{self.sold}", self.free.pop(0) if self.free else 100 + len(self.vmids)
            node = NODES[self.sold % len(NODES)]
            self.vmids[order_id] = vmid
            self.cluster.guests[vmid] = Guest(
                "main", vmid, GuestType.QEMU, node, "running", PowerState.RUNNING, f"vps-{self.sold}", cores=2.0,
                memory_mb=2048, disk_gb=10,
            )  # fmt: skip
            self.cluster.fingerprints[vmid] = f"smbios:{self.sold}"
            self.feed.listed[order_id] = Order(
                order_id, OrderState.ACTIVE, "running", owner=f"m{1 + self.sold % CUSTOMERS}", name=f"vps-{self.sold}",
                cpu=2, ram_mb=2048, disk_gb=10, os="debian-12", hypervisor="proxmox", cluster="main", node=node,
                vmid=vmid, guest_type=GuestType.QEMU,
            )  # fmt: skip
            order_ids.append(order_id)
        return order_ids

    def end(self, order_id: str, *, reuse: bool = False) -> None:
        """Cancel an order and remove its machine. ``reuse``: its VMID is given to somebody else later."""
        order = self.feed.listed[order_id]
        self.feed.listed[order_id] = replace(order, state=OrderState.ENDED, status="cancelled")
        vmid = self.vmids[order_id]
        self.cluster.guests.pop(vmid, None)
        self.cluster.fingerprints.pop(vmid, None)
        if reuse:
            self.free.append(vmid)

    def forget(self, order_id: str) -> None:
        """The main site lists an order no more."""
        del self.feed.listed[order_id]

    def flip(self, order_id: str) -> None:
        """Its customer turns a machine off or on."""
        vmid = self.vmids[order_id]
        running = self.cluster.guests[vmid].power is PowerState.RUNNING
        power = PowerState.STOPPED if running else PowerState.RUNNING
        self.cluster.change(vmid, power=power, status=power.value)

    def full(self, times: int = 1) -> RunResult:
        """Full runs; the last one's result."""
        return self._runs(run_full, times)

    def fast(self, times: int = 1) -> RunResult:
        """Fast runs; the last one's result."""
        return self._runs(run_fast, times)

    def acknowledge_losses(self) -> None:
        """Acknowledge whatever a source is not believed for."""
        with self.engine.begin() as connection:
            for source in ("orders", "proxmox:main"):
                source_states.remember_source(connection, source, acknowledged_at=database_now(connection))

    def _runs(self, run: Any, times: int) -> RunResult:
        result: RunResult | None = None
        for _ in range(times):
            result = self._run(run)
            assert result.state == "done", result.summary
        assert result is not None
        return result

    def _run(self, run: Any) -> RunResult:
        """One run. The session of the one before may end a little after it: until then that one is under way."""
        results: list[RunResult] = []

        def is_not_busy() -> bool:
            results.append(run(self.reconciler(), trigger="test"))
            return results[-1].state != "busy"

        wait_until(is_not_busy, "the run before to end")
        return results[-1]

    def reconciler(self) -> Reconciler:
        return Reconciler(
            engine=self.engine,
            feed=self.feed,
            sources=(self.cluster,),
            policy=self.policy,
            budget=WIDE,
            shared_ids=False,
            sweep_interval=self.sweep_interval,
            users_interval=timedelta(days=1),
            first_run_asks=False,
        )

    def count(self, table: str, condition: str = "true") -> int:
        with self.engine.connect() as connection:
            return int(connection.scalar(text(f"SELECT count(*) FROM {table} WHERE {condition}")) or 0)


def versions(engine: Engine, tables: tuple[str, ...]) -> Mapping[str, frozenset[tuple[Any, ...]]]:
    """Every row's version: who wrote it, who locked it or replaced it, and where it stands."""
    with engine.connect() as connection:
        rows = {t: connection.execute(text(f"SELECT xmin::text, xmax::text, ctid::text FROM {t}")) for t in tables}
        return {table: frozenset(tuple(row) for row in found) for table, found in rows.items()}
