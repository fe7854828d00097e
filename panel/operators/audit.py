"""Audit of use: what operators decided, and how each credential was used or tried.

The note of a decision is written in the decision's transaction, so neither exists without the other. Uses and refusals
are counted by the hour. The audit keeps names, ids, routes and networks. It keeps no keys, bodies or people's texts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field
from sqlalchemy import Connection, text

from panel.api_answer import api_answer

SUBJECT_LENGTH = 300
"""A subject is cut to this many characters. Every name that an operator can decide about is shorter."""


Role = Literal["read", "operate"]
"""What an operator may do: only look, or also decide."""


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts: ``by`` as it is kept with the decision ("api:ann", "cli:ann"), and where the request came from."""

    by: str
    role: Role
    request_id: str | None = None
    network: str | None = None


@dataclass(frozen=True, slots=True)
class Use:
    """One way in which a credential was used. ``who``: "main-site:current", "api:ann" or "client:5"; for a refused
    credential "no-key", "token", "sign-in-link", or "key:" and a keyed hash. ``network``: an IPv4 address or an IPv6
    /64. ``route``: method and path template. ``code``: the problem's code, "" for a success."""

    who: str
    network: str
    route: str
    status_code: int
    code: str


@api_answer
@dataclass(frozen=True, slots=True)
class ActionView:
    """One decision of an operator."""

    at: datetime
    by: Annotated[str, Field(description='"api:ann": by HTTP; "cli:ann": by command, ann being the account')]
    action: Annotated[str, Field(description="As the command is called: pause, approve, findings ack, ...")]
    subject: str
    request_id: str | None
    network: str | None


@api_answer
@dataclass(frozen=True, slots=True)
class AccessView:
    """How often a credential was used or tried in one way within one hour."""

    hour: datetime
    who: Annotated[
        str,
        Field(
            description='"main-site:current", "main-site:previous", "api:ann", "client:5"; for a refused credential '
            '"no-key", "token", "sign-in-link", or "key:" and a keyed hash of the key\'s first characters; '
            '"*": one of many'
        ),
    ]
    network: Annotated[str, Field(description='An IPv4 address or an IPv6 /64; "*": one of many')]
    route: Annotated[str, Field(description="Method and path template")]
    status_code: int
    code: Annotated[str, Field(description="The problem's code; empty for a success")]
    count: int
    first_at: datetime
    last_at: datetime
    last_request_id: str


@api_answer
@dataclass(frozen=True, slots=True)
class RefusedCallView:
    """A sync call that came with a valid key and was refused."""

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


def note_actions(connection: Connection, actor: Actor, action: str, subjects: Iterable[str]) -> None:
    """Note what an operator decides, one row for each subject. Call it in the decision's own transaction."""
    common = {"by": actor.by, "action": action, "request_id": actor.request_id, "network": actor.network}
    rows = [common | {"subject": subject[:SUBJECT_LENGTH]} for subject in subjects]
    if rows:
        connection.execute(NOTE, rows)


def store_uses(connection: Connection, uses: Iterable[tuple[Use, int, str]]) -> None:
    """Add each (use, how often, the last request id) to this hour's counts.

    The rows are sorted, so that two processes that store the same uses cannot deadlock.
    """
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


def list_actions(connection: Connection, limit: int) -> list[ActionView]:
    """What operators decided, newest first."""
    return [ActionView(**row._mapping) for row in connection.execute(ACTIONS, {"limit": limit})]


def list_access(connection: Connection, limit: int, *, refused: bool = False) -> list[AccessView]:
    """How credentials were used, the latest first. ``refused``: only the refused uses."""
    return [AccessView(**row._mapping) for row in connection.execute(ACCESS, {"limit": limit, "refused": refused})]


def list_refused_calls(connection: Connection, limit: int) -> list[RefusedCallView]:
    """Sync calls that came with a valid key and were refused, newest first."""
    return [RefusedCallView(**row._mapping) for row in connection.execute(REFUSED_CALLS, {"limit": limit})]


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
    f"SELECT {_columns(ActionView, 'a')} FROM operator_actions a ORDER BY a.id DESC LIMIT :limit"  # noqa: S608 - own text
)
ACCESS = text(
    f"SELECT {_columns(AccessView, 'a')} FROM access_counts a"  # noqa: S608 - own text
    " WHERE NOT :refused OR a.status_code BETWEEN 400 AND 499"
    " ORDER BY a.hour DESC, a.last_at DESC, a.who, a.route LIMIT :limit"
)
REFUSED_CALLS = text(
    f"SELECT {_columns(RefusedCallView, 'r')} FROM refused_calls r ORDER BY r.id DESC LIMIT :limit"  # noqa: S608 - own text
)
