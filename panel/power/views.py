"""How power actions look to clients and to operators."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from domain.power.actions import OPEN, State
from domain.power.permission import Refusal
from panel.power.facts import PowerRules, permitted
from panel.records.public import Place
from panel.records.reads import reading, reading_as_client
from panel.schema.power_tables import NOT_DONE, power_actions

CLIENT_COLUMNS = ("id", "vps_id", "action", "force", "state", "step", "code", "reason", "asked_at", "ended_at")
"""What the client's role may read and an answer needs."""

LATEST = 20
"""How many actions of a VPS a client is shown."""


def action_url(vps_id: int, action_id: int) -> str:
    """The path at which a client follows an action."""
    return f"{Place.root}/api/vps/{vps_id}/actions/{action_id}"


def public_state(state: str, step: int) -> str:
    """``queued``, ``running``, or how it ended. What is being sent is running: it may have arrived."""
    if state == State.QUEUED:
        return "queued" if step == 0 else "running"
    return "running" if state in OPEN else state


def public_action(row: Mapping[str, Any]) -> dict[str, Any]:
    """An action as its customer sees it. Times are RFC 3339."""
    ended = row["ended_at"]
    return {
        "id": row["id"],
        "vps_id": row["vps_id"],
        "action": row["action"],
        "force": row["force"],
        "state": public_state(row["state"], row["step"]),
        "url": action_url(row["vps_id"], row["id"]),
        "code": row["code"],
        "reason": row["reason"],
        "asked_at": row["asked_at"].isoformat(),
        "ended_at": ended.isoformat() if ended is not None else None,
    }


async def client_actions(
    engine: AsyncEngine, user_id: int, vps_id: int, action_id: int | None = None
) -> list[Mapping[str, Any]]:
    """A client's latest actions of a VPS, newest first, or the one with that id. Row-level security shows only those
    that the client asked for."""
    columns = [power_actions.c[name] for name in CLIENT_COLUMNS]
    wanted = select(*columns).where(power_actions.c.user_id == user_id, power_actions.c.vps_id == vps_id)
    if action_id is not None:
        wanted = wanted.where(power_actions.c.id == action_id)
    async with reading_as_client(engine, user_id) as connection:
        rows = await connection.execute(wanted.order_by(power_actions.c.id.desc()).limit(LATEST))
        return [dict(row._mapping) for row in rows]


async def hindrance_now(engine: AsyncEngine, user_id: int, vps_id: int, rules: PowerRules) -> Refusal | None:
    """Why an action of this client would be refused now; None: nothing stands against it. The limit of an hour and an
    open action are not looked at."""
    async with reading(engine) as connection:
        allowed = await connection.run_sync(permitted, vps_id, user_id, rules)
    return allowed if isinstance(allowed, Refusal) else None


def actions_of_vps(connection: Connection, vps_id: int, limit: int) -> Sequence[Row[Any]]:
    """The latest actions of a VPS, whoever asked for them, oldest first."""
    latest = select(power_actions).where(power_actions.c.vps_id == vps_id).order_by(power_actions.c.id.desc())
    return connection.execute(latest.limit(limit)).all()[::-1]


def list_actions(
    connection: Connection, *, everything: bool = False, vps_id: int | None = None, limit: int = 50
) -> Sequence[Row[Any]]:
    """Actions for operators, newest first: those that are open or were not done. ``everything``: the others, too."""
    wanted = select(power_actions).order_by(power_actions.c.id.desc()).limit(limit)
    if not everything:
        wanted = wanted.where(text(NOT_DONE))  # as the index has it
    if vps_id is not None:
        wanted = wanted.where(power_actions.c.vps_id == vps_id)
    return connection.execute(wanted).all()
