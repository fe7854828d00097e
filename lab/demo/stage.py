"""Everything that the scenes act on, and how they wait: until something happens, with a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from lab.demo.errors import DemoError
from lab.demo.journal import Journal
from lab.demo.panel_client import PanelClient, Record
from lab.demo.screen import Screen, Sight
from lab.demo.truth import difference
from lab.demo.world import CUSTOMERS, Customer
from lab.simulators.control import MainSiteControl, ProxmoxControl
from lab.simulators.main_site.model import Order
from lab.simulators.proxmox.guests import Guest
from panel.settings import Settings
from runtime.processes.supervisor import ManagedProcess, Supervisor
from runtime.servers.embedded_redis import EmbeddedRedis

POLL_S = 0.1


@dataclass(slots=True)
class Stage:
    """The running processes, their controls, and what was seen so far."""

    settings: Settings
    outside: Supervisor
    parts: Supervisor
    redis: EmbeddedRedis
    site: MainSiteControl
    clusters: Mapping[str, ProxmoxControl]
    panel: PanelClient
    journal: Journal
    screen: Screen
    sights: list[Sight] = field(default_factory=list)

    # --- waiting

    def until(
        self,
        expected: str,
        done: Callable[[], bool],
        *,
        within_s: float = 180.0,
        progress: Callable[[], str] | None = None,
        seen: Callable[[], str] = lambda: "not yet",
        logs: tuple[str, ...] = ("worker-reconcile", "worker-sync", "api"),
    ) -> float:
        """Wait until `done`. Returns how many seconds it took.

        `progress` gives the text of the live line, `seen` the text about what is missing at the deadline. Raises
        DemoError at the deadline, and ProcessDiedError if any process ends.
        """
        began = time.monotonic()
        with self.screen.waiting(expected) as waiting:
            while not done():
                self.check()
                if time.monotonic() - began > within_s:
                    raise DemoError(f"{expected} within {within_s:g} s", seen(), logs)
                if progress is not None:
                    waiting.show(progress())
                time.sleep(POLL_S)
        return time.monotonic() - began

    def until_true(self, expected: str) -> float:
        """Wait until every client sees the truth. Returns how many seconds it took."""
        return self.until(expected, lambda: not self.differences(), seen=lambda: "; ".join(self.differences()))

    def check(self) -> None:
        """Raise ProcessDiedError, with the log's last lines, if any process has ended."""
        self.outside.check()
        self.parts.check()

    @contextmanager
    def paused(self, *names: str) -> Iterator[None]:
        """Pause processes of the panel as long as the block lasts."""
        stopped: list[ManagedProcess] = []
        try:
            for name in names:
                process = self.parts.process(name)
                stopped.append(process)
                process.pause()
            yield
        finally:
            for process in stopped:
                process.resume()

    def tails(self, names: tuple[str, ...], lines: int = 15) -> list[tuple[str, list[str]]]:
        """The last lines of the named processes' logs."""
        processes = {process.name: process for process in (*self.outside.processes, *self.parts.processes)}
        return [(f"{name} ({processes[name].log_path})", processes[name].tail(lines)) for name in names]

    # --- the beginning

    def add_customers(self) -> None:
        """Register the customers at the main site, so that they can sign in before the first scene."""
        for customer in CUSTOMERS:
            self.site.add_user(username=customer.username, email=customer.email, panel_user_id=customer.panel_id)

    # --- looking

    def order(self, name: str) -> Order | None:
        """The main site's order of that name; names are unique here."""
        return next((order for order in self.site.list_orders() if order.name == name), None)

    def existing(self, name: str) -> Order:
        """Like `order`, but raises DemoError if there is none."""
        order = self.order(name)
        if order is None:
            raise DemoError(f"the main site has an order {name}", "none", ("main-site",))
        return order

    def customer(self, order: Order) -> Customer:
        """The order's customer."""
        return next(customer for customer in CUSTOMERS if customer.main_site_id == order.user_id)

    def guest(self, order: Order) -> Guest | None:
        """The order's guest, as the simulated cluster has it."""
        if order.cluster is None or order.vmid is None:
            return None
        return self.clusters[order.cluster].find_guest(order.vmid)

    def shown(self, order: Order) -> list[Record]:
        """The order's records as its owner sees them."""
        return self.panel.named(self.customer(order).panel_id, order.name)

    def vps_id(self, name: str) -> int:
        """The id of the VPS of that name. Raises DemoError unless its client sees exactly one."""
        shown = self.shown(self.existing(name))
        if len(shown) != 1:
            raise DemoError(f"the client sees one {name}", f"{len(shown)} of them")
        return int(shown[0]["id"])

    def difference(self, name: str) -> str | None:
        """What is wrong in the client's view of that order, or None."""
        order = self.order(name)
        return None if order is None else difference(order, self.guest(order), self.shown(order))

    def differences(self) -> list[str]:
        """What is wrong in all clients' views."""
        sentences = (self.difference(order.name) for order in self.site.list_orders())
        return [sentence for sentence in sentences if sentence is not None]
