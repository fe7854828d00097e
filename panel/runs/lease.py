"""One reconciler at a time. Liveness is a session lock that dies with its process; safety is the epoch.

Whoever takes the lease raises the epoch; every write of a run checks it, so a run that lost its connection (and
with it the lock) cannot write any more, however late it wakes up.

Before the lease comes the turn: one run of each kind at a time. What takes long and writes no record (a feed, many
configurations) is read in one's turn but without the lease, so that the fast lane need not wait for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Engine, select, text
from sqlalchemy.exc import DBAPIError, OperationalError

from panel.own_session import require_session
from panel.schema import tables
from panel.sessions import driver_connection

LEASE = "reconcile"
LOCK_KEY = 0x7265636F6E  # any constant of this application's own
TURN_KEYS = {"full": 0x7265636F6F, "fast": 0x7265636F70, "look": 0x7265636F71}

LEASE_WAIT_S = 10.0
"""How long a run waits for one of the other kind to end: longer than that takes once it holds the lease, as a rule."""

LOCK_NOT_AVAILABLE = "55P03"


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to write repairs, and the connection that keeps it (also good for temporary tables)."""

    epoch: int
    connection: Connection


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds the lease, or held it last: ``name`` is host:pid, ``since`` on the database's clock."""

    name: str
    since: datetime

    def __str__(self) -> str:
        return f"{self.name}, since {self.since:%Y-%m-%d %H:%M:%S} UTC"


class FencedError(Exception):
    """Another run holds the lease now: this one must stop writing."""


def hold_lease(connection: Connection, epoch: int) -> None:
    """Keep the lease's epoch as it is to the end of the transaction. Raises FencedError if it is another by now.

    FOR SHARE: a new holder's update waits for this write, so epochs never interleave in what runs write.
    """
    leases = tables.leases
    held = connection.scalar(select(leases.c.epoch).where(leases.c.name == LEASE).with_for_update(read=True))
    if held != epoch:
        raise FencedError(f"epoch {epoch} was replaced by {held}")


def lease_holder(connection: Connection, name: str = LEASE) -> Holder | None:
    """Who took the lease (or the turn of that name) last; whether it is still held is the lock's to say."""
    leases = tables.leases
    row = connection.execute(select(leases).where(leases.c.name == name)).one_or_none()
    return Holder(row.holder, row.taken_at) if row is not None and row.taken_at is not None else None


@contextmanager
def turn(engine: Engine, kind: str, holder: str) -> Iterator[Connection | None]:
    """Be the only run of that kind for the length of the block; yields None when there is one. "full", "fast", or
    "look": the rolling read of configurations.

    The connection is for the run alone: it keeps the locks, and temporary tables are its own.
    """
    with engine.connect() as connection:
        require_session(driver_connection(connection))
        # The server must not cut a run's connection for waiting on Proxmox between two statements.
        connection.execute(text("SET idle_in_transaction_session_timeout = 0"))
        connection.execute(text("SET statement_timeout = '120s'"))
        connection.execute(NOTICE_THE_END)
        got = connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": TURN_KEYS[kind]})
        connection.commit()
        if not got:
            yield None
            return
        try:
            connection.execute(TAKE, {"name": f"turn:{kind}", "holder": holder})
            connection.commit()
            yield connection
            # Unlock before closing: a busy server notices a closed session late, and the next run would be turned away.
            if not connection.invalidated:
                with suppress(DBAPIError):
                    connection.rollback()
                    connection.execute(text("SELECT pg_advisory_unlock_all()"))
        finally:
            # The session holds settings and temporary tables: it is not given back to the pool.
            connection.invalidate()


def take_lease(connection: Connection, holder: str, wait_s: float = LEASE_WAIT_S) -> Lease | None:
    """Take the lease until the turn ends; None when a run of the other kind keeps it for more than ``wait_s`` seconds.
    ``connection``: of ``turn``, outside of a transaction."""
    connection.execute(text("SELECT set_config('lock_timeout', :limit, true)"), {"limit": f"{int(wait_s * 1000)}ms"})
    try:
        connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": LOCK_KEY})
    except OperationalError as error:
        if getattr(error.orig, "sqlstate", None) != LOCK_NOT_AVAILABLE:
            raise
        connection.rollback()
        return None
    epoch = connection.scalar(TAKE, {"name": LEASE, "holder": holder})
    connection.commit()
    return Lease(int(epoch or 0), connection)


# A killed process's connection is looked after in the middle of a statement too, or the lease would outlive it by as
# long as the statement takes. Servers on systems that cannot tell refuse the setting.
NOTICE_THE_END = text(
    "DO $$ BEGIN PERFORM set_config('client_connection_check_interval', '500ms', false);"
    " EXCEPTION WHEN invalid_parameter_value THEN NULL; END $$"
)
TAKE = text(
    "INSERT INTO leases (name, epoch, holder, taken_at) VALUES (:name, 1, :holder, clock_timestamp()) "
    "ON CONFLICT (name) DO UPDATE SET epoch = leases.epoch + 1, holder = excluded.holder,"
    " taken_at = excluded.taken_at RETURNING epoch"
)
