"""Make customers, their first machines and the load on a rig, then play a schedule on it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from sqlalchemy import text

from lab.chaos.calls import TIMEOUT_S
from lab.chaos.load import Load
from lab.chaos.play import Play, Progress, no_progress
from lab.chaos.poison import Poisoner
from lab.chaos.proofs.answers import ANSWER_S
from lab.chaos.report import Outcome
from lab.chaos.rig import Rig
from lab.chaos.schedule import Schedule
from lab.chaos.world import CUSTOMERS, Sale, World
from runtime.errors import NotReadyError

FIRST_SALES = 6
READY_S = 120.0
POLL_S = 0.05


def perform(
    rig: Rig,
    schedule: Schedule,
    *,
    rate: float = 0.0,
    loaded: int = 20,
    callers: int = 4,
    answer_s: float = ANSWER_S,
    progress: Progress = no_progress,
) -> Outcome:
    """Fill the schedule's worlds and play it.

    ``rate``: calls a second beside those of the schedule. They are about ``loaded`` machines that the schedule leaves
    alone. ``answer_s``: how long any answer to them may take. Raises NotReadyError if the panel does not import the
    customers or does not accept these machines.
    """
    worlds = [_world(rig) for _ in range(schedule.worlds)]
    quiet = _world(rig)
    _wait(rig, "the customers to be imported", lambda: _imported(rig, [*worlds, quiet]))
    for world in worlds:
        for n in range(FIRST_SALES):
            world.buy(n)
    key = rig.settings.vps_sync_api_key.get_secret_value()
    _, poisoned = _accepted(rig, quiet, quiet.buy(0))
    operators = rig.settings.ops_api_key.get_secret_value()
    rig.poisoner = Poisoner(rig.url, key, operators, rig.redis.url, rig.database, poisoned)
    rig.poisoner.start()
    load = None
    if rate:
        sales = [_accepted(rig, quiet, quiet.buy(n)) for n in range(loaded)]
        load = Load(rig.url, key, sales, rate, callers, max(TIMEOUT_S, answer_s))
    return Play(rig, schedule, [*worlds, quiet], load, progress, answer_s).run()


def _world(rig: Rig) -> World:
    world = World(rig.next_world, rig.site, rig.clusters)
    world.add_customers(rig.next_panel_id)
    rig.next_world += 1
    rig.next_panel_id += CUSTOMERS
    return world


def _imported(rig: Rig, worlds: Iterable[World]) -> bool:
    wanted = {owner.panel_id for world in worlds for owner in world.owners}
    with rig.database.connect() as connection:
        known = connection.scalars(text("SELECT id FROM users WHERE main_site_user_id IS NOT NULL"))
        return wanted <= set(known)


def _accepted(rig: Rig, world: World, sale: Sale) -> tuple[Sale, int]:
    vps_id = world.site.get_order(sale.order_id).panel_vps_id
    if vps_id is None:
        raise NotReadyError(f"the panel did not accept {sale.name}")
    rig.check()
    return sale, vps_id


def _wait(rig: Rig, what: str, done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + READY_S
    while not done():
        rig.check()
        if time.monotonic() > deadline:
            raise NotReadyError(f"not within {READY_S:g} s: {what}")
        time.sleep(POLL_S)
