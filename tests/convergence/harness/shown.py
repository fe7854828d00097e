"""What the sources show of the truth in one round, through their faults: in-process order feed and clusters."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from domain.guests import Guest, GuestKey, GuestType, PowerState
from domain.orders import Order, order_state_of
from domain.source_protocols import (
    ClusterReading,
    Found,
    Gone,
    GuestConfig,
    Health,
    Lookup,
    Page,
    Sweep,
    Unclear,
    User,
)
from reconcile.decision.subjects import Paused
from tests.convergence.harness.story import Happening
from tests.convergence.harness.truth import CLUSTERS, NODES, Machine, Sale, Truth

SILENT = ("pve-blind", "pve-401", "pve-595")
PAUSED = ("swap-paused", "migrate-paused")
UNTRUSTED = (*SILENT, "pve-unknown", "pve-no-quorum")


@dataclass(slots=True)
class Shown:
    """One round's face of the truth. Look-ups are answered from the truth as it is when they are made.

    ``listed``, ``powers``, ``stood``: where trusted lists showed somebody, how, and who that was; ``orders``: what the
    feed said of each order, and how old that was (seconds); ``whole``: it said all it had. ``earlier``: what the run
    before was shown.
    """

    truth: Truth
    at: datetime
    happenings: tuple[Happening, ...] = ()
    listed: set[GuestKey] = field(default_factory=set)
    powers: dict[GuestKey, PowerState] = field(default_factory=dict)
    stood: dict[GuestKey, Machine] = field(default_factory=dict)
    orders: dict[str, tuple[Order, float | None]] = field(default_factory=dict)
    whole: bool = False
    earlier: Shown | None = None

    @property
    def paused(self) -> Paused:
        """What operators told the panel to leave alone."""
        clusters = frozenset(
            c for c in CLUSTERS if self.on_cluster(c, "pause-cluster") or self.on_its_cluster(c, *PAUSED)
        )
        return Paused(clusters, self.has("pause-feed"))

    @property
    def cut_off(self) -> int | None:
        """After how many writes the worker dies."""
        return next((h.subject for h in self.happenings if h.kind == "cut-off"), None)

    def last_order(self, order_id: str) -> tuple[Order, float | None, datetime] | None:
        """What the feed said of an order when it last said anything that has a date, how old that was, and when."""
        shown: Shown | None = self
        while shown is not None and shown.orders.get(order_id, (None, None))[1] is None:
            shown = shown.earlier
        return (*shown.orders[order_id], shown.at) if shown is not None else None

    def has(self, *kinds: str) -> bool:
        return any(h.kind in kinds for h in self.happenings)

    def on_cluster(self, cluster: str, *kinds: str) -> bool:
        return any(h.kind in kinds and CLUSTERS[h.subject % 2] == cluster for h in self.happenings)

    def on_its_cluster(self, cluster: str, *kinds: str) -> bool:
        """Whether that happens to the cluster of the happening's sale."""
        there = (self.truth.sale(h.subject).machine.key.cluster for h in self.happenings if h.kind in kinds)
        return cluster in there

    def on_sale(self, sale: Sale, *kinds: str) -> bool:
        return any(h.kind in kinds and self.truth.sale(h.subject) is sale for h in self.happenings)

    def on_machine(self, machine: Machine, *kinds: str) -> bool:
        return any(h.kind in kinds and self.truth.sale(h.subject).machine is machine for h in self.happenings)


@dataclass(frozen=True, slots=True)
class ShownCluster:
    """One Proxmox cluster as a GuestSource."""

    shown: Shown
    cluster: str

    def read(self) -> ClusterReading:
        shown, name = self.shown, self.cluster
        machines = [m for m in shown.truth.machines if any(k.cluster == name for k in m.keys)]
        nodes, problems = set(NODES), list[str]()
        unread = shown.on_its_cluster(name, "swap-unread")
        if unread or shown.on_cluster(name, *UNTRUSTED):
            problems.append("not to be trusted")
            machines = [] if unread or shown.on_cluster(name, *SILENT) else machines
        if shown.on_cluster(name, "pve-node-offline", "pve-node-hidden"):
            problems.append("a node is offline")
            nodes.discard(NODES[0])
            if shown.on_cluster(name, "pve-node-hidden"):
                machines = [m for m in machines if m.node in nodes]
        guests = tuple(
            self._guest(m, key, offline=m.node not in nodes)
            for m in machines
            for key in m.keys
            if key.cluster == name and not shown.on_machine(m, "pve-hides", "pve-moves")
        )
        trusted = not unread and not shown.on_cluster(name, *UNTRUSTED)
        if trusted:
            shown.listed |= {g.key for g in guests}
            shown.powers |= {g.key: g.power for g in guests if g.power is not PowerState.UNKNOWN}
            shown.stood |= {key: m for m in machines for key in m.keys}
        complete = trusted and len(nodes) == len(NODES)
        seen = frozenset(nodes) if trusted else frozenset[str]()
        away = frozenset(NODES) - nodes
        return ClusterReading(name, guests, frozenset(NODES), seen, complete, trusted, tuple(problems), away)

    def _guest(self, machine: Machine, key: GuestKey, *, offline: bool) -> Guest:
        power = machine.power
        if self.shown.on_machine(machine, "pve-stale-status"):
            power = PowerState.STOPPED if power is PowerState.RUNNING else PowerState.RUNNING
        odd = self.shown.on_machine(machine, "odd-state")
        if odd or offline or self.shown.on_cluster(self.cluster, "pve-unknown"):
            power = PowerState.UNKNOWN
        # Some minutes after a node died the list has forgotten what its guests are called and how large they are.
        earlier = self.shown.earlier
        forgotten = offline and earlier is not None and earlier.on_cluster(self.cluster, "pve-node-offline")
        return Guest(
            key.cluster,
            key.vmid,
            machine.guest_type,
            machine.node,
            power.value,
            power,
            name=None if forgotten else machine.name,
            lock=machine.lock,
            template=machine.template,
            cores=None if forgotten else float(machine.cores),
            memory_mb=None if forgotten else 2048,
            disk_gb=None if forgotten else 20,
            uptime_s=self._uptime(machine) if self._process_shown(machine, power, odd=odd and not offline) else None,
        )

    def _process_shown(self, machine: Machine, power: PowerState, *, odd: bool) -> bool:
        """Whether the list tells how long its process has run: in an odd state, too (``postmigrate``, say)."""
        return machine.power is PowerState.RUNNING and (odd or power is PowerState.RUNNING)

    def _uptime(self, machine: Machine) -> float:
        started = machine.started_at or self.shown.truth.now - timedelta(days=30)
        return (self.shown.at - started).total_seconds()

    def config(self, node: str, guest_type: GuestType, vmid: int) -> Lookup[GuestConfig]:
        del node, guest_type
        return self._answer(vmid)

    def confirm(self, node: str, guest_type: GuestType, vmid: int) -> Lookup[GuestConfig]:
        del node, guest_type
        return self._answer(vmid)

    def _answer(self, vmid: int) -> Lookup[GuestConfig]:
        if self.shown.on_cluster(self.cluster, *UNTRUSTED) or self.shown.on_its_cluster(self.cluster, "swap-unread"):
            return Unclear("the cluster does not answer")
        key = GuestKey(self.cluster, vmid)
        machine = next((m for m in self.shown.truth.machines if key in m.keys), None)
        if machine is None:
            hidden = self.shown.on_cluster(self.cluster, "pve-node-offline", "pve-node-hidden")
            return Unclear("a node is offline") if hidden else Gone("no node has it")
        if self.shown.on_machine(machine, "pve-hides"):
            return Unclear("403: the token may not see it")
        if machine.node == NODES[0] and self.shown.on_cluster(self.cluster, "pve-node-offline", "pve-node-hidden"):
            return Unclear("595: the node cannot be reached")
        if machine.forbidden:
            return Found(GuestConfig(None, machine.node, None, None, None, forbidden=True))
        return Found(GuestConfig(machine.fingerprint, machine.node, float(machine.cores), 2048, 20))

    def health(self) -> Health:
        return Health(ok=True, detail="well")


class ShownFeed:
    """The main site's feed as an OrderFeed."""

    name = "orders"
    names_are_authoritative = True

    def __init__(self, shown: Shown) -> None:
        self.shown, self.tells_ids = shown, shown.truth.story.tells_ids

    def users(self) -> Sweep[User]:
        return Sweep(iter(()))

    def health(self) -> Health:
        return Health(ok=True, detail="well")

    def orders(
        self, updated_since: str | None = None, suspects: tuple[str, ...] = (), rolled_to: str | None = None
    ) -> Sweep[Order]:
        del suspects, rolled_to
        shown = self.shown
        sweep: Sweep[Order] = Sweep(iter(()))
        if shown.has("feed-5xx"):
            sweep.problem = "503"
            return sweep
        found = [self._order(s) for s in shown.truth.sales if s.listed and not shown.on_sale(s, "feed-hides")]
        found = [self._with_lies(o) for o in found]
        if shown.has("feed-empty"):
            found = []
        if shown.has("feed-shrunk", "feed-truncated"):
            found = found[::2]
        if shown.has("feed-ends-early"):
            found = found[:-1]
        age = None if shown.has("feed-undated") else 0.0
        if shown.has("feed-stale") and (before := self._before()) is not None:
            found, age = [order for order, _ in before.orders.values()], (shown.at - before.at).total_seconds()
        if updated_since is not None:
            since = datetime.fromisoformat(updated_since) - timedelta(seconds=shown.truth.story.skew_s)
            new = {s.order_id for s in shown.truth.sales if s.changed_at is not None and s.changed_at >= since}
            found = [o for o in found if o.order_id in new]
        shown.orders |= {o.order_id: (o, age) for o in found}
        sweep.pages = self._pages(found, age)
        sweep.count = len(found)
        if shown.has("feed-truncated", "feed-repeated", "feed-ends-early"):
            sweep.problem = "the pages do not agree"
        else:
            sweep.complete_scopes = {"all"}
            shown.whole = updated_since is None and age == 0.0
        return sweep

    def _before(self) -> Shown | None:
        """The last whole, dated answer before this one: what an old copy holds."""
        before = self.shown.earlier
        while before is not None and not (before.orders and before.whole):
            before = before.earlier
        return before

    def _pages(self, found: list[Order], age: float | None) -> Iterator[Page[Order]]:
        slow = 150.0 if self.shown.has("feed-slow") else 0.0
        half = (len(found) + 1) // 2
        yield Page(tuple(found[:half]), 0.0, age)
        yield Page(tuple(found[half:]), slow, age + slow if age is not None else None)
        if self.shown.has("feed-repeated"):
            yield Page(tuple(found[:half]), slow, age)

    def _with_lies(self, order: Order) -> Order:
        sale = next(s for s in self.shown.truth.sales if s.order_id == order.order_id)
        if self.shown.on_sale(sale, "feed-status"):
            order = self._order(sale, status="cancelled")
        if self.shown.on_sale(sale, "feed-owner"):
            order = self._order(sale, owner=str(1 + int(sale.owner) % 3))
        return order

    def _order(self, sale: Sale, **lies: str) -> Order:
        values = {"status": sale.status, "owner": sale.owner} | sale.mistake | lies
        machine, key = sale.machine, sale.machine.key if sale.on_proxmox else None
        return Order(
            sale.order_id,
            order_state_of(values["status"]),
            values["status"],
            owner=values["owner"],
            panel_vps_id=sale.panel_id if self.tells_ids else None,
            panel_vps_id_given=self.tells_ids,
            name=sale.name,
            cpu=sale.cpu,
            ram_mb=2048,
            disk_gb=20,
            os="Debian",
            ip6_address=sale.ip6_address,
            hypervisor="vmware" if machine.hidden else "proxmox",
            cluster=key.cluster if key is not None else None,
            node=machine.node if key is not None else None,
            vmid=key.vmid if key is not None else None,
            guest_type=machine.guest_type if key is not None else None,
            created_at=sale.created_at + timedelta(seconds=self.shown.truth.story.skew_s),
        )

    def order(self, order_id: str, control_id: str | None) -> Lookup[Order]:
        if self.shown.has("feed-5xx"):
            return Unclear("503")
        sale = next((s for s in self.shown.truth.sales if s.order_id == order_id and s.listed), None)
        if sale is not None:
            return Found(self._order(sale))
        return Gone("404, and the control order answers") if control_id is not None else Unclear("404")
