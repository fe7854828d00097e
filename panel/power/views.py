"""How power actions look to clients and to operators."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from domain.power.actions import OPEN, State
from domain.power.permission import Refusal
from panel.clients.round_trips import Query, RoundTrips, Statement
from panel.power.facts import PowerRules, Target, permitted
from panel.records.public import Place
from panel.records.reads import reading
from panel.schema import tables
from panel.schema.power_tables import IS_OPEN, NOT_DONE, power_actions

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


def actions_query(user_id: int, vps_id: int, action_id: int | None = None, *, limit: int = LATEST) -> Query:
    """A client's latest actions of a VPS, newest first, or the one with that id. Row-level security shows only those
    that the client asked for."""
    one = None if action_id is None else str(action_id)
    return Query(ACTIONS, (str(user_id), str(vps_id), one, str(limit)))


async def client_actions(
    trips: RoundTrips, user_id: int, vps_id: int, action_id: int | None = None, *, limit: int = LATEST
) -> list[dict[str, Any]]:
    """What an ``actions_query`` finds. Raises DatabaseAwayError."""
    [rows] = await trips.rows_as_client(user_id, actions_query(user_id, vps_id, action_id, limit=limit))
    return rows


def open_actions_query(user_id: int) -> Query:
    """What this client asked for that is not over: ``vps_id``, ``action`` and ``force``."""
    return Query(OPEN_ACTIONS, (str(user_id),))


ACTIONS = Statement(
    f"SELECT {', '.join(CLIENT_COLUMNS)} FROM power_actions"  # noqa: S608 - own words
    " WHERE user_id = $1::bigint AND vps_id = $2::bigint AND ($3::bigint IS NULL OR id = $3::bigint)"
    " ORDER BY id DESC LIMIT $4::bigint"
)
OPEN_ACTIONS = Statement(
    f"SELECT vps_id, action, force FROM power_actions WHERE user_id = $1::bigint AND {IS_OPEN}"  # noqa: S608 - own words
)


async def machine_now(engine: AsyncEngine, user_id: int, vps_id: int, rules: PowerRules) -> Target | Refusal:
    """The machine that this client could switch now, or why not. The limit of an hour and an open action are not looked
    at."""
    async with reading(engine) as connection:
        return await connection.run_sync(permitted, vps_id, user_id, rules)


async def hindrance_now(engine: AsyncEngine, user_id: int, vps_id: int, rules: PowerRules) -> Refusal | None:
    """Why an action of this client would be refused now; None: nothing stands against it."""
    allowed = await machine_now(engine, user_id, vps_id, rules)
    return allowed if isinstance(allowed, Refusal) else None


def actions_of_vps(
    connection: Connection, vps_id: int, limit: int, *, since: datetime | None = None, until: datetime | None = None
) -> Sequence[Row[Any]]:
    """The latest actions of a VPS that were asked for after ``since`` and not after ``until`` (None: no such limit),
    whoever asked for them, oldest first. ``username``: of who asked, None if the panel has no such user."""
    users = tables.users
    latest = (
        select(power_actions, users.c.username)
        .select_from(power_actions.outerjoin(users, users.c.id == power_actions.c.user_id))
        .where(power_actions.c.vps_id == vps_id)
        .order_by(power_actions.c.id.desc())
    )
    if since is not None:
        latest = latest.where(power_actions.c.asked_at > since)
    if until is not None:
        latest = latest.where(power_actions.c.asked_at <= until)
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
