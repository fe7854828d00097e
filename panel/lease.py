"""One reconciler at a time. Liveness is a session lock that dies with its process; safety is the epoch.

Whoever takes the lock raises the epoch; every write of a run checks it, so a run that lost its connection (and
with it the lock) cannot write any more, however late it wakes up.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, text

LOCK_KEY = 0x7265636F6E  # any constant of this application's own


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to write repairs, and the connection that keeps it (also good for temporary tables)."""

    epoch: int
    connection: Connection


@contextmanager
def reconcile_lease(engine: Engine, holder: str) -> Iterator[Lease | None]:
    """Take the lease for the length of the block; yields None when another run has it."""
    with engine.connect() as connection:
        # The server must not cut a run's connection for waiting on Proxmox between two statements.
        connection.execute(text("SET idle_in_transaction_session_timeout = 0"))
        connection.execute(text("SET statement_timeout = '120s'"))
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


RAISE_EPOCH = text(
    "INSERT INTO leases (name, epoch, holder) VALUES ('reconcile', 1, :holder) "
    "ON CONFLICT (name) DO UPDATE SET epoch = leases.epoch + 1, holder = excluded.holder RETURNING epoch"
)
