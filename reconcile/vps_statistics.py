"""Reads the statistics of a VPS: checks whose machine it is, asks Proxmox, and keeps what is its customer's own.

The rules are those of power actions: while anything stands against switching a machine, nothing is read of it. The
measurements of a VMID may begin with another machine's, so they are cut (``domain.statistics.measurements``).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from sqlalchemy import Connection, Engine

from domain.power.permission import Refusal
from domain.statistics.measurements import own, thinned
from domain.statistics.port import AnotherMachine, Measurements, NotRead, StatisticsSource
from panel.monitoring.instruments import statistics_read
from panel.power.facts import PowerRules, Target, permitted
from panel.statistics import readings
from panel.statistics.readings import AWAY, SILENT, Held, Taken, TakenOverError

GO_ON_S = 15.0
"""Seconds for which one message reads what waits for its node. Another one goes on after that."""

NOBODY_WAITS = "nobody waits for it, or its node is being read"


@dataclass(frozen=True, slots=True)
class StatisticsReader:
    """Reads for one message. ``source_of``: a configured cluster, or None."""

    engine: Engine
    source_of: Callable[[str], StatisticsSource | None]
    rules: PowerRules
    clock: Callable[[], float] = time.monotonic

    def read(self, row_id: int) -> str:
        """Read for this row, then for those that wait for its node. Returns a text for the task list."""
        until, outcomes = self.clock() + GO_ON_S, list[str]()
        with self.engine.begin() as connection:
            taken = readings.take(connection, row_id)
        while taken is not None:
            reading = taken
            try:
                keep, outcome = self._read(reading)
                taken = self._stored(reading, keep, go_on=self.clock() < until)
                outcomes.append(outcome)
                statistics_read(outcome)
            except TakenOverError:
                outcomes.append("another worker has it")
                break
            except Exception:
                with contextlib.suppress(Exception), self.engine.begin() as connection:
                    readings.store_problem(connection, reading, "failed")
                    readings.hand_over(connection, reading)
                raise
        return ", ".join(outcomes) or NOBODY_WAITS

    def _stored(self, taken: Taken, keep: Callable[[Connection], None], *, go_on: bool) -> Taken | None:
        with self.engine.begin() as connection:
            keep(connection)
            if go_on:
                return readings.take_next(connection, taken)
            readings.hand_over(connection, taken)
            return None

    def _read(self, taken: Taken) -> tuple[Callable[[Connection], None], str]:
        """What is to be kept; and ``read``, or the code of why there is nothing."""
        with self.engine.begin() as connection:
            allowed = permitted(connection, taken.vps_id, taken.user_id, self.rules)
            held = None if isinstance(allowed, Refusal) else readings.held(connection, taken.vps_id)
            silent = readings.is_silent(connection, taken)
        if isinstance(allowed, Refusal) or held is None:
            return _problem(taken, allowed.code if isinstance(allowed, Refusal) else "vps_unknown")
        source = self.source_of(allowed.cluster)
        if source is None:
            return _problem(taken, "not_linked")
        if silent:
            return _problem(taken, AWAY)
        answer = source.measurements(
            allowed.node, allowed.guest_type, allowed.vmid, allowed.fingerprint, allowed.name, taken.timeframe
        )
        match answer:
            case NotRead(silent=True):
                return _problem(taken, SILENT)
            case NotRead():
                return _problem(taken, "not_read")
            case AnotherMachine():
                return _problem(taken, "another_machine")
            case Measurements():
                return self._own(taken, allowed, held, answer)

    def _own(
        self, taken: Taken, target: Target, held: Held, measured: Measurements
    ) -> tuple[Callable[[Connection], None], str]:
        """Keep the points that are the customer's own, if the VPS is still theirs and has this machine."""
        points = thinned(own(measured.points, taken.timeframe, measured.now - held.seconds))

        def keep(connection: Connection) -> None:
            now = permitted(connection, taken.vps_id, taken.user_id, self.rules)
            if isinstance(now, Target) and replace(now, node=target.node, name=target.name) == target:
                readings.store(connection, taken, points, readings.machine_of(target), held.now)
            else:
                readings.store_problem(connection, taken, now.code if isinstance(now, Refusal) else "another_machine")

        return keep, "read"


def _problem(taken: Taken, code: str) -> tuple[Callable[[Connection], None], str]:
    return lambda connection: readings.store_problem(connection, taken, code), code
