"""Every page of both panels, with something of each kind on it."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from typing import Any

from fastapi import APIRouter
from sqlalchemy import text
from starlette.routing import Match

import api
from api.pages.rendering import PageRoute
from domain.failures import Failure, Stage
from panel.operators.quarantine import note_failures
from tests.browser.support.shop import BORIS, CLARA, Customer, HeldSet, Shop, Sold
from tests.support.waiting import wait_until

NO_PAGES = {"/language/{code}", "/ops/money/{subject}.csv"}
"""One only sends the browser back, in another language. The other is a file."""


@dataclass(frozen=True, slots=True)
class Stop:
    """One page. ``visitor``: who looks at it: a customer, the name of an operator, or nobody."""

    path: str
    visitor: Customer | str | None
    status: int = 200


@dataclass(slots=True)
class Tour:
    """``visited``: the routes that the stops lead to."""

    stops: list[Stop]
    visited: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        routes = list(page_routes())
        for stop in self.stops:
            scope = {"type": "http", "method": "GET", "path": stop.path.partition("?")[0], "root_path": ""}
            self.visited |= {route.path for route in routes if route.matches(scope)[0] is Match.FULL}


def page_routes() -> Iterator[PageRoute]:
    """Every GET route of the API that answers with a page, whichever module it is in."""
    for module in pkgutil.walk_packages(api.__path__, "api."):
        for router in vars(import_module(module.name)).values():
            if isinstance(router, APIRouter):
                routes = [route for route in router.routes if isinstance(route, PageRoute)]
                yield from (route for route in routes if "GET" in (route.methods or ()))


def set_out(shop: Shop, annas: Sold, held: HeldSet) -> Tour:
    """Bring something of each kind about, and name the pages that show it."""
    (without_machine,) = shop.sell(BORIS, "boris-lost", create_guest=False)
    (suspended,) = shop.sell(BORIS, "boris-unpaid", status="suspended")
    (stopped,) = shop.sell(BORIS, "boris-off", status="stopped", ip6_address="2001:db8::22")
    (new,) = shop.sell(BORIS, "boris-new", status="creating")
    (deleted,) = shop.sell(BORIS, "boris-former")
    shop.world.site.cancel_order(deleted.order_id)
    shop.world.pve.add_guest(9100, name="nobodys-either")
    _failures(shop, stopped)
    _adoptions(shop)
    _money_and_drift(shop, suspended, stopped)
    _pauses(shop)
    what_if = _what_if(shop)
    customers = [
        Stop("/sign-in", None),
        Stop("/sign-in?signed-out", None),
        Stop("/sign-in?user_id=0", None, 400),
        Stop("/", BORIS),
        Stop("/?q=boris", BORIS),
        Stop("/?q=nothing-of-this-name", BORIS),
        Stop("/", CLARA),
        *(Stop(vps.path, BORIS) for vps in (without_machine, suspended, stopped, new)),
        Stop(annas.path, BORIS, 404),
    ]
    operators = [
        "/ops", "/ops/held", held.path, f"{held.path}/approve", f"{held.path}/reject", "/ops/findings",
        "/ops/findings?class=unmanaged-guest&all=true", "/ops/vps", f"/ops{annas.path}", f"/ops{without_machine.path}",
        f"/ops{deleted.path}", f"/ops{held.gone[0].path}", "/ops/runs", "/ops/runs?kind=full", "/ops/sources",
        "/ops/dead", "/ops/pauses", "/ops/quarantine", "/ops/audit", "/ops/audit?refused=true", "/ops/inbox",
        "/ops/inbox?all=true", "/ops/inbox/orders", "/ops/inbox/adoptions", "/ops/inbox/adoptions?ended=true",
        "/ops/drift", "/ops/coverage", "/ops/money", "/ops/money/running-unpaid", "/ops/money/paid-missing",
        "/ops/deleted", "/ops/operations", "/ops/operations?state=dead", "/ops/what-if", f"/ops/what-if/{what_if}",
        "/ops/what-if/deletes", "/ops/webhooks", "/ops/webhooks?state=dead",
    ]  # fmt: skip
    return Tour([
        *customers,
        Stop("/ops/sign-in", None),
        *(Stop(path, "olga") for path in operators),
        Stop("/ops/vps/999999999", "olga", 404),
    ])  # fmt: skip


DEAD_CALL = """
WITH q AS (UPDATE vps_queues SET last_seq = last_seq + 1, applied_seq = last_seq + 1 WHERE vps_id = :id RETURNING *)
INSERT INTO operations (kind, action, vps_id, seq, source, state, payload, attempts, error, applied_at)
SELECT 'sync', 'update', vps_id, last_seq, 'sync', 'dead', jsonb_build_object('id', vps_id), 5,
  'DataError (SQLSTATE 22003)', clock_timestamp() FROM q
"""
"""An update that was given up."""


def _failures(shop: Shop, vps: Sold) -> None:
    """A call of this VPS that was given up, and a subject at which runs keep failing."""
    with shop.panel.engine.begin() as connection:
        connection.execute(text(DEAD_CALL), {"id": vps.vps_id})
        run_id = connection.scalar(text("SELECT max(id) FROM runs"))
        assert run_id is not None
        note_failures(connection, run_id, [Failure("order:none", Stage.WRITE, "DataError (SQLSTATE 22003)")])


def _adoptions(shop: Shop) -> None:
    """One that was withdrawn. The guest and its order are free again."""
    (order,) = shop.sell(BORIS, "boris-adopts", create_guest=False)
    guest = shop.world.pve.add_guest(9101, name="boris-adopts")
    seen = wait_until(partial(_in_inbox, shop, guest.vmid), "the inbox to show the guest and its identity")
    named = {name: seen[name] for name in ("cluster", "vmid", "guest_type", "fingerprint")}
    adoption = shop.asks("olga", "adopt", named | {"vps": order.vps_id, "reason": "the customer named it"})
    shop.asks("olga", f"adoptions/{adoption['id']}/withdraw", {"reason": "it is another machine"})


def _in_inbox(shop: Shop, vmid: int) -> Any:
    """The guest, once the panel knows which machine it is."""
    listed = shop.told("olga", "inbox")
    return next((guest for guest in listed if guest["vmid"] == vmid and guest["fingerprint"]), None)


def _money_and_drift(shop: Shop, suspended: Sold, differs: Sold) -> None:
    """A machine that runs unpaid, and a record that differs from its order because runs leave it alone."""
    shop.world.pve.set_status(shop.vmid(suspended), "running")
    shop.asks(
        "olga", "pause", {"target": f"vps:{differs.vps_id}", "reason": "its plan is under dispute", "for_s": 3600}
    )
    shop.world.site.change_order(differs.order_id, cpu=16)
    for subject, what in (("money/running-unpaid", "unpaid"), ("drift", "different")):
        wait_until(partial(_has_rows, shop, subject), f"the reports to show what is {what}")


def _has_rows(shop: Shop, report: str) -> bool:
    return bool(shop.told("olga", report)["rows"])


def _what_if(shop: Shop) -> int:
    """The id of a what-if that is answered."""
    asked = shop.asks("olga", "what-if", {"policy": {"orphan": "hold"}})
    statement = "SELECT 1 FROM what_ifs WHERE id = :id AND state = 'done'"
    wait_until(lambda: shop.panel.rows(statement, id=asked["id"]), "the what-if to be answered")
    return int(asked["id"])


def _pauses(shop: Shop) -> None:
    """Olga lets a customer alone who has no VPS."""
    shop.asks("olga", "pause", {"target": "user:6", "reason": "they move to another cluster", "for_s": 86400})
