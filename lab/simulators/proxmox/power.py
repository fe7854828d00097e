"""Power requests as a real node answers them: QEMU accepts, and its task tells what went wrong."""

import itertools
import re
from typing import Any

POWER_PATH = re.compile(r"^/nodes/(?P<node>[^/]+)/qemu/(?P<vmid>\d+)/status/(?P<action>[a-z]+)$")
TASK_PATH = re.compile(r"^/nodes/(?P<node>[^/]+)/tasks/(?P<upid>[^/]+)/status$")
IN_TASK = re.compile(r"^VM (is locked|\d+ not running)")
# What is asked of a stopped machine and already so.
HARMLESS_WHEN_STOPPED = ("stop", "shutdown")


class LateFailures:
    """Tasks that stand for refusals: the fake refuses at once, a real node in a task."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._tasks: dict[str, dict[str, Any]] = {}

    def accept(self, place: re.Match[str], refusal: str, user: str, now: float) -> str | None:
        """The UPID of a finished task, or None if a real node refuses this at once too.

        `place` is the request's match of POWER_PATH, `now` Unix time.
        """
        if not IN_TASK.match(refusal):
            return None
        node, vmid, action = place["node"], place["vmid"], place["action"]
        number, started = next(self._numbers), int(now)
        fine = "not running" in refusal and action in HARMLESS_WHEN_STOPPED
        upid = f"UPID:{node}:{number:08X}:{number:08X}:{started:08X}:qm{action}:{vmid}:{user}:"
        self._tasks[upid] = {
            "upid": upid,
            "node": node,
            "pid": number,
            "pstart": number,
            "starttime": started,
            "type": f"qm{action}",
            "id": vmid,
            "user": user,
            "status": "stopped",
            "exitstatus": "OK" if fine else refusal.strip(),
        }
        return upid

    def status(self, upid: str) -> dict[str, Any] | None:
        """The task, if it is one of these."""
        return self._tasks.get(upid)
