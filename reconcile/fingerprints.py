"""Read who guests are: configurations of those whose identity is not known or may have changed.

They cannot be read in bulk. A run reads a few while it holds the lease; what a new panel has to catch up on is read
before, slowly, so that neither Proxmox nor the fast lane is kept busy.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from itertools import zip_longest

import structlog
from sqlalchemy import Connection

from panel import views
from panel.suspects import WantedConfig, fingerprint_wants, unread_guests
from reconcile.observe import Observed, database_now
from reconcile.ports import Found, Gone, GuestSource, Unclear

log = structlog.get_logger(__name__)

PER_RUN = 20
"""Of each cluster while the lease is held: a second or two."""

AHEAD_PER_RUN = 60
AHEAD_PAUSE_S = 0.5  # two a second and cluster: three workers serve a whole Proxmox node


def read_fingerprints(connection: Connection, sources: Iterable[GuestSource], seen: Observed) -> int:
    """Read the configurations that this run's lists ask for; how many were kept."""
    views.doubt_fingerprints(connection)
    return sum(
        _read(connection, source, wanted)
        for source in sources
        if source.cluster in seen.trusted
        for wanted in fingerprint_wants(connection, source.cluster, PER_RUN)
    )


def read_ahead(
    connection: Connection, sources: Iterable[GuestSource], pause: Callable[[float], None] = time.sleep
) -> int:
    """Read configurations of guests that nobody has looked at yet, before the lease is taken; how many were kept.

    What the first look leaves to the run is kept apart: a second look counts as one only in another run.
    """
    waiting = [[(s, w) for w in unread_guests(connection, s.cluster, AHEAD_PER_RUN)] for s in sources]
    done = 0
    for number, together in enumerate(zip_longest(*waiting)):
        if number:
            pause(AHEAD_PAUSE_S)
        done += sum(_read(connection, *one, unchanged=True) for one in together if one is not None)
    return done


def _read(connection: Connection, source: GuestSource, wanted: WantedConfig, *, unchanged: bool = False) -> bool:
    """``unchanged``: the answer counts only if no list has told anything new of the guest meanwhile."""
    at = database_now(connection)
    connection.commit()
    kept = False
    match source.config(wanted.node, wanted.guest_type, wanted.vmid):
        case Found(value=config):
            kept = views.store_fingerprint(
                connection, source.cluster, wanted.vmid, config.fingerprint,
                "forbidden" if config.forbidden else "read", at, config.name,
                wanted.changed_at if unchanged else None,
            )  # fmt: skip
            if not kept:
                log.info("listed_by_an_old_report", cluster=source.cluster, vmid=wanted.vmid)
        case Gone() | Unclear() as other:
            log.info("fingerprint_not_read", cluster=source.cluster, vmid=wanted.vmid, answer=type(other).__name__)
    connection.commit()
    return kept
