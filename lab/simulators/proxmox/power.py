"""Power requests, answered as a real node does: it accepts the request, and the task says what went wrong."""

import itertools
import re
from typing import Any

POWER_PATH = re.compile(r"^/nodes/(?P<node>[^/]+)/qemu/(?P<vmid>\d+)/status/(?P<action>[a-z]+)$")
TASK_PATH = re.compile(r"^/nodes/(?P<node>[^/]+)/tasks/(?P<upid>[^/]+)/status$")
IN_TASK = re.compile(r"^VM (is locked|\d+ not running)")
# Actions that change nothing on a stopped machine, so their task ends well.
HARMLESS_WHEN_STOPPED = ("stop", "shutdown")


class LateFailures:
    """Tasks made of refusals: fakepve refuses at once, but a real node refuses in a task."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._tasks: dict[str, dict[str, Any]] = {}

    def accept(self, place: re.Match[str], refusal: str, user: str, now: float) -> str | None:
        """The UPID of a finished task, or None if a real node also refuses this at once.

        `place` is the request's match of POWER_PATH, `now` is Unix time.
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
        """The task of this UPID, if it is one of these tasks."""
        return self._tasks.get(upid)
