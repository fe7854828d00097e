"""Give the simulated main site customers and orders. A third of the calls to the panel get lost.

    python -m lab.simulators.traffic --main-site http://127.0.0.1:5060

Environment: SIM_CONTROL_KEY. It runs until a signal, and prints each step, so that one can watch the panel repair.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from types import FrameType

from lab.simulators.control import ControlError, MainSiteControl
from lab.simulators.keys import MissingSettingError, require_key
from lab.simulators.main_site.faults import CallFaultKind

CUSTOMERS = {"anna": 5, "boris": 7, "clara": 11}
"""User names and their ids in the panel, which differ from the main site's own."""


class Traffic:
    """Places, switches and cancels orders, one at each step. The call of about every third step is lost."""

    def __init__(self, site: MainSiteControl, chance: random.Random) -> None:
        self._site, self._chance = site, chance
        self._users: list[int] = []

    def step(self) -> str:
        """Do one step. Returns a sentence about it."""
        if not self._users:
            self._users = [
                self._site.add_user(username=name, email=f"{name}@example.test", panel_user_id=panel_id).id
                for name, panel_id in CUSTOMERS.items()
            ]
            return f"{len(self._users)} customers signed up"
        lost = self._chance.random() < 1 / 3
        if lost:
            self._site.fault_calls(CallFaultKind.DROP, times=1)
        sentence = self._act()
        return f"{sentence}; the call to the panel was lost" if lost else sentence

    def _act(self) -> str:
        live = [order for order in self._site.list_orders() if order.status in ("creating", "running", "stopped")]
        new = [order for order in live if order.status == "creating"]
        if new:
            self._site.set_status(new[0].id, "running")
            return f"order {new[0].id} is ready"
        if len(live) > 10:
            self._site.cancel_order(live[0].id)
            return f"order {live[0].id} was cancelled"
        if live and self._chance.random() < 0.5:
            order = self._chance.choice(live)
            status = "stopped" if order.status == "running" else "running"
            self._site.set_status(order.id, status)
            return f"order {order.id} is {status}"
        order = self._site.place_order(user_id=self._chance.choice(self._users), name=f"web-{len(live) + 1:02}")
        return f"order {order.id} was placed"


def main(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """Do steps until a signal. Returns 2 if a setting is missing."""
    parser = argparse.ArgumentParser(prog="python -m lab.simulators.traffic")
    parser.add_argument("--main-site", required=True, metavar="URL")
    parser.add_argument("--every", type=float, default=5.0, metavar="SECONDS")
    parser.add_argument("--seed", type=int)
    options = parser.parse_args(arguments)
    try:
        key = require_key(environment, "SIM_CONTROL_KEY")
    except MissingSettingError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    stopping = threading.Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        stopping.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    with MainSiteControl(options.main_site, key) as site:
        traffic = Traffic(site, random.Random(options.seed))
        while not stopping.wait(options.every):
            try:
                sys.stdout.write(traffic.step() + "\n")
            except ControlError as error:  # the main site is still starting, or busy; the next step tries again
                sys.stdout.write(f"the main site refused: {error}\n")
            sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
