"""Import users from the main site: new ones, and which main-site id each panel user has. Never guesses.

A main-site id is mapped by the feed naming the panel's id, or by a verified e-mail that is unique on both sides.
Both are decided over a complete list only, because who did not arrive may say the same of himself.
In the ``shared`` space both ids are the same number, whoever else arrives. What is known already is not written: an
import in which nothing is new locks no row that a call may wait for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import structlog
from sqlalchemy import Engine, text

from domain.record_columns import MAX_ID
from domain.source_protocols import OrderFeed, User
from domain.source_troubles import USERS, Cause, Trouble
from panel.journal.rows import database_now
from panel.operators.pauses import ALL, FEED, current_pauses
from panel.runs.source_states import remember_source, report_sources, users_imported
from reconcile.run_context import Reconciler
from reconcile.run_phases import Progress

log = structlog.get_logger(__name__)

T = TypeVar("T")


@dataclass(slots=True)
class Imported:
    """Counts of an import, and what could not be mapped (main-site ids only)."""

    seen: int = 0
    added: int = 0
    mapped: int = 0
    conflicts: list[str] = field(default_factory=list)
    problem: str | None = None

    @property
    def summary(self) -> str:
        counts = f"{self.seen} seen, {self.added} added, {self.mapped} mapped, {len(self.conflicts)} conflicts"
        return counts + ("; incomplete" if self.problem else "")


def import_users(reconciler: Reconciler) -> Imported:
    """Read all users and store what is new. An incomplete read maps nobody, unless the ids are shared."""
    feed = reconciler.feed
    if feed is None:
        return Imported(problem="no main site is configured")
    with reconciler.engine.begin() as connection:
        pauses = current_pauses(connection)
    if (pause := pauses.get(ALL) or pauses.get(FEED)) is not None:
        return Imported(problem=str(pause))
    result = Imported()
    users = _read(feed, result, reconciler.progress)
    with reconciler.engine.begin() as connection:
        held = {row.id: row.main_site_user_id for row in connection.execute(text(HELD))}
    for named in _batches(_named(users, held, result, shared=reconciler.shared_ids), reconciler.progress):
        _store_named(reconciler.engine, named, result)
    if not reconciler.shared_ids and result.problem is None:
        for batch in _batches(_by_email(users, held), reconciler.progress):
            _store_by_email(reconciler.engine, batch, result)
    with reconciler.engine.begin() as connection:
        if result.problem is None:
            remember_source(connection, USERS, last_users_at=database_now(connection))
        waits = "" if reconciler.shared_ids else "; who is not mapped yet waits for a complete list"
        problem = None if result.problem is None else result.problem + waits
        report_sources(connection, None, {USERS: _trouble(problem, known=users_imported(connection))})
    log.info("users_imported", seen=result.seen, added=result.added, mapped=result.mapped, problem=result.problem)
    return result


def import_first_users(reconciler: Reconciler) -> None:
    """Import the users if that was never done completely. Before that, the panel may not know the owners of orders."""
    if reconciler.feed is None:
        return
    with reconciler.engine.begin() as connection:
        known = users_imported(connection)
    if not known:
        import_users(reconciler)


def _trouble(problem: str | None, *, known: bool) -> Trouble | None:
    if problem is None:
        return None
    return Trouble(Cause.INCOMPLETE if known else Cause.NOT_IMPORTED, f"the users could not be read: {problem}")


READING = "reading the main site's users"


def _read(feed: OrderFeed, result: Imported, progress: Progress) -> list[User]:
    progress(READING, 0, None)
    sweep, users = feed.users(), list[User]()
    for page in sweep.pages:
        users += page.items
        progress(f"{READING}, {len(users)} so far", 0, None)
    result.seen, result.problem = len(users), sweep.problem
    return users


BATCH = 500
"""How many users one transaction stores. A call that names one of them waits for that transaction at most."""

Named = tuple[int, User]
"""The panel's id, and the user of the main site who is that user."""


def _named(users: Sequence[User], held: Mapping[int, str | None], result: Imported, *, shared: bool) -> Iterator[Named]:
    """The users whom the feed names by the panel's id, and who are not mapped yet. Contradictions are noted in
    ``result``. ``held``: the panel's users, and which main-site id each of them has. After an incomplete read a number
    names a user only in the shared space, and only as it is written without leading zeros: nobody else writes it so."""
    holders = {main_site_id: panel_id for panel_id, main_site_id in held.items() if main_site_id is not None}
    claims = Counter(_panel_id(user, shared=shared) for user in users)
    for user in users:
        named = _panel_id(user, shared=shared)
        known = holders.get(user.main_site_user_id)
        if known is not None and known == (named or known):
            continue
        if named is None and not shared:
            continue  # the e-mail may say who it is
        free = named is not None and 0 < named <= MAX_ID and held.get(named) is None
        if named is None or not free or known is not None or claims[named] > 1:
            # The panel's user has another main-site id, the main site's user is another user of the panel, or two of
            # the main site's users name the same one: an operator must say which is right.
            result.conflicts.append(user.main_site_user_id)
            continue
        if result.problem is None or (shared and user.main_site_user_id == str(named)):
            yield named, user


def _panel_id(user: User, *, shared: bool) -> int | None:
    if not shared:
        return user.panel_user_id
    digits = user.main_site_user_id
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 20 else None


def _by_email(users: Sequence[User], held: Mapping[int, str | None]) -> Iterator[User]:
    """The users whom the feed does not name by the panel's id, who are not mapped yet, and whose verified e-mail no
    other user of the feed has."""
    mapped = {main_site_id for main_site_id in held.values() if main_site_id is not None}
    verified = Counter(u.email.lower() for u in users if u.email and u.email_verified)
    for user in users:
        new = user.panel_user_id is None and user.main_site_user_id not in mapped
        if new and user.email and user.email_verified and verified[user.email.lower()] == 1:
            yield user


def _batches(items: Iterable[T], progress: Progress) -> Iterator[list[T]]:
    """Lists of at most ``BATCH``. Every item is decided before the first list is stored."""
    waiting = list(items)
    for start in range(0, len(waiting), BATCH):
        progress("storing users", start, len(waiting))
        yield waiting[start : start + BATCH]


def _store_named(engine: Engine, batch: Sequence[Named], result: Imported) -> None:
    values = {
        "ids": [panel_id for panel_id, _ in batch],
        "mains": [user.main_site_user_id for _, user in batch],
        "names": [user.username for _, user in batch],
        "emails": [user.email for _, user in batch],
        "verified": [user.email_verified for _, user in batch],
    }
    with engine.begin() as connection:
        rows = connection.execute(text(STORE_NAMED), values).all()
    result.mapped += len(rows)
    result.added += sum(row.inserted for row in rows)
    stored = {row.main_site_user_id for row in rows}
    # Another import or an operator mapped one of the two in the meantime.
    result.conflicts += [user.main_site_user_id for _, user in batch if user.main_site_user_id not in stored]


def _store_by_email(engine: Engine, batch: Sequence[User], result: Imported) -> None:
    values = {"mains": [user.main_site_user_id for user in batch], "emails": [user.email for user in batch]}
    with engine.begin() as connection:
        result.mapped += connection.execute(text(MAP_BY_EMAIL), values).rowcount


HELD = "SELECT id, main_site_user_id FROM users"

STORE_NAMED = """
INSERT INTO users AS u (id, main_site_user_id, username, email, email_verified, map_source)
SELECT c.id, c.main, c.name, c.email, c.verified, 'import'
FROM unnest(CAST(:ids AS bigint[]), CAST(:mains AS text[]), CAST(:names AS text[]), CAST(:emails AS text[]),
  CAST(:verified AS boolean[])) AS c(id, main, name, email, verified)
WHERE NOT EXISTS (SELECT 1 FROM users x WHERE x.main_site_user_id = c.main)
  AND NOT EXISTS (SELECT 1 FROM users x WHERE x.id = c.id AND x.main_site_user_id IS NOT NULL)
ORDER BY c.id
ON CONFLICT (id) DO UPDATE SET main_site_user_id = excluded.main_site_user_id, map_source = 'import',
  updated_at = clock_timestamp(), mapped_at = clock_timestamp()
WHERE u.main_site_user_id IS NULL
RETURNING main_site_user_id, xmax = 0 AS inserted
"""

MAP_BY_EMAIL = """
UPDATE users u SET main_site_user_id = found.main, map_source = 'email', updated_at = clock_timestamp(),
  mapped_at = clock_timestamp()
FROM (SELECT c.main, min(x.id) AS id FROM unnest(CAST(:mains AS text[]), CAST(:emails AS text[])) AS c(main, email)
      JOIN users x ON lower(x.email) = lower(c.email) AND x.email_verified
      WHERE NOT EXISTS (SELECT 1 FROM users y WHERE y.main_site_user_id = c.main)
      GROUP BY c.main HAVING count(*) = 1) found
WHERE u.id = found.id AND u.main_site_user_id IS NULL
"""
