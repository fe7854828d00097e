"""Reads the identity of guests: the configurations of those whose identity is unknown or may have changed.

Proxmox cannot give them in bulk. A run reads a few while it holds the lease. The many of a new panel or an evacuated
node are read before the lease, slowly, so that neither Proxmox nor the fast runs are kept busy.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from itertools import zip_longest

import structlog
from sqlalchemy import Connection

from domain.guests import FingerprintState
from domain.source_protocols import Found, Gone, GuestSource, Unclear
from panel.journal.rows import database_now
from panel.observations import snapshots
from panel.observations.guest_configs import (
    WantedConfig,
    clusters_with,
    doubted_wants,
    fingerprint_wants,
    keep_config,
    note_unanswered,
    rolling_wants,
    wants_ahead,
)
from reconcile.observation.observe import Observed

log = structlog.get_logger(__name__)

PER_RUN = 20
"""Per cluster while the lease is held: a second or two."""
RUN_FOR_S = 15.0
"""For all clusters together. A missing answer takes half a minute."""

DOUBTED_PER_RUN = 20
DOUBTED_FOR_S = 5.0
"""Before power states are written, per cluster, and the time for all: a second's work unless a node does not answer."""

ROLLING_A_MINUTE = 120
ROLLING_PER_TURN = 40
ROLLING_PAUSE_S = 0.1
ROLLING_FOR_S = 8.0
"""The rolling read after each fast run. It must end before the next one."""

AHEAD_PER_RUN = 120
AHEAD_PAUSE_S = 0.5  # two a second and cluster: three workers serve a whole Proxmox node
AHEAD_FOR_S = 60.0


@dataclass(frozen=True, slots=True)
class ConfigsReadAhead:
    """What was read before the lease: when that began (database clock), and how many configurations were kept."""

    began: datetime
    kept: int


def read_fingerprints(
    connection: Connection, sources: Iterable[GuestSource], seen: Observed, ahead: ConfigsReadAhead
) -> int:
    """Read the configurations that this run's lists call for. Returns how many were kept, with those read ahead."""
    kept, until = ahead.kept, time.monotonic() + RUN_FOR_S
    for source in sources:
        if source.cluster not in seen.trusted:
            continue
        reader = _ConfigReader(connection, source, PER_RUN, until)
        away = seen.away.get(source.cluster, frozenset())
        wants = fingerprint_wants(connection, source.cluster, SPARE * PER_RUN, away, ahead.began)
        kept += sum(_read(reader, wanted) for wanted in wants if reader.may_ask(wanted))
    return kept


def read_doubted(connection: Connection, sources: Iterable[GuestSource], seen: Observed) -> int:
    """Read the identity of records' guests in doubt before anything is written from them. Returns how many were kept.

    A guest that was switched on or off is in doubt, because it may be another machine. A few are read in each run, so
    power follows within one fast run unless very many are switched at once.
    """
    kept, until = 0, time.monotonic() + DOUBTED_FOR_S
    doubted = clusters_with(connection, FingerprintState.STALE) & seen.trusted
    for source in sources:
        if source.cluster in doubted:
            reader = _ConfigReader(connection, source, DOUBTED_PER_RUN, until)
            away = seen.away.get(source.cluster, frozenset())
            wants = doubted_wants(connection, source.cluster, SPARE * DOUBTED_PER_RUN, away)
            kept += sum(_read(reader, wanted) for wanted in wants if reader.may_ask(wanted))
    return kept


def read_ahead(connection: Connection, sources: Iterable[GuestSource]) -> ConfigsReadAhead:
    """Read configurations of new and changed guests before the lease. If they are few, the run itself reads them."""
    began, until = database_now(connection), time.monotonic() + AHEAD_FOR_S
    waiting = []
    unknown = clusters_with(connection, FingerprintState.UNREAD, FingerprintState.STALE)
    for source in sources:
        if source.cluster not in unknown:
            continue
        wants = wants_ahead(connection, source.cluster, SPARE * AHEAD_PER_RUN)
        reader = _ConfigReader(connection, source, AHEAD_PER_RUN, until)
        waiting.append([(reader, wanted) for wanted in wants] if len(wants) > PER_RUN else [])
    kept, asked = 0, False
    for together in zip_longest(*waiting):
        due = [pair for pair in together if pair is not None and pair[0].may_ask(pair[1])]
        if due and asked:
            time.sleep(AHEAD_PAUSE_S)
        asked = asked or bool(due)
        kept += sum(_read(reader, wanted, unchanged=True) for reader, wanted in due)
    return ConfigsReadAhead(began, kept)


def rolling_read(connection: Connection, sources: Iterable[GuestSource]) -> int:
    """Between two runs, without the lease, read the configurations that were read longest ago. Returns how many were
    kept.

    Together with the reads of runs that is two a second and cluster, so a cluster of 4,000 guests takes 34 minutes.
    """
    until = time.monotonic() + ROLLING_FOR_S
    waiting = []
    for source in sources:
        reader = _ConfigReader(connection, source, ROLLING_PER_TURN, until)
        wants = rolling_wants(connection, source.cluster, ROLLING_PER_TURN, ROLLING_A_MINUTE)
        waiting.append([(reader, wanted) for wanted in wants])
    connection.commit()
    kept = 0
    for together in zip_longest(*waiting):
        due = [pair for pair in together if pair is not None and pair[0].may_ask(pair[1])]
        kept += sum(_read(reader, wanted, unchanged=True) for reader, wanted in due)
        if due:
            time.sleep(ROLLING_PAUSE_S)
    return kept


SPARE = 3
"""How many times more guests are selected than are asked about: some nodes turn out not to answer."""


@dataclass(slots=True)
class _ConfigReader:
    """One cluster being asked: at most ``left`` times and not after ``until`` (monotonic clock). A node that gave no
    answer is not asked again, because every further guest on it would cost half a minute of waiting."""

    connection: Connection
    source: GuestSource
    left: int
    until: float
    silent: set[str] = field(default_factory=set)

    def may_ask(self, wanted: WantedConfig) -> bool:
        return self.left > 0 and wanted.node not in self.silent and time.monotonic() < self.until


def _read(reader: _ConfigReader, wanted: WantedConfig, *, unchanged: bool = False) -> bool:
    """``unchanged``: the answer counts only if no list has shown anything new of the guest since."""
    connection, source = reader.connection, reader.source
    at = database_now(connection)
    connection.commit()
    reader.left -= 1
    kept = False
    match source.config(wanted.node, wanted.guest_type, wanted.vmid):
        case Found(value=config):
            kept = snapshots.store_fingerprint(
                connection, source.cluster, wanted.vmid, config.fingerprint,
                "forbidden" if config.forbidden else "read", at, config.name,
                wanted.changed_at if unchanged else None, config.ip_address,
            )  # fmt: skip
            if kept:
                keep_config(connection, source.cluster, wanted.vmid, config, at)
            else:
                log.info("listed_by_an_old_report", cluster=source.cluster, vmid=wanted.vmid)
        case Gone() | Unclear() as other:
            reader.silent.add(wanted.node)
            log.info("fingerprint_not_read", cluster=source.cluster, vmid=wanted.vmid, answer=type(other).__name__)
    if not kept:
        note_unanswered(connection, source.cluster, wanted.vmid, at)
    connection.commit()
    return kept
