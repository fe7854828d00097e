"""One reconciler at a time. Liveness is a session lock that dies with its process; safety is the epoch.

Whoever takes the lock raises the epoch; every write of a run checks it, so a run that lost its connection (and
with it the lock) cannot write any more, however late it wakes up.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Engine, select, text

from panel import tables

LEASE = "reconcile"
LOCK_KEY = 0x7265636F6E  # any constant of this application's own


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


def lease_holder(connection: Connection) -> Holder | None:
    """Who took the lease last; whether it is still held is the lock's to say."""
    leases = tables.leases
    row = connection.execute(select(leases).where(leases.c.name == LEASE)).one_or_none()
    return Holder(row.holder, row.taken_at) if row is not None and row.taken_at is not None else None


@contextmanager
def reconcile_lease(engine: Engine, holder: str) -> Iterator[Lease | None]:
    """Take the lease for the length of the block; yields None when another run has it."""
    with engine.connect() as connection:
        # The server must not cut a run's connection for waiting on Proxmox between two statements.
        connection.execute(text("SET idle_in_transaction_session_timeout = 0"))
        connection.execute(text("SET statement_timeout = '120s'"))
        connection.execute(NOTICE_THE_END)
        got = connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": LOCK_KEY})
        connection.commit()
        if not got:
            yield None
            return
        try:
            epoch = connection.scalar(RAISE_EPOCH, {"holder": holder})
            connection.commit()
            yield Lease(int(epoch or 0), connection)
        finally:
            # The session holds the lock and settings: it is not given back to the pool.
            connection.invalidate()


# A killed process's connection is looked after in the middle of a statement too, or the lease would outlive it by as
# long as the statement takes. Servers on systems that cannot tell refuse the setting.
NOTICE_THE_END = text(
    "DO $$ BEGIN PERFORM set_config('client_connection_check_interval', '500ms', false);"
    " EXCEPTION WHEN invalid_parameter_value THEN NULL; END $$"
)
RAISE_EPOCH = text(
    "INSERT INTO leases (name, epoch, holder, taken_at) VALUES ('reconcile', 1, :holder, clock_timestamp()) "
    "ON CONFLICT (name) DO UPDATE SET epoch = leases.epoch + 1, holder = excluded.holder,"
    " taken_at = excluded.taken_at RETURNING epoch"
)
