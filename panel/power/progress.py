"""How far a power action has come. The worker that has taken it writes it, and nobody else.

A worker takes an action for a bounded time. Each of its writes names the attempt, so a worker that hung and wakes up
after another one has taken the action writes nothing, and above all notes no request as about to be sent.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import structlog
from sqlalchemy import Connection, Row, text

from domain.guests import GuestType
from domain.power.actions import GO_ON_WITHIN_S, Action, Before, Command, State
from domain.power.conduct import End
from panel.schema.power_tables import IS_OPEN
from panel.webhooks.events import note_power_actions

log = structlog.get_logger(__name__)

TAKEN_S = 100
"""For so long nobody else works on an action that was taken. The time limit of the task is shorter."""

LONGEST_S = 1800
"""An action that is open for longer than this is ended, whatever is the matter with it."""


class TakenOverError(Exception):
    """Another worker has taken the action, or it is over: this one must do nothing more about it."""


@dataclass(frozen=True, slots=True)
class Taken:
    """An open action that this worker has taken. ``expired``: nothing may be sent any more. ``too_long``: it is open
    for longer than it may be. ``sending_age_s``: since its current command was noted as about to be sent; None: it was
    not. ``waits_for``: what stood against it so far, for the customer."""

    id: int
    attempt: int
    vps_id: int
    user_id: int
    action: Action
    force: bool
    state: State
    step: int
    cluster: str
    vmid: int
    guest_type: GuestType
    fingerprint: str
    begun: bool
    command: Command | None
    node: str | None
    before: Before | None
    upid: str | None
    rejected: str | None
    sending_age_s: float | None
    expired: bool
    too_long: bool
    waits_for: str | None


def take(connection: Connection, action_id: int) -> Taken | None:
    """Take the action for ``TAKEN_S`` seconds; None if it is over or another worker has it."""
    row = connection.execute(TAKE, {"id": action_id, "for_s": TAKEN_S, "longest_s": LONGEST_S}).one_or_none()
    return None if row is None else _taken(row)


def _taken(row: Row[Any]) -> Taken:
    return Taken(
        id=row.id,
        attempt=row.attempt,
        vps_id=row.vps_id,
        user_id=row.user_id,
        action=Action(row.action),
        force=row.force,
        state=State(row.state),
        step=row.step,
        cluster=row.cluster,
        vmid=row.vmid,
        guest_type=GuestType(row.guest_type),
        fingerprint=row.fingerprint,
        begun=row.begun_at is not None,
        command=None if row.command is None else Command(row.command),
        node=row.node,
        before=None if row.before is None else Before.from_plain(row.before),
        upid=row.upid,
        rejected=row.rejected,
        sending_age_s=row.sending_age_s,
        expired=row.expired,
        too_long=row.too_long,
        waits_for=row.reason,
    )


def put_back(connection: Connection, taken: Taken, seconds: float, reason: str | None = None) -> None:
    """Give the action back. The relay publishes it again after so many seconds. ``reason``: what it waits for, for the
    customer; None: what was said before stays."""
    _write(connection, PUT_BACK, taken, {"in_s": seconds, "reason": reason})


def note_sending(connection: Connection, taken: Taken, command: Command, node: str, before: Before) -> None:
    """Note that the command is about to be sent. Raises TakenOverError if it was noted before, if the action may not be
    begun any more, or if this worker's time is over: then nothing may be sent."""
    values = {"command": command.value, "node": node, "before": json.dumps(before.to_plain())}
    _write(connection, NOTE_SENDING, taken, values)


def note_sent(connection: Connection, taken: Taken, upid: str) -> None:
    """Note the task that works on the command."""
    _write(connection, NOTE_SENT, taken, {"upid": upid})
    log.info("power_command_sent", action=taken.id, vps=taken.vps_id, upid=upid)


def note_rejected(connection: Connection, taken: Taken, why: str) -> None:
    """Note that Proxmox answered with an error."""
    _write(connection, NOTE_REJECTED, taken, {"why": why})


def next_step(connection: Connection, taken: Taken) -> None:
    """The current command is done: the next one may be begun, within ``GO_ON_WITHIN_S``."""
    _write(connection, NEXT_STEP, taken, {"valid_s": GO_ON_WITHIN_S})


def end(connection: Connection, taken: Taken, ended: End, evidence: dict[str, Any]) -> None:
    """The action is over, and the main site is told. If anything was sent, a fast run is asked for, so that the record
    follows soon."""
    values = {
        "state": ended.state.value,
        "code": ended.code,
        "reason": ended.reason,
        "evidence": json.dumps(evidence),
    }
    _write(connection, END, taken, values)
    note_power_actions(connection, [taken.id])
    if taken.begun or taken.sending_age_s is not None:
        connection.execute(ASK_FOR_A_FAST_RUN)
    level = log.info if ended.state in (State.DONE, State.REFUSED) else log.warning
    level("power_action_ended", action=taken.id, vps=taken.vps_id, state=ended.state.value, code=ended.code)


def _write(connection: Connection, statement: Any, taken: Taken, values: dict[str, Any]) -> None:  # noqa: ANN401
    written = connection.execute(statement, {"id": taken.id, "attempt": taken.attempt, **values})
    if written.rowcount != 1:
        raise TakenOverError


_MINE = f"WHERE id = :id AND attempt = :attempt AND {IS_OPEN} AND taken_until > clock_timestamp()"

TAKE = text(
    "UPDATE power_actions SET attempt = attempt + 1, publishes = 0,"
    " taken_until = clock_timestamp() + make_interval(secs => :for_s),"
    # If this worker dies: a message that comes earlier finds the action taken, and the next one would come late.
    " publish_at = clock_timestamp() + make_interval(secs => :for_s + 1)"
    f" WHERE id = :id AND {IS_OPEN} AND coalesce(taken_until < clock_timestamp(), true)"
    " RETURNING *, valid_until < clock_timestamp() AS expired,"
    " asked_at < clock_timestamp() - make_interval(secs => :longest_s) AS too_long,"
    " CAST(extract(epoch FROM clock_timestamp() - sending_at) AS float8) AS sending_age_s"
)
PUT_BACK = text(
    "UPDATE power_actions SET taken_until = NULL, publishes = 0, reason = coalesce(:reason, reason),"
    f" publish_at = clock_timestamp() + make_interval(secs => :in_s) {_MINE}"
)
NOTE_SENDING = text(
    "UPDATE power_actions SET state = 'sending', command = :command, node = :node, before = CAST(:before AS jsonb),"
    " sending_at = clock_timestamp(), begun_at = coalesce(begun_at, clock_timestamp()), reason = NULL"
    f" {_MINE} AND state = 'queued' AND sending_at IS NULL AND valid_until > clock_timestamp()"
)
NOTE_SENT = text(f"UPDATE power_actions SET state = 'sent', upid = :upid {_MINE} AND state = 'sending'")
NOTE_REJECTED = text(f"UPDATE power_actions SET rejected = :why {_MINE} AND state = 'sending'")
NEXT_STEP = text(
    "UPDATE power_actions SET state = 'queued', step = step + 1, sending_at = NULL, upid = NULL, rejected = NULL,"
    " before = NULL, valid_until = clock_timestamp() + make_interval(secs => :valid_s), taken_until = NULL,"
    f" publishes = 0, publish_at = clock_timestamp() {_MINE} AND state <> 'queued'"
)
END = text(
    "UPDATE power_actions SET state = :state, code = :code, reason = :reason, evidence = CAST(:evidence AS jsonb),"
    f" ended_at = clock_timestamp(), taken_until = NULL {_MINE}"
)
# One fast run in ten seconds is enough: beat asks for one every FAST_INTERVAL_S besides.
ASK_FOR_A_FAST_RUN = text(
    "INSERT INTO task_requests (task, subject) SELECT 'reconcile.fast', 'power'"
    " WHERE NOT EXISTS (SELECT 1 FROM runs WHERE kind = 'fast'"
    " AND started_at > statement_timestamp() - interval '10 seconds') ON CONFLICT DO NOTHING"
)
