"""Audit of use: what operators decided, and how each credential was used or tried.

An operator's decision is noted in its own transaction: neither exists without the other. Uses and refusals are counted
by the hour. Names, ids, routes and networks are kept; keys, bodies and people's texts are not.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

SUBJECT_LENGTH = 300
"""Characters kept of a subject: longer than any name that can be decided about."""


@dataclass(frozen=True, slots=True)
class Actor:
    """Who decides: ``by`` as it is kept with the decision ("api:ann", "cli:ann"), and where the request came from."""

    by: str
    request_id: str | None = None
    network: str | None = None


@dataclass(frozen=True, slots=True)
class Use:
    """One way in which a credential was used. ``who``: "main-site:current", "api:ann", "client:5", or for a refused
    one "key:" and a keyed hash, "no-key" or "token". ``network``: an IPv4 address or an IPv6 /64. ``route``: method
    and path template. ``code``: the problem's, "" for a success."""

    who: str
    network: str
    route: str
    status_code: int
    code: str


@dataclass(frozen=True, slots=True)
class Action:
    """One decision of an operator."""

    at: datetime
    by: str
    action: str
    subject: str
    request_id: str | None
    network: str | None


@dataclass(frozen=True, slots=True)
class Access:
    """How often a credential was used in one way, within one hour."""

    hour: datetime
    who: str
    network: str
    route: str
    status_code: int
    code: str
    count: int
    first_at: datetime
    last_at: datetime
    last_request_id: str


@dataclass(frozen=True, slots=True)
class RefusedCall:
    """One sync call that was refused after a right key."""

    at: datetime
    status_code: int
    code: str
    message: str
    action: str | None
    user_id: int | None
    order_id: str | None
    vps_id: int | None
    request_id: str | None
    api_key_label: str | None
    address: str | None


def note_action(connection: Connection, actor: Actor, action: str, subject: str) -> None:
    """Note what an operator decides, in the decision's own transaction."""
    values = {
        "by": actor.by,
        "action": action,
        "subject": subject[:SUBJECT_LENGTH],
        "request_id": actor.request_id,
        "network": actor.network,
    }
    connection.execute(NOTE, values)


def store_uses(connection: Connection, uses: Iterable[tuple[Use, int, str]]) -> None:
    """Add (use, how often, the last request id) to this hour's counts. Sorted, so that processes cannot deadlock."""
    rows = [
        {
            "who": use.who,
            "network": use.network,
            "route": use.route,
            "status_code": use.status_code,
            "code": use.code,
            "count": count,
            "request_id": request_id,
        }
        for use, count, request_id in uses
    ]
    rows.sort(key=lambda row: tuple(str(value) for value in row.values()))
    if rows:
        connection.execute(COUNT, rows)


def list_actions(connection: Connection, limit: int) -> list[Action]:
    """What operators decided, newest first."""
    return [Action(**row._mapping) for row in connection.execute(ACTIONS, {"limit": limit})]


def list_access(connection: Connection, limit: int, *, refused: bool = False) -> list[Access]:
    """How credentials were used, the latest first; ``refused``: only what was refused."""
    return [Access(**row._mapping) for row in connection.execute(ACCESS, {"limit": limit, "refused": refused})]


def list_refused_calls(connection: Connection, limit: int) -> list[RefusedCall]:
    """Sync calls that were refused after a right key, newest first."""
    return [RefusedCall(**row._mapping) for row in connection.execute(REFUSED_CALLS, {"limit": limit})]


def _columns(model: type[Any], alias: str) -> str:
    return ", ".join(f'{alias}."{name}"' for name in model.__slots__)


NOTE = text(
    'INSERT INTO operator_actions ("by", action, subject, request_id, network)'
    " VALUES (:by, :action, :subject, :request_id, :network)"
)
COUNT = text(
    "INSERT INTO access_counts AS a (hour, who, network, route, status_code, code, count, first_at, last_at,"
    " last_request_id) VALUES (date_trunc('hour', clock_timestamp(), 'UTC'), :who, :network, :route, :status_code,"
    " :code, :count, clock_timestamp(), clock_timestamp(), :request_id)"
    " ON CONFLICT (hour, who, network, route, status_code, code) DO UPDATE SET count = a.count + excluded.count,"
    " last_at = excluded.last_at, last_request_id = excluded.last_request_id"
)
ACTIONS = text(
    f"SELECT {_columns(Action, 'a')} FROM operator_actions a ORDER BY a.id DESC LIMIT :limit"  # noqa: S608 - own text
)
ACCESS = text(
    f"SELECT {_columns(Access, 'a')} FROM access_counts a"  # noqa: S608 - own text
    " WHERE NOT :refused OR a.status_code BETWEEN 400 AND 499"
    " ORDER BY a.hour DESC, a.last_at DESC, a.who, a.route LIMIT :limit"
)
REFUSED_CALLS = text(
    f"SELECT {_columns(RefusedCall, 'r')} FROM refused_calls r ORDER BY r.id DESC LIMIT :limit"  # noqa: S608 - own text
)
