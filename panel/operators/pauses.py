"""Pauses: what runs leave alone because an operator asked for it, with a reason and an end.

The targets are ``all``, ``feed``, ``proxmox:<cluster>``, ``vps:<id>`` and ``user:<id>``. Runs do not read a paused
source: its records keep their state, and its silence proves nothing. Runs do read a paused VPS and the VPSes of a
paused customer, so their findings stay up to date, but runs do not write them. A pause does not affect sync calls.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any

from pydantic import Field
from sqlalchemy import Connection, Row, text

from panel.api_answer import api_answer
from panel.journal import rows
from panel.operator_error import OperatorError
from panel.runs.run_requests import request_run

ALL, FEED, CLUSTER, VPS, USER = "all", "feed", "proxmox:", "vps:", "user:"
LONGEST = timedelta(days=30)


@api_answer
@dataclass(frozen=True, slots=True)
class PauseView:
    """One pause in force."""

    target: str
    reason: str
    by: str
    since: Annotated[datetime, Field(description="On the database's clock")]
    until: Annotated[datetime, Field(description="On the database's clock")]

    def __str__(self) -> str:
        return f"paused until {self.until:%Y-%m-%d %H:%M:%S} UTC by {self.by}: {self.reason}"


def target_of(name: str, clusters: Iterable[str]) -> str:
    """The target for the name that an operator gave: ``all``, ``feed``, a configured cluster, ``vps:12`` or ``user:5``.

    Raises OperatorError.
    """
    names = sorted(clusters)
    if name in (ALL, FEED) or re.fullmatch(r"(vps|user):[1-9][0-9]{0,17}", name):
        return name
    if name.removeprefix(CLUSTER) in names:
        return CLUSTER + name.removeprefix(CLUSTER)
    raise OperatorError(
        "unknown",
        f"{name} is neither all, feed, vps:ID, user:ID nor a configured cluster ({', '.join(names) or 'none'})",
    )


def pause(connection: Connection, target: str, reason: str, length: timedelta, by: str) -> PauseView:
    """Pause the target from the next run on. A second pause replaces the first. Raises OperatorError."""
    if not timedelta(0) < length <= LONGEST:
        raise OperatorError("invalid", "a pause must be longer than 0 seconds and at most 30 days long")
    if not reason.strip():
        raise OperatorError("invalid", "a pause needs a reason")
    for prefix, exists in EXISTS.items():
        if target.startswith(prefix) and connection.scalar(exists, {"id": int(target.removeprefix(prefix))}) is None:
            raise OperatorError("unknown", f"{target} does not exist in the panel")
    values = {"target": target, "reason": reason.strip(), "length": length, "by": by}
    view = _view(connection.execute(PAUSE, values).one())
    rows.raise_finding(
        connection,
        "paused",
        _subject(target),
        f"{target} is {view}",
        cluster=target.removeprefix(CLUSTER) if target.startswith(CLUSTER) else None,
        vps_id=int(target.removeprefix(VPS)) if target.startswith(VPS) else None,
    )
    return view


def resume(connection: Connection, target: str) -> None:
    """End a pause before its time and ask for a run. Raises OperatorError."""
    if connection.execute(RESUME, {"target": target}).rowcount == 0:
        raise OperatorError("conflict", f"{target} is not paused")
    connection.execute(RESOLVE, {"subjects": [_subject(target)]})
    request_run(connection)


def current_pauses(connection: Connection) -> dict[str, PauseView]:
    """The pauses in force by target. Pauses whose time is over are deleted here and their findings resolved."""
    over = [row.target for row in connection.execute(END_OVER)]
    if over:
        connection.execute(RESOLVE, {"subjects": [_subject(target) for target in over]})
    return pauses_in_force(connection)


def pauses_in_force(connection: Connection) -> dict[str, PauseView]:
    """The pauses in force by target. This changes nothing."""
    return {row.target: _view(row) for row in connection.execute(IN_FORCE)}


def _view(row: Row[Any]) -> PauseView:
    return PauseView(row.target, row.reason, row.paused_by, row.paused_at, row.paused_until)


def _subject(target: str) -> str:
    """The subject of the finding about the pause."""
    return target if target.startswith((VPS, USER)) else f"source:{target}"


EXISTS = {
    VPS: text("SELECT 1 FROM vps_queues WHERE vps_id = :id"),
    USER: text("SELECT 1 FROM users WHERE id = :id"),
}
PAUSE = text(
    "INSERT INTO pauses (target, paused_at, paused_until, paused_by, reason)"
    " VALUES (:target, clock_timestamp(), clock_timestamp() + :length, :by, :reason)"
    " ON CONFLICT (target) DO UPDATE SET paused_at = excluded.paused_at, paused_until = excluded.paused_until,"
    " paused_by = excluded.paused_by, reason = excluded.reason RETURNING *"
)
RESUME = text("DELETE FROM pauses WHERE target = :target AND paused_until > clock_timestamp()")
END_OVER = text("DELETE FROM pauses WHERE paused_until <= clock_timestamp() RETURNING target")
IN_FORCE = text("SELECT * FROM pauses WHERE paused_until > clock_timestamp() ORDER BY target")
RESOLVE = text(
    "UPDATE findings SET resolved_at = clock_timestamp()"
    " WHERE class = 'paused' AND resolved_at IS NULL AND subject = ANY(:subjects)"
)
