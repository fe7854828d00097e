"""A customer looks at the statistics of a VPS: what is shown, and why there is nothing. The JSON route and the page ask
here, so both follow the same rules."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from api.dependencies import Edge
from api.http.problems import ProblemError
from api.operators.transactions import in_transaction
from domain.power.permission import Refusal
from domain.statistics.measurements import Point
from panel.journal.calls import DatabaseAwayError
from panel.power.facts import PowerRules
from panel.power.views import machine_now
from panel.records.client_records import client_record
from panel.statistics.requests import A_MINUTE, Kept, Wanted, ask, kept_statistics

WAIT_S = 3.0
"""How long an answer may wait for a read. Most take less than a second."""

LOOK_S = 0.25
"""Seconds between two looks at the row. Few wait, and not for long: this costs less than another connection that
listens."""

WHICH_MACHINE = "It is being checked which machine this VPS has; until then it has no statistics"

REASONS = {
    "being_read": "Proxmox is being asked; ask again in a few seconds",
    "no_measurements": "Nothing was measured yet that is certainly of this machine; it takes some minutes",
    "no_proxmox": "This VPS does not run on Proxmox VE, so it has no statistics",
    "not_read": "Proxmox did not give the statistics; they are tried again",
    "proxmox_away": "Proxmox does not answer; the statistics are tried again",
    "stopped": "The machine was off, so nothing was measured",
    "too_many_statistics": f"You caused more than {A_MINUTE} reads of statistics in one minute; ask again later",
    # The codes with which a power action is refused. The worker stores them, too, and without their sentences.
    "another_machine": WHICH_MACHINE,
    "cluster_away": "The cluster of this VPS can't be reached; the statistics are tried again",
    "facts_stale": "The state of this VPS was not confirmed lately; the statistics are tried again",
    "guest_unknown": "Proxmox does not show the machine of this VPS at the moment",
    "identity_in_doubt": WHICH_MACHINE,
    "identity_unverified": WHICH_MACHINE,
    "not_linked": WHICH_MACHINE,
    "order_not_active": "While the order of a VPS is not active, it has no statistics",
    "owner_in_doubt": "It is being checked to whom this VPS belongs; until then it has no statistics",
    "vps_changing": "This VPS is being changed; ask again in a moment",
    "vps_in_doubt": "What is known of this VPS is being checked; until then it has no statistics",
    "vps_paused": "While the provider has paused a VPS for maintenance, it has no statistics",
    "vps_quarantined": "The panel has trouble with this VPS; ask the support",
    "vps_suspended": "While a VPS is suspended, it has no statistics",
}
"""Why there is nothing, or nothing newer: code -> sentence."""

SAME = {"proxmox_silent": "proxmox_away", "failed": "not_read", "vps_unknown": "not_read"}
"""What customers need not tell apart. A VPS that did not exist when the worker looked exists again by now."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """What a customer sees. ``cores``: as ordered. ``as_of``: when Proxmox was asked; None: nothing is kept. ``stale``:
    it should be newer. ``code`` and ``reason``: why there is nothing, or nothing newer."""

    wanted: Wanted
    cores: int
    points: Sequence[Point] = ()
    as_of: datetime | None = None
    stale: bool = False
    code: str | None = None
    reason: str | None = None


async def statistics_of(edge: Edge, wanted: Wanted, began: float, *, wait_s: float = 0.0) -> Statistics:
    """The statistics as kept, and a new read of Proxmox where they are older than a minute. ``wait_s``: how long to
    wait for that read. Raises ProblemError: 404, or 429 if the customer caused too many reads and nothing is kept.

    ``began``: when the request began (``time.perf_counter``). Without a wait the answer keeps the deadline of reads.
    """
    record = await edge.read(client_record(edge.clients, wanted.user_id, wanted.vps_id), began)
    if record is None:
        raise _unknown(wanted)
    if record["hypervisor"] != "proxmox" and record["link_state"] == "unlinked":
        return _shown(wanted, record, Kept(), "no_proxmox")
    rules = PowerRules.of(edge.settings)
    allowed = await edge.read(machine_now(edge.reader, wanted.user_id, wanted.vps_id, rules), began)
    if isinstance(allowed, Refusal) and allowed.status == 404:
        raise _unknown(wanted)
    kept = await edge.read(kept_statistics(edge.reader, wanted), began)
    if isinstance(allowed, Refusal):
        # What passes leaves the last answer as it is. Anything else may mean that the machine is somebody else's.
        return _shown(wanted, record, kept if allowed.passing else Kept(), allowed.code)
    if not kept.fresh:
        try:
            left_s = edge.deadlines.left_to_read_s(time.perf_counter() - began)
            busy_for_s = await in_transaction(edge, partial(ask, wanted=wanted, target=allowed), left_s)
        except (DatabaseAwayError, ProblemError):  # as while it takes no writes, or not in time
            return _shown(wanted, record, kept, "not_read")  # what is kept can still be shown
        if busy_for_s is not None:
            if kept.read_at is not None:
                return _shown(wanted, record, kept, "too_many_statistics")
            message = f"More than {A_MINUTE} reads of statistics in one minute; try again later"
            headers = {"Retry-After": str(busy_for_s)}
            raise ProblemError(429, "too_many_statistics", message, headers=headers)
        kept = await _waited(edge, wanted, wait_s, began)
    return _shown(wanted, record, kept, _code(kept, record))


async def _waited(edge: Edge, wanted: Wanted, wait_s: float, began: float) -> Kept:
    """What is kept once the read that was asked for has ended, or after ``wait_s``."""
    kept = await edge.read(kept_statistics(edge.reader, wanted), began)
    if not wait_s or edge.statistics_waiting.locked():
        return kept
    clock = asyncio.get_running_loop().time
    async with edge.statistics_waiting:
        until = clock() + wait_s
        while kept.waits and clock() < until:
            await asyncio.sleep(LOOK_S)
            kept = await edge.read(kept_statistics(edge.reader, wanted))
    return kept


def _code(kept: Kept, record: Mapping[str, Any]) -> str | None:
    if kept.problem is not None:
        return kept.problem
    if not kept.fresh:
        return "being_read"
    if any(point.measured for point in kept.points):
        return None
    return "stopped" if record["power_state"] == "stopped" and kept.points else "no_measurements"


def _shown(wanted: Wanted, record: Mapping[str, Any], kept: Kept, code: str | None) -> Statistics:
    code = None if code is None else SAME.get(code, code)
    told = None if code is None else REASONS.get(code, REASONS["not_read"])
    stale = kept.read_at is not None and not kept.fresh
    return Statistics(wanted, record["cpu"], kept.points, kept.read_at, stale, code, told)


def _unknown(wanted: Wanted) -> ProblemError:
    return ProblemError(404, "vps_unknown", f"VPS {wanted.vps_id} does not exist")
