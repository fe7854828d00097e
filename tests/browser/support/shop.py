"""A small hoster with everything running: a main site that sells, a Proxmox cluster, the panel, and its people."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import text

from domain.record_columns import STATUSES
from runtime.processes.free_ports import free_port
from tests.integration.api.pages.conftest import signed
from tests.support.databases import Database
from tests.support.fleets.looked_at import known_for
from tests.support.keys import random_key
from tests.support.live_panel import QUICK, LivePanel, Outside, live_panel, outside
from tests.support.stand_ins.webhook_receiver import SECRET
from tests.support.waiting import PATIENCE_S, wait_until

MAIN_SITE = "https://shop.example/my"
"""Where the pages lead back to. Nothing answers there but what a test puts there."""


@dataclass(frozen=True, slots=True)
class Customer:
    """A customer of the hoster. The main site's id and the panel's id differ."""

    site_id: int
    user_id: int
    name: str

    @property
    def email(self) -> str:
        return f"{self.name}@shop.example"


# The first two users of the main site are those of ``outside``.
CUSTOMERS = tuple(
    Customer(number, number + 4, name)
    for number, name in enumerate(("anna", "boris", "clara", "dora", "emil", "frida", "gleb", "hanna"), start=3)
)
ANNA, BORIS, CLARA, DORA, EMIL, FRIDA, GLEB, HANNA = CUSTOMERS

SHOWN = """
SELECT 1 FROM vps
WHERE id = ANY(:ids) AND status = ANY(:statuses)
  AND (NOT :sure OR (link_state = 'verified' AND EXISTS (
    SELECT 1 FROM guests g JOIN orders_seen o ON (o.cluster, o.vmid) = (g.cluster, g.vmid)
    WHERE g.cluster = vps.cluster AND g.vmid = vps.vmid AND g.fingerprint_state = 'read'
      AND o.order_id = vps.order_id)))
HAVING count(*) = :count
"""
"""A machine is sure once the feed named it, too: its first word puts the machine in doubt, and the buttons go for some
seconds."""

TWO_OPERATORS_ABOVE = 2
"""Who would lose more VPS than this at once loses them by the word of two operators only."""

OWN_PLACES = (("pve2", 7000), ("pve3", 8000), ("pve1", 6000))
"""A node and the first VMID of machines whose VMIDs nobody gets after them: a new machine at the place of one that
ended is a case of its own."""

OPERATORS = {"olga": "operate", "oleg": "operate", "rita": "read"}
"""By name, with their role. Two may decide, one may only look."""


@dataclass(frozen=True, slots=True)
class Sold:
    """A VPS as the main site and the panel name it."""

    order_id: int
    vps_id: int
    name: str

    @property
    def path(self) -> str:
        """Its page for customers. Operators find it below ``/ops``."""
        return f"/vps/{self.vps_id}"


@dataclass(frozen=True, slots=True)
class HeldSet:
    """Deletes that a run holds because their customer would lose too many at once. ``gone``: the VPS."""

    hash: str
    gone: tuple[Sold, ...]

    @property
    def path(self) -> str:
        return f"/ops/held/{self.hash}"


@dataclass(frozen=True, slots=True)
class Shop:
    """``keys``: of the operators, by name."""

    panel: LivePanel
    world: Outside
    database: Database
    link_secret: str
    keys: dict[str, str]
    links_made: set[tuple[str, int]] = field(default_factory=set)

    def link(self, customer: Customer, ago_s: float = 0) -> str:
        """A sign-in link as the main site signs it, ``ago_s`` seconds ago, or a little earlier: two of one second would
        be the same link, and a link works once."""
        while (customer.name, int(time.time() - ago_s)) in self.links_made:
            ago_s += 1
        self.links_made.add((customer.name, int(time.time() - ago_s)))
        return signed(self.link_secret, customer.user_id, customer.name, customer.email, ago_s)

    def sell(
        self,
        customer: Customer,
        *names: str,
        status: str = "running",
        at: tuple[str, int] | None = None,
        **facts: Any,
    ) -> list[Sold]:
        """New VPS with that status, once the panel shows them and is sure of their machines. ``facts``: of each order.
        ``at``: the node and the VMID of the first; without it the cluster chooses.

        With ``create_guest=False`` there is no machine to be sure of, whatever the panel shows.
        """
        machine, sold = facts.pop("create_guest", True), list[Sold]()
        for number, name in enumerate(names):
            order = self.world.site.place_order(
                user_id=customer.site_id, name=name, create_guest=machine and at is None, **facts
            )
            if at is not None:
                guest = self.world.pve.add_guest(at[1] + number, node=at[0], name=name)
                cluster = self.world.pve.name
                self.world.site.change_order(order.id, cluster=cluster, node=guest.node, vmid=guest.vmid)
            if status != "creating":
                self.world.site.set_status(order.id, status)
            if machine and status == "running":
                # One that was started just now may be another one until its configuration was read again.
                self.world.pve.set_uptime(self._vmid(order.id), 3600)
            vps_id = self.world.site.get_order(order.id).panel_vps_id
            assert vps_id is not None, f"the call of {name} was not answered"
            sold.append(Sold(order.id, vps_id, name))
        asked = {
            "ids": [vps.vps_id for vps in sold],
            "count": len(sold),
            "statuses": [status] if machine else list(STATUSES),
            "sure": machine and status != "creating",
        }
        wait_until(partial(self.panel.rows, SHOWN, **asked), f"{', '.join(names)} of {customer.name} to be {status}")
        return sold

    def hold_deletes(self, *customers: tuple[Customer, int]) -> list[HeldSet]:
        """End so many VPS of each customer without a call, and leave one, so that a run holds the deletes: one set for
        each.

        The machines of each are on a node of their own, or the limit of the node would hold all in one set. Sources
        that stand still meanwhile show both ends at once. Else a run might see one of them alone and delete it.
        """
        names = ("web", "shop", "backup", "cache")
        fleets = [
            self.sell(one, *(f"{one.name}-{name}" for name in names[: count + 1]), at=place)
            for (one, count), place in zip(customers, OWN_PLACES, strict=True)
        ]
        self.world.site.freeze_feed()
        self.world.pve.freeze_list()
        for _, *gone in fleets:
            for vps in gone:
                self.world.site.cancel_order(vps.order_id, notify=False)
        self.world.pve.freeze_list(frozen=False)
        self.world.site.freeze_feed(frozen=False)
        return [self._held(one, gone) for (one, _), (_, *gone) in zip(customers, fleets, strict=True)]

    def _held(self, customer: Customer, gone: list[Sold]) -> HeldSet:
        statement = (
            "SELECT plan_hash FROM holds"
            " WHERE scope = :scope AND decision IS NULL AND jsonb_array_length(items) = :count"
        )
        asked = {"scope": f"deletes:user:{customer.user_id}", "count": len(gone)}
        found = wait_until(lambda: self.panel.rows(statement, **asked), f"the deletes of {customer.name} to be held")
        return HeldSet(found[0]["plan_hash"], tuple(gone))

    def asks(self, name: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """What the panel answers an operator's program that asks for this."""
        return self._by_program("POST", name, path, json=body)

    def told(self, name: str, path: str) -> Any:
        """What the panel shows an operator's program."""
        return self._by_program("GET", name, path)

    def _by_program(self, verb: str, name: str, path: str, **body: Any) -> Any:
        url, headers = f"{self.panel.url}/api/ops/{path}", {"X-API-Key": self.keys[name]}
        answer = httpx.request(verb, url, headers=headers, trust_env=False, timeout=PATIENCE_S, **body)
        assert answer.is_success, answer.text
        return answer.json().get("data")

    def age_reads_of_proxmox(self, minutes: int) -> None:
        """Let the last look at all machines be so many minutes older. Proxmox must be away, or it looks again."""
        with self.panel.engine.begin() as connection:
            for table, column in (("scopes", "began_at"), ("vps", "power_as_of")):
                statement = f"UPDATE {table} SET {column} = {column} - make_interval(mins => :minutes)"
                connection.execute(text(statement), {"minutes": minutes})

    def has_run_for(self, vps: Sold, days: int) -> None:
        """Let the machine have been measured for so many days, and the panel have known for as long whose it is."""
        self.world.pve.set_measured(self.vmid(vps), since_s=days * 86400)
        known_for(self.panel.engine, days * 86400, vps.vps_id)
        earlier = "UPDATE operations SET applied_at = applied_at - make_interval(days => :days) WHERE vps_id = :id"
        with self.panel.engine.begin() as connection:
            connection.execute(text(earlier), {"days": days, "id": vps.vps_id})

    def power(self, vps: Sold) -> str:
        """The machine as it really is."""
        guest = self.world.pve.find_guest(self.vmid(vps))
        assert guest is not None
        return guest.status

    def status(self, vps: Sold) -> str:
        """As its record has it."""
        return str(self.panel.rows("SELECT status FROM vps WHERE id = :id", id=vps.vps_id)[0]["status"])

    def await_runs(self) -> None:
        """Two whole runs, which began after this, come to their end."""
        (before,) = self.panel.rows("SELECT max(id) AS id FROM runs")
        statement = "SELECT 1 FROM runs WHERE id > :id AND kind = 'full' AND finished_at IS NOT NULL OFFSET 1"
        wait_until(lambda: self.panel.rows(statement, id=before["id"]), "two runs to end")

    def has_long_run(self, vps: Sold) -> None:
        """The machine was started an hour ago, so that it has the buttons that cut its power."""
        self.world.pve.set_uptime(self.vmid(vps), 3600)
        self.await_runs()

    def vmid(self, vps: Sold) -> int:
        """Of its machine."""
        return self._vmid(vps.order_id)

    def _vmid(self, order_id: int) -> int:
        found = self.world.site.get_order(order_id).vmid
        assert found is not None
        return found


@contextmanager
def open_shop(database: Database, directory: Path, **environment: str) -> Iterator[Shop]:
    """Start all of it. ``environment``: more settings of the panel."""
    secret, keys = random_key(), {name: random_key() for name in OPERATORS}
    operators = [{"name": name, "role": role, "key": keys[name]} for name, role in OPERATORS.items()]
    with outside() as world:
        for customer in CUSTOMERS:
            user = world.site.add_user(username=customer.name, email=customer.email, panel_user_id=customer.user_id)
            assert user.id == customer.site_id
        given = QUICK | world.environment() | {
            "POWER_ACTIONS": "true",
            "SIGN_IN_SECRET": secret,
            "SIGN_IN_URL": MAIN_SITE,
            "OPS_API_KEYS": json.dumps(operators),
            "SECOND_APPROVAL_ABOVE": str(TWO_OPERATORS_ABOVE),
            "MAIN_SITE_WEBHOOK_URL": f"http://127.0.0.1:{free_port()}/events",
            "MAIN_SITE_WEBHOOK_SECRET": SECRET,
        }  # fmt: skip
        with live_panel(database, directory, environment=given | environment, statistics=True) as panel:
            shop = Shop(panel, world, database, secret, keys)
            panel.wait_users(2 + len(CUSTOMERS))
            yield shop
