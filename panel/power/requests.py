"""A customer asks for a power action: it is stored, or refused with a reason. A worker does it later."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, text

from domain.power.actions import BEGIN_WITHIN_S, Action
from domain.power.permission import Refusal
from panel.journal.accept_batch import JOURNAL_CHANNEL
from panel.power.facts import NOBODY, PowerRules, permitted
from panel.schema.power_tables import IS_OPEN


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a customer asks for."""

    vps_id: int
    user_id: int
    action: Action
    force: bool
    request_id: str | None = None
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class Limited:
    """The customer asked for too many actions. ``retry_after_s``: when the next one is possible, in whole seconds."""

    retry_after_s: int


def ask(connection: Connection, wanted: Wanted, rules: PowerRules) -> Row[Any] | Refusal | Limited:
    """Store the action and tell the relay. The row is stored once the caller commits. Returns the row, or why not.

    If another action of this VPS is open, the unique index refuses the row, so two callers at once can't both succeed.
    """
    if connection.scalar(ONE_AT_A_TIME, {"user": wanted.user_id}) is None:
        return NOBODY
    target = permitted(connection, wanted.vps_id, wanted.user_id, rules)
    if isinstance(target, Refusal):
        return target
    used = connection.execute(USED, {"user": wanted.user_id}).one()
    if used.asked >= rules.an_hour:
        return Limited(max(1, int(used.free_in_s or 0) + 1))
    values = {
        "vps_id": wanted.vps_id,
        "user_id": wanted.user_id,
        "action": wanted.action.value,
        "force": wanted.force,
        "request_id": wanted.request_id,
        "traceparent": wanted.traceparent,
        "cluster": target.cluster,
        "vmid": target.vmid,
        "guest_type": target.guest_type.value,
        "fingerprint": target.fingerprint,
        "valid_s": BEGIN_WITHIN_S,
    }
    stored = connection.execute(STORE, values).one_or_none()
    if stored is None:
        return Refusal("power_action_in_progress", "Another action of this VPS is not over yet")
    connection.execute(text("SELECT pg_notify(:channel, '')"), {"channel": JOURNAL_CHANNEL})
    return stored


def open_action(connection: Connection, vps_id: int, user_id: int) -> Row[Any] | None:
    """The customer's open action of a VPS, if there is one."""
    return connection.execute(OPEN, {"vps": vps_id, "user": user_id}).one_or_none()


# Two requests of one customer take turns, so that the limit holds. Other writers of users are not kept waiting.
ONE_AT_A_TIME = text("SELECT id FROM users WHERE id = :user FOR NO KEY UPDATE")
USED = text(
    "SELECT count(*) AS asked, extract(epoch FROM min(asked_at) + interval '1 hour' - statement_timestamp())"
    " AS free_in_s FROM power_actions WHERE user_id = :user AND asked_at > statement_timestamp() - interval '1 hour'"
)
STORE = text(
    "INSERT INTO power_actions (vps_id, user_id, action, force, request_id, traceparent, cluster, vmid, guest_type,"
    " fingerprint, state, valid_until) VALUES (:vps_id, :user_id, :action, :force, :request_id, :traceparent, :cluster,"
    " :vmid, :guest_type, :fingerprint, 'queued', clock_timestamp() + make_interval(secs => :valid_s))"
    " ON CONFLICT DO NOTHING RETURNING *"
)
OPEN = text(
    f"SELECT * FROM power_actions WHERE vps_id = :vps AND user_id = :user AND {IS_OPEN}"  # noqa: S608 - own words
)
