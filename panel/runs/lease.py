"""The lease: only one run writes at a time.

A session lock, which ends with its process, shows that a run is alive. The epoch keeps writes safe: taking the lease
raises it, and every write of a run checks it. A run that lost its connection, and so the lock, cannot write any more,
however late it wakes up.

A run takes its turn before the lease: one run of each kind at a time. Slow reads that write no record (a feed, many
configurations) happen in the turn but before the lease, so that the fast runs need not wait for them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Engine, select, text
from sqlalchemy.exc import DBAPIError, OperationalError

from panel.schema import tables
from panel.sessions import driver_connection, require_session

LEASE = "reconcile"
LOCK_KEY = 0x7265636F6E  # "recon" in ASCII; any constant that only this application uses
TURN_KEYS = {"full": 0x7265636F6F, "fast": 0x7265636F70, "look": 0x7265636F71}

LEASE_WAIT_S = 10.0
"""How long a run waits while a run of the other kind has the lease. A run rarely holds it for longer."""

LOCK_NOT_AVAILABLE = "55P03"


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to write repairs, and the connection that holds it (also used for temporary tables)."""

    epoch: int
    connection: Connection


@dataclass(frozen=True, slots=True)
class Holder:
    """Who took the lease last: ``name`` is host:pid, ``since`` is on the database's clock."""

    name: str
    since: datetime

    def __str__(self) -> str:
        return f"{self.name}, since {self.since:%Y-%m-%d %H:%M:%S} UTC"


class FencedError(Exception):
    """Another run holds the lease now: this one must stop writing."""


def hold_lease(connection: Connection, epoch: int) -> None:
    """Lock the lease's epoch until the transaction ends. Raises FencedError if another run has raised it.

    The lock is FOR SHARE: a run that takes the lease waits for this write to end, so no write of an older epoch comes
    after one of a newer epoch.
    """
    leases = tables.leases
    current = connection.scalar(select(leases.c.epoch).where(leases.c.name == LEASE).with_for_update(read=True))
    if current != epoch:
        raise FencedError(f"epoch {epoch} was replaced by {current}")


def lease_holder(connection: Connection, name: str = LEASE) -> Holder | None:
    """Who took the lease, or the turn of that name, last. Only the lock tells whether they still hold it."""
    leases = tables.leases
    row = connection.execute(select(leases).where(leases.c.name == name)).one_or_none()
    return Holder(row.holder, row.taken_at) if row is not None and row.taken_at is not None else None


@contextmanager
def hold_turn(engine: Engine, kind: str, holder: str) -> Iterator[Connection | None]:
    """Be the only run of this kind inside the block. Yields None if there is another. Kinds: "full", "fast" and "look"
    (the rolling read of configurations).

    The connection belongs to the run alone: it holds the locks, the temporary tables and the run's settings. It goes
    back to the pool as it came. If anything failed, it is closed instead.
    """
    with engine.connect() as connection:
        require_session(driver_connection(connection))
        try:
            # The server must not end a run's connection while the run waits for Proxmox between two statements.
            connection.execute(text("SET idle_in_transaction_session_timeout = 0"))
            connection.execute(text("SET statement_timeout = '120s'"))
            # A run's statements join whole tables, each once: there is nothing to compile for, and hashes need room.
            connection.execute(text("SET jit = off"))
            connection.execute(text("SET work_mem = '64MB'"))
            connection.execute(NOTICE_THE_END)
            got = connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": TURN_KEYS[kind]})
            connection.commit()
            if got:
                connection.execute(TAKE, {"name": f"turn:{kind}", "holder": holder})
                connection.commit()
            yield connection if got else None
            if not connection.invalidated:
                _leave(connection)
        except BaseException:
            connection.invalidate()
            raise


def _leave(connection: Connection) -> None:
    """Make the session what it was before the turn: without locks, temporary tables and settings of its own."""
    try:
        connection.rollback()
        for statement in ("SELECT pg_advisory_unlock_all()", "DISCARD TEMP", "RESET ALL"):
            connection.execute(text(statement))
        connection.commit()
    except DBAPIError:
        connection.invalidate()


def take_lease(connection: Connection, holder: str, wait_s: float = LEASE_WAIT_S) -> Lease | None:
    """Take the lease until the turn ends; None if a run of the other kind keeps it for more than ``wait_s`` seconds.
    ``connection``: from ``hold_turn``, outside a transaction."""
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


# The server checks a client's connection during a statement, too. Otherwise a killed process would keep the lease until
# its statement ends. Servers on systems without this check refuse the setting.
NOTICE_THE_END = text(
    "DO $$ BEGIN PERFORM set_config('client_connection_check_interval', '500ms', false);"
    " EXCEPTION WHEN invalid_parameter_value THEN NULL; END $$"
)
TAKE = text(
    "INSERT INTO leases (name, epoch, holder, taken_at) VALUES (:name, 1, :holder, clock_timestamp()) "
    "ON CONFLICT (name) DO UPDATE SET epoch = leases.epoch + 1, holder = excluded.holder,"
    " taken_at = excluded.taken_at RETURNING epoch"
)
