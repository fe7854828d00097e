"""Import users from the main site: new ones, and which main-site id each panel user has. Never guesses.

A main-site id is mapped by the feed naming the panel's id, or by a verified e-mail that is unique on both sides.
In the ``shared`` space both ids are the same number.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import structlog
from sqlalchemy import Connection, text

from panel.pauses import ALL, FEED, current_pauses
from panel.run_log import remember_source, users_imported
from panel.source_health import report_sources
from reconcile.ports import OrderFeed
from reconcile.state import User
from reconcile.troubles import USERS, Cause, Trouble
from reconcile.under_way import Reconciler

log = structlog.get_logger(__name__)


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
        said = f"{self.seen} seen, {self.added} added, {self.mapped} mapped, {len(self.conflicts)} conflicts"
        return said + ("; incomplete" if self.problem else "")


def import_users(reconciler: Reconciler) -> Imported:
    """Read all users and store what is new. What a broken read did show is still used: users are only added."""
    feed = reconciler.feed
    if feed is None:
        return Imported(problem="no main site is configured")
    with reconciler.engine.begin() as connection:
        pauses = current_pauses(connection)
    if (pause := pauses.get(ALL) or pauses.get(FEED)) is not None:
        return Imported(problem=str(pause))
    result = Imported()
    users = _read(feed, result)
    verified = Counter(u.email.lower() for u in users if u.email and u.email_verified)
    with reconciler.engine.begin() as connection:
        for user in users:
            if reconciler.shared_ids:
                _store_shared(connection, user, result)
            else:
                _store_mapped(connection, user, verified, result)
        if result.problem is None:
            remember_source(connection, USERS, last_users_at=connection.scalar(text("SELECT clock_timestamp()")))
        report_sources(connection, None, {USERS: _trouble(result.problem, known=users_imported(connection))})
    log.info("users_imported", seen=result.seen, added=result.added, mapped=result.mapped, problem=result.problem)
    return result


def import_first_users(reconciler: Reconciler) -> None:
    """Import them if that was never done completely: before, an order's owner is nobody that the panel knows."""
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


def _read(feed: OrderFeed, result: Imported) -> list[User]:
    sweep = feed.users()
    users = [user for page in sweep.pages for user in page.items]
    result.seen, result.problem = len(users), sweep.problem
    return users


def _store_shared(connection: Connection, user: User, result: Imported) -> None:
    if not user.main_site_user_id.isdigit() or int(user.main_site_user_id) < 1:
        result.conflicts.append(user.main_site_user_id)
        return
    _upsert(connection, int(user.main_site_user_id), user, result)


def _store_mapped(connection: Connection, user: User, verified: Counter[str], result: Imported) -> None:
    known = connection.scalar(text("SELECT id FROM users WHERE main_site_user_id = :m"), {"m": user.main_site_user_id})
    if known is not None:
        if user.panel_user_id not in (None, known):
            result.conflicts.append(user.main_site_user_id)
        return
    if user.panel_user_id is not None:
        _upsert(connection, user.panel_user_id, user, result)
    elif user.email and user.email_verified and verified[user.email.lower()] == 1:
        values = {"m": user.main_site_user_id, "email": user.email}
        if connection.execute(text(MAP_BY_EMAIL), values).rowcount:
            result.mapped += 1


def _upsert(connection: Connection, panel_id: int, user: User, result: Imported) -> None:
    values = {
        "id": panel_id,
        "m": user.main_site_user_id,
        "username": user.username,
        "email": user.email,
        "verified": user.email_verified,
    }
    row = connection.execute(text(UPSERT), values).one_or_none()
    if row is None:  # the panel's user is mapped to another main-site id: an operator must say which is right
        result.conflicts.append(user.main_site_user_id)
    elif row.inserted:
        result.added += 1
        result.mapped += 1
    elif row.newly_mapped:
        result.mapped += 1


UPSERT = """
WITH old AS (SELECT id, main_site_user_id FROM users WHERE id = :id)
INSERT INTO users AS u (id, main_site_user_id, username, email, email_verified, map_source)
VALUES (:id, :m, :username, :email, :verified, 'import')
ON CONFLICT (id) DO UPDATE SET main_site_user_id = excluded.main_site_user_id,
  map_source = coalesce(u.map_source, 'import'), updated_at = clock_timestamp(),
  mapped_at = CASE WHEN u.main_site_user_id IS NULL THEN clock_timestamp() ELSE u.mapped_at END
WHERE u.main_site_user_id IS NULL OR u.main_site_user_id = excluded.main_site_user_id
RETURNING (SELECT id FROM old) IS NULL AS inserted,
  (SELECT main_site_user_id FROM old) IS NULL AS newly_mapped
"""

MAP_BY_EMAIL = """
UPDATE users SET main_site_user_id = :m, map_source = 'email', updated_at = clock_timestamp(),
  mapped_at = clock_timestamp()
WHERE id = (SELECT min(id) FROM users WHERE lower(email) = lower(:email) AND email_verified
            HAVING count(*) = 1)
  AND main_site_user_id IS NULL
"""
