"""Maps panel users to the main site's users, many at once: checked as a whole, then written as a whole.

A wrong map gives machines to strangers. So a map is replaced only if the operator asks for it, and no two panel users
share an id of the main site.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text

LONGEST_ID = 255


@dataclass(frozen=True, slots=True)
class WantedMap:
    """One map that the operator asks for. ``where``: the place to find it in the operator's input ("line 3")."""

    where: str
    user_id: int
    main_site_id: str


@dataclass(frozen=True, slots=True)
class Refused:
    """Why a map is not made: the place in the input, the field and the reason."""

    where: str
    field: str
    why: str

    def __str__(self) -> str:
        return f"{self.where}, {self.field}: {self.why}"


@dataclass(frozen=True, slots=True)
class Checked:
    """The maps to write, those that exist already, and those that are refused."""

    fresh: tuple[WantedMap, ...]
    already: tuple[WantedMap, ...]
    refused: tuple[Refused, ...]
    replaces: Mapping[int, str]  # panel user -> the id of the main site that its new map replaces


def check_maps(connection: Connection, wanted_maps: Iterable[WantedMap], *, replace: bool) -> Checked:
    """Check the maps together. ``replace``: whether an existing map may change. Locks the users' rows."""
    wanted_maps = list(wanted_maps)
    rows = connection.execute(KNOWN, {"ids": [w.user_id for w in wanted_maps]}).all()
    known = {row.id: row.main_site_user_id for row in rows}
    taken = {
        row.main_site_user_id: row.id
        for row in connection.execute(TAKEN, {"ids": [w.main_site_id for w in wanted_maps]})
    }
    leaving = {w.user_id for w in wanted_maps if replace and known.get(w.user_id) not in (None, w.main_site_id)}
    fresh: list[WantedMap] = []
    already: list[WantedMap] = []
    refused: list[Refused] = []
    users: dict[int, str] = {}
    ids: dict[str, str] = {}
    for wanted in wanted_maps:
        current, holder = known.get(wanted.user_id), taken.get(wanted.main_site_id)
        if wanted.user_id not in known:
            refused.append(Refused(wanted.where, "panel_id", f"user {wanted.user_id} does not exist in the panel"))
        elif wanted.user_id in users:
            refused.append(
                Refused(wanted.where, "panel_id", f"user {wanted.user_id} is named in {users[wanted.user_id]} too")
            )
        elif wanted.main_site_id in ids:
            why = f"{wanted.main_site_id} is named in {ids[wanted.main_site_id]} too"
            refused.append(Refused(wanted.where, "main_site_id", why))
        elif current == wanted.main_site_id:
            already.append(wanted)
        elif current is not None and not replace:
            why = f"user {wanted.user_id} is mapped to the main site's {current} already (--replace changes that)"
            refused.append(Refused(wanted.where, "panel_id", why))
        elif holder not in (None, wanted.user_id) and holder not in leaving:
            why = f"{wanted.main_site_id} is mapped to panel user {holder} already"
            refused.append(Refused(wanted.where, "main_site_id", why))
        else:
            fresh.append(wanted)
        users.setdefault(wanted.user_id, wanted.where)
        ids.setdefault(wanted.main_site_id, wanted.where)
    replaces = {w.user_id: known[w.user_id] for w in fresh if known.get(w.user_id) is not None}
    return Checked(tuple(fresh), tuple(already), tuple(refused), replaces)


def write_maps(connection: Connection, checked: Checked) -> None:
    """Write the maps that passed the check. Maps that change are emptied first, so that two users can swap ids."""
    connection.execute(FREE, {"ids": [wanted.user_id for wanted in checked.fresh]})
    mains = [wanted.main_site_id for wanted in checked.fresh]
    connection.execute(MAP, {"ids": [wanted.user_id for wanted in checked.fresh], "mains": mains})


def mark_email_verified(connection: Connection, user_id: int) -> str | None:
    """Note that an operator vouches for a user's e-mail, so that the import may map by it.

    Returns the e-mail; None if the user has none or does not exist.
    """
    email: str | None = connection.scalar(VERIFY, {"id": user_id})
    return email


def users_by_email(connection: Connection) -> Mapping[str, Sequence[Any]]:
    """Unmapped panel users by their e-mail in lower case. Rows: id, username, email, email_verified."""
    users: dict[str, list[Any]] = {}
    for row in connection.execute(BY_EMAIL):
        users.setdefault(row.email, []).append(row)
    return users


def mapped_ids(connection: Connection) -> frozenset[str]:
    """The ids of the main site that a panel user is mapped to."""
    return frozenset(
        connection.scalars(text("SELECT main_site_user_id FROM users WHERE main_site_user_id IS NOT NULL"))
    )


def orders_by_owner(connection: Connection) -> Mapping[str, int]:
    """How many orders that have not ended each of the main site's users has, as the panel last saw them."""
    return {row.owner: row.orders for row in connection.execute(ORDERS)}


KNOWN = text("SELECT id, main_site_user_id FROM users WHERE id = ANY(CAST(:ids AS bigint[])) ORDER BY id FOR UPDATE")
TAKEN = text("SELECT id, main_site_user_id FROM users WHERE main_site_user_id = ANY(CAST(:ids AS text[]))")
FREE = text(
    "UPDATE users SET main_site_user_id = NULL, map_source = NULL"
    " WHERE id = ANY(CAST(:ids AS bigint[])) AND main_site_user_id IS NOT NULL"
)
MAP = text(
    "UPDATE users u SET main_site_user_id = m.main, map_source = 'operator', mapped_at = clock_timestamp(),"
    " updated_at = clock_timestamp()"
    " FROM unnest(CAST(:ids AS bigint[]), CAST(:mains AS text[])) AS m(id, main) WHERE u.id = m.id"
)
VERIFY = text(
    "UPDATE users SET email_verified = true, updated_at = clock_timestamp()"
    " WHERE id = :id AND email IS NOT NULL RETURNING email"
)
BY_EMAIL = text(
    "SELECT id, username, lower(email) AS email, email_verified FROM users"
    " WHERE email IS NOT NULL AND main_site_user_id IS NULL ORDER BY id"
)
ORDERS = text(
    "SELECT owner, count(*) AS orders FROM orders_seen WHERE owner IS NOT NULL AND state <> 'ended' GROUP BY owner"
)
