"""How long a repair takes, by class of drift: from the change at its source to the journal's row, on the real stack.

Each class happens to every machine once, in an order and at moments of chance, some two changes a second. Creates come
first and deletes last, so that no VMID is reused: that has two sights of the new machine to wait for. The yardstick is
what docs/life-of-a-run.md promises; 2 s of it are the run's own.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from sqlalchemy import Connection, Engine, text

from benchmarks.live import live_panel
from benchmarks.measure import Ratio
from benchmarks.servers import Servers
from lab.simulators.main_site import MainSiteServer
from lab.simulators.main_site.model import Order
from lab.simulators.proxmox.server import ProxmoxServer
from panel.sessions import sync_engine

MACHINES = 40
NODES = 10
FAST_S, FULL_S, GRACE_S, PROOF_S = 2.0, 5.0, 2.0, 5.0
RUN_S = 2.0
PATIENCE = 6  # bounds; what takes longer counts as not repaired
POLL_S = 0.2
SEED = 1

SETTINGS = {
    "FAST_INTERVAL_S": str(FAST_S),
    "FULL_INTERVAL_S": str(FULL_S),
    "SWEEP_INTERVAL_S": "1",  # every full run reads the whole feed
    "USERS_INTERVAL_S": "5",
    "POWER_GRACE_S": "1",
    "LINK_GRACE_S": "1",
    "CREATE_GRACE_S": str(GRACE_S),
    "ABSENCE_PROOF_N": "3",
    "ABSENCE_PROOF_T_S": str(PROOF_S),
    # The limits are for accidents, and so much at once looks like one.
    "BUDGET_DELETES_RUN": "1000",
    "BUDGET_DELETES_HOUR": "1000",
    "BUDGET_DELETES_DAY": "1000",
    "BUDGET_CREATES_MIN": "1000",
    "BUDGET_FLIPS_MIN": "1000",
    "BUDGET_OWNERS_RUN": "1000",
    "BUDGET_OWNERS_DAY": "1000",
}


@dataclass(slots=True)
class Outside:
    """The two simulators."""

    site: MainSiteServer
    pve: ProxmoxServer


Make = Callable[[Outside, Order], None]


@dataclass(frozen=True, slots=True)
class Drift:
    """A class: how it comes about, the repair's kind and result (for LIKE) in the journal, its bound in seconds."""

    name: str
    make: Make
    kind: str
    result: str
    bound_s: float
    bound: str


def _power(status: str) -> Make:
    def make(outside: Outside, order: Order) -> None:
        outside.pve.set_status(_vmid(order), status)

    return make


def _suspend(outside: Outside, order: Order) -> None:
    outside.site.set_status(order.id, "suspended", notify=False)


def _resize(outside: Outside, order: Order) -> None:
    outside.site.change_order(order.id, name=f"{order.name}-new", cpu=order.cpu + 2)


def _migrate(outside: Outside, order: Order) -> None:
    guest = outside.pve.find_guest(_vmid(order))
    if guest is None:
        raise RuntimeError(f"the guest of {order.name} is gone")
    number = int(guest.node.removeprefix("pve"))
    outside.pve.migrate(guest.vmid, f"pve{number % NODES + 1}")


def _give_away(outside: Outside, order: Order) -> None:
    outside.site.change_order(order.id, user_id=order.user_id % MACHINES + 1)


def _cancel(outside: Outside, order: Order) -> None:
    outside.site.cancel_order(order.id, notify=False)


def _vmid(order: Order) -> int:
    if order.vmid is None:
        raise RuntimeError(f"{order.name} has no guest")
    return order.vmid


STOP = Drift("running -> stopped", _power("stopped"), "missed-status", "running -> stopped", 2 * FAST_S, "2 fast")
START = Drift("stopped -> running", _power("running"), "missed-status", "stopped -> running", FAST_S, "1 fast")
RESIZE = Drift("missed rename and resize", _resize, "plan", "changed cpu, name", FULL_S, "1 full")
MIGRATE = Drift("migration", _migrate, "link", "changed node", FULL_S, "1 full")
OWNER = Drift("owner", _give_away, "ownership", "changed user_id", 2 * FULL_S, "2 full")
SUSPEND = Drift("missed suspension", _suspend, "missed-status", "% -> suspended", FULL_S, "1 full")
CANCEL = Drift("missed delete", _cancel, "missed-delete", "deleted", FAST_S + PROOF_S + FULL_S, "fast + proof + full")
CREATE = Drift(
    "missed create",
    lambda *_: None,
    "missed-create",
    "created running",
    FULL_S + GRACE_S + FULL_S,
    "full + grace + full",
)
DRIFTS = (START, STOP, SUSPEND, CREATE, CANCEL, MIGRATE, RESIZE, OWNER)


@dataclass(slots=True)
class Machine:
    """One VPS and what is still to happen to it. ``since``: when the drift under way was made."""

    order_id: int
    todo: list[Drift]
    vps_id: int | None = None
    next_at: float = 0.0
    since: datetime | None = None
    last_operation: int = 0


@dataclass(slots=True)
class Taken:
    """Seconds by class, and what was never repaired."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: {drift.name: [] for drift in DRIFTS})
    missed: dict[str, int] = field(default_factory=lambda: dict.fromkeys((drift.name for drift in DRIFTS), 0))


def measure(servers: Servers) -> list[Ratio]:
    """The slowest repair of each class against its bound; the distribution is in the text."""
    url = servers.database()
    engine = sync_engine(url, "panel-sync bench")
    try:
        with live_panel(servers, url, NODES, SETTINGS) as panel:
            outside = Outside(panel.site, panel.pve)
            machines = _sell(outside, engine)
            taken = _play(outside, engine, machines)
    finally:
        engine.dispose()
    return [_ratio(drift, taken.seconds[drift.name], taken.missed[drift.name]) for drift in DRIFTS]


def _sell(outside: Outside, engine: Engine) -> list[Machine]:
    """Everybody's machine, running, linked and identified; each customer has one."""
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM users"))
    for number in range(1, MACHINES + 1):
        outside.site.add_user(username=f"user{number}", email=f"user{number}@example.test", panel_user_id=number)
    _until(engine, "SELECT count(*) FROM users WHERE main_site_user_id IS NOT NULL", MACHINES, "users to be imported")
    order_ids = []
    for number in range(1, MACHINES + 1):
        order = outside.site.place_order(user_id=number, name=f"vps-{number}")
        outside.site.set_status(order.id, "running")
        outside.pve.migrate(_vmid(order), f"pve{number % NODES + 1}")
        order_ids.append(order.id)
    converged = "SELECT count(*) FROM vps WHERE link_state = 'verified' AND order_id IS NOT NULL AND status = 'running'"
    _until(engine, converged, MACHINES, "machines to be converged")
    chance = random.Random(SEED)
    machines = []
    for order_id in order_ids:
        todo = [STOP, RESIZE, MIGRATE, OWNER]
        chance.shuffle(todo)
        todo.insert(chance.randint(todo.index(STOP) + 1, len(todo)), START)
        machines.append(Machine(order_id, [*todo, SUSPEND, CANCEL]))
    return machines


def _play(outside: Outside, engine: Engine, machines: list[Machine]) -> Taken:
    chance, taken = random.Random(SEED), Taken()
    began = time.monotonic()
    for machine in machines:
        machine.next_at = began + chance.uniform(0, FULL_S)
    births = sorted(began + chance.uniform(0, 4 * FULL_S) for _ in range(MACHINES))
    newborn: list[Machine] = []
    with engine.connect() as connection:
        while births or any(machine.todo for machine in [*machines, *newborn]):
            now = time.monotonic()
            while births and births[0] <= now:
                births.pop(0)
                newborn.append(_bear(outside, len(newborn) + 1))
            for machine in [*machines, *newborn]:
                _advance(outside, connection, machine, now, chance, taken)
            connection.rollback()
            time.sleep(POLL_S)
    return taken


def _bear(outside: Outside, number: int) -> Machine:
    """An order whose calls are all lost."""
    since = datetime.now(UTC)
    order = outside.site.place_order(user_id=number, name=f"lost-{number}", notify=False)
    outside.site.set_status(order.id, "running", notify=False)
    return Machine(order.id, [CREATE], since=since)


def _advance(
    outside: Outside, connection: Connection, machine: Machine, now: float, chance: random.Random, taken: Taken
) -> None:
    """Make the machine's next drift when it is due, or look whether the one under way was repaired."""
    if not machine.todo:
        return
    drift = machine.todo[0]
    if machine.since is None:
        if now >= machine.next_at:
            found = text("SELECT coalesce(max(id), 0) FROM operations")
            machine.last_operation = connection.scalar(found) or 0
            machine.since = datetime.now(UTC)
            drift.make(outside, outside.site.get_order(machine.order_id))
        return
    repaired = connection.scalar(
        text(REPAIRED),
        {"order": str(machine.order_id), "after": machine.last_operation, "kind": drift.kind, "result": drift.result},
    )
    waited = (datetime.now(UTC) - machine.since).total_seconds()
    if repaired is None and waited < PATIENCE * drift.bound_s:
        return
    if repaired is None:
        taken.missed[drift.name] += 1
        machine.todo.clear()  # what rests on it would be measured wrongly
        return
    taken.seconds[drift.name].append((repaired - machine.since).total_seconds())
    machine.todo.pop(0)
    pause_s = chance.uniform(0, FULL_S)
    if machine.todo[:1] == [CANCEL]:  # to be asked for singly, each by a dozen questions: a few a run, as in life
        pause_s += chance.uniform(4, 10) * FULL_S
    machine.since, machine.next_at = None, now + pause_s


REPAIRED = """
SELECT o.applied_at FROM operations o JOIN vps r ON r.id = o.vps_id
WHERE r.order_id = :order AND o.kind = 'repair' AND o.id > :after
  AND o.evidence ->> 'kind' = :kind AND o.result LIKE :result
ORDER BY o.id LIMIT 1
"""


def _until(engine: Engine, question: str, answer: int, what: str, timeout_s: float = 180.0) -> None:
    deadline = time.monotonic() + timeout_s
    while True:
        with engine.connect() as connection:
            found = connection.scalar(text(question))
        if found == answer:
            return
        if time.monotonic() > deadline:
            raise RuntimeError(f"waited {timeout_s:g} s for {answer} {what}: {found}")
        time.sleep(POLL_S)


def _ratio(drift: Drift, seconds: Iterable[float], missed: int) -> Ratio:
    bound_s = drift.bound_s + RUN_S
    taken = sorted(seconds)
    what = f"repair of {drift.name}, min / median / p95 / max of {len(taken)} (max / {drift.bound} + {RUN_S:g} s)"
    if missed:
        what += f"; {missed} not repaired"
    if not taken:
        return Ratio(what, "none", f"{bound_s:g} s", float("inf"))
    p95 = taken[min(len(taken) - 1, int(0.95 * len(taken)))]
    ours = f"{taken[0]:.1f} / {statistics.median(taken):.1f} / {p95:.1f} / {taken[-1]:.1f} s"
    return Ratio(what, ours, f"{bound_s:g} s", taken[-1] / bound_s)
