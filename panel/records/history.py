"""The journal and the runs, for operators: why a record changed, and what the latest runs did."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NamedTuple

from sqlalchemy import Connection, Row, func, select

from panel.operator_error import OperatorError
from panel.power.views import actions_of_vps
from panel.records.identities import IdentityView, identity_of
from panel.schema import tables


class Entry(NamedTuple):
    """One line of a history: a row of the journal or of the power actions."""

    kind: Literal["operation", "power"]
    row: Row[Any]


@dataclass(frozen=True, slots=True)
class History:
    """``record``: None while its create is not applied. ``operations``: in order. ``older``: how many are kept besides
    that are older than these. ``removed``: how many older ones the journal no longer has. ``identity``: None for a
    record that names no guest. ``power``: the latest power actions that its customers asked for while these operations
    were made, oldest first, each with the customer's ``username``."""

    record: Row[Any] | None
    operations: Sequence[Row[Any]]
    older: int
    removed: int
    identity: IdentityView | None
    power: Sequence[Row[Any]]

    @property
    def in_order(self) -> list[Entry]:
        """Operations in the order of the journal, and each power action before the first one that is younger."""
        told: list[Entry] = []
        power = deque(self.power)
        for operation in self.operations:
            while power and power[0].asked_at <= _time_of(operation):
                told.append(Entry("power", power.popleft()))
            told.append(Entry("operation", operation))
        return told + [Entry("power", action) for action in power]


POWER_SHOWN = 100
"""How many power actions a history shows at most, the latest ones."""


def vps_history(connection: Connection, vps_id: int, *, limit: int | None = None, offset: int = 0) -> History:
    """A VPS's part of the journal: all of it, or the latest ``limit`` operations but the very latest ``offset``. Raises
    OperatorError."""
    vps, operations, vps_queues = tables.vps, tables.operations, tables.vps_queues
    kept = connection.scalar(select(func.count()).select_from(operations).where(operations.c.vps_id == vps_id)) or 0
    if not kept:
        raise OperatorError("unknown", f"VPS {vps_id} does not exist in the panel")
    latest = select(operations).where(operations.c.vps_id == vps_id).order_by(operations.c.seq.desc())
    newer = min(offset, 1)  # one more than is shown: the power actions after it are told with it
    wanted = None if limit is None else limit + newer
    shown = list(connection.execute(latest.limit(wanted).offset(offset - newer)).all()[::-1])
    until = _time_of(shown.pop()) if newer and shown else None
    record = connection.execute(select(vps).where(vps.c.id == vps_id)).one_or_none()
    journaled = connection.scalar(select(vps_queues.c.last_seq).where(vps_queues.c.vps_id == vps_id)) or 0
    older, removed = max(0, kept - offset - len(shown)), max(0, journaled - kept)
    since = _time_of(shown[0]) if shown and older else None
    power = actions_of_vps(connection, vps_id, POWER_SHOWN, since=since, until=until) if shown else []
    return History(record, shown, older, removed, identity_of(connection, vps_id), power)


def _time_of(operation: Row[Any]) -> datetime:
    """When an operation was applied, or came if it is not."""
    at: datetime = operation.applied_at or operation.accepted_at
    return at


def recent_runs(connection: Connection, *, kind: str | None = None, limit: int = 20) -> Sequence[Row[Any]]:
    """Runs, newest first."""
    runs = tables.runs
    wanted = select(runs).order_by(runs.c.id.desc()).limit(limit)
    if kind is not None:
        wanted = wanted.where(runs.c.kind == kind)
    return connection.execute(wanted).all()
