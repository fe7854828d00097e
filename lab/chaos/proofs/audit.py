"""Compare the panel's database with the truth that the simulators know, during the faults and afterwards."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Engine, Row, text

from lab.chaos.proofs.call_proof import Journaled
from lab.chaos.proofs.queue_proof import Entry, VpsQueues, prove_epochs, prove_vps_queues
from lab.chaos.world import Sale, World

Record = Row[Any]

DELETED_GRACE = timedelta(minutes=10)
"""For this long after a delete the audit expects no finding about an order or guest that is still there. The panel
waits for reads that began three minutes after the delete (``Policy.deleted_alive_grace``). No setting shortens that."""


@dataclass(frozen=True, slots=True)
class OpenFinding:
    """An open finding of the panel."""

    class_: str
    subject: str
    vps_id: int | None
    order_id: str | None
    cluster: str | None
    vmid: int | None
    reason: str


@dataclass(frozen=True, slots=True)
class Counts:
    """The journal in numbers. ``calls``: how many sync calls are in each state; ``runs``: the same of runs."""

    calls: Mapping[str, int]
    repairs: int
    runs: Mapping[str, int]
    epochs: int

    @property
    def accepted(self) -> int:
        return sum(self.calls.values())


def violations(connection: Connection, worlds: Iterable[World]) -> list[str]:
    """Sentences about records in a state that is forbidden even for a moment."""
    by_name = {sale.name: sale for world in worlds for sale in world.sales}
    records = connection.execute(RECORDS).all()
    wrong = [
        sentence
        for row in records
        if (sale := by_name.get(row.name)) is not None
        for sentence in _violations_of(row, sale)
    ]
    names = {row.id: row.name for row in records}
    wrong += [
        f"VPS {row.id} ({row.name}) was merged into VPS {row.merged_into} ({names.get(row.merged_into)})"
        for row in records
        if row.merged_into is not None and names.get(row.merged_into) != row.name
    ]
    return wrong


def _violations_of(row: Record, sale: Sale) -> Iterator[str]:
    named = f"VPS {row.id} ({sale.name}, order {sale.order_id})"
    if row.user_id not in sale.owners:
        yield f"{named} belongs to user {row.user_id}, its owners were {sale.owners}"
    if row.fingerprint not in (None, sale.fingerprint):
        yield f"{named} is linked to {row.fingerprint}, its guest is {sale.fingerprint}"
    if row.order_id not in (None, str(sale.order_id)):
        yield f"{named} is linked to order {row.order_id}"
    if row.deleted_at is None or row.merged_into is not None:
        return
    if sale.ended_at is None or sale.ended_at > row.delete_applied_at:
        yield f"{named} was deleted ({row.deleted_reason}) though its order goes on"
    elif row.deleted_by == "repair" and (sale.gone_at is None or sale.gone_at > row.delete_applied_at):
        yield f"{named} was deleted ({row.deleted_reason}) though its guest exists"


def differences(connection: Connection, worlds: Iterable[World]) -> tuple[list[str], list[str]]:
    """(held, unnamed): differences from the truth that a finding names, and differences that no finding names."""
    findings = [OpenFinding(*row) for row in connection.execute(FINDINGS)]
    live: dict[str, list[Record]] = {}
    ids: dict[str, set[int]] = {}
    deleted_lately: set[str] = set()
    now = datetime.now(UTC)
    for row in connection.execute(RECORDS):
        ids.setdefault(row.name, set()).add(row.id)
        if row.deleted_at is None:
            live.setdefault(row.name, []).append(row)
        elif now - row.deleted_at < DELETED_GRACE:
            deleted_lately.add(row.name)
    held: list[str] = []
    unnamed: list[str] = []
    for world in worlds:
        guests = {g.name: (g.status, g.node) for c in world.clusters.values() for g in c.list_guests()}
        orders = {order.id: order.status for order in world.site.list_orders()}
        for sale in list(world.sales):
            power, node = guests.get(sale.name, (None, None))
            wrong = _wrong(sale, live.get(sale.name, []), orders.get(sale.order_id), power, node)
            classes = {f.class_ for f in findings if _about(f, sale, ids.get(sale.name, set()))}
            # A finding may name another record that claims the same address.
            here = {f.class_ for f in findings if sale.there and (f.cluster, f.vmid) == (sale.cluster, sale.vmid)}
            expected = _expected(sale, live.get(sale.name, []), power)
            if not live.get(sale.name) and sale.name in deleted_lately:
                expected = None
            if expected and not (classes | (here & set(_INSTEAD))) & {expected, *_INSTEAD}:
                unnamed.append(f"{_named(sale)}: no finding {expected} (found: {sorted(classes)})")
            if wrong and not classes & _HOLDING:
                unnamed.append(f"{_named(sale)}: {wrong} (found: {sorted(classes)})")
            elif wrong:
                held.append(f"{_named(sale)}: {wrong}; held as {sorted(classes & _HOLDING)}")
        unnamed += [
            f"guest {world.stray_cluster}/{guest.vmid}, which was never sold, has no finding"
            for guest in list(world.strays)
            if not any((f.class_, f.vmid) == ("unmanaged-guest", guest.vmid) for f in findings)
        ]
    return held, unnamed


_INSTEAD = ("ambiguous", "delete-held", "unlinked-record", "held")
_HOLDING = {
    "ambiguous", "delete-held", "unlinked-record", "order-vanished", "held", "link-conflict", "not-confirmed",
}  # fmt: skip
"""Findings that name a difference and leave the decision to an operator, or to a later proof."""


def _named(sale: Sale) -> str:
    state = sale.status if sale.going else "ended" if sale.listed else "removed"
    return f"{sale.name} (order {sale.order_id} {state}, guest {sale.cluster}/{sale.vmid}" + (
        ")" if sale.there else " gone)"
    )


def _about(finding: OpenFinding, sale: Sale, ids: set[int]) -> bool:
    return (
        finding.vps_id in ids
        or finding.order_id == str(sale.order_id)
        or (sale.there and finding.vps_id is None and (finding.cluster, finding.vmid) == (sale.cluster, sale.vmid))
    )


def _expected(sale: Sale, live: Sequence[Record], power: str | None) -> str | None:
    """The class of the finding that must be open, if any."""
    if sale.going:
        return "paid-but-missing" if power is None else None
    if power is None:
        return None
    if sale.listed:
        return "ended-but-running"
    return "guest-without-order" if live else "unmanaged-guest"


def _wrong(sale: Sale, live: Sequence[Record], order: str | None, power: str | None, node: str | None) -> str | None:
    if not sale.going:
        return f"{len(live)} record(s) are still there" if live and power is None else None
    if len(live) != 1:
        return f"it has {len(live)} records" if live or power is not None else None
    row = live[0]
    expected = {"user_id": sale.owners[-1], "order_id": str(sale.order_id), "cpu": sale.cpu}
    if order == "suspended":
        expected["status"] = "suspended"
    elif power is None:
        expected["status"] = "error"
    else:
        expected["status"] = "creating" if order == "creating" else power
    if power is not None:
        expected |= {"fingerprint": sale.fingerprint, "node": node}
    wrong = [f"{name} is {getattr(row, name)}, not {value}" for name, value in expected.items()
             if getattr(row, name) != value]  # fmt: skip
    return f"VPS {row.id}: {', '.join(wrong)}" if wrong else None


def count_journal(connection: Connection) -> Counts:
    """The journal in numbers."""
    calls = {row.state: row.n for row in connection.execute(CALLS)}
    runs = {row.state: row.n for row in connection.execute(RUNS)}
    repairs = connection.scalar(text("SELECT count(*) FROM operations WHERE kind = 'repair'")) or 0
    epoch = connection.scalar(text("SELECT coalesce(max(epoch), 0) FROM leases")) or 0
    return Counts(calls, repairs, runs, epoch)


def clean_runs(connection: Connection, since: datetime) -> int:
    """How many full runs began after ``since`` and ended without a problem."""
    return connection.scalar(CLEAN, {"since": since}) or 0


def vps_queues(engine: Engine) -> VpsQueues:
    """The proof over the queues of the whole journal. Rows are streamed."""
    with engine.connect().execution_options(stream_results=True, max_row_buffer=2000) as connection:
        versions = {row.id: row.version for row in connection.execute(VERSIONS)}
        return prove_vps_queues((Entry(**row._mapping) for row in connection.execute(ENTRIES)), versions)


def journal_of(connection: Connection, vps_ids: Iterable[int]) -> dict[int, list[Journaled]]:
    """The marked calls of these VPSs in the journal, in the order of their queues."""
    queues: dict[int, list[Journaled]] = {vps_id: [] for vps_id in vps_ids}
    for row in connection.execute(MARKED, {"ids": sorted(queues)}):
        queues[row.vps_id].append(Journaled(row.id, row.mark, row.state))
    return queues


def marks_of(connection: Connection, vps_ids: Iterable[int]) -> dict[int, str | None]:
    """The marks in the records of these VPSs."""
    return {row.id: row.ip_address for row in connection.execute(MARKS, {"ids": sorted(vps_ids)})}


def epochs(connection: Connection) -> list[str]:
    """Sentences about repairs that were not written in the order of their epochs."""
    epoch_of = {row.id: row.epoch for row in connection.execute(text("SELECT id, epoch FROM runs"))}
    repairs = (Entry(**row._mapping) for row in connection.execute(REPAIRS))
    return list(prove_epochs(repairs, epoch_of))


def unknown_operations(connection: Connection, answered: Iterable[int]) -> list[int]:
    """Operations that answers named and that are not in the journal."""
    rows = connection.execute(UNKNOWN, {"ids": sorted(set(answered))})
    return [row.id for row in rows]


def history(connection: Connection, names: Iterable[str]) -> list[str]:
    """The journal of the records with these names, one line per operation."""
    lines = []
    for row in connection.execute(HISTORY, {"names": sorted(set(names))}):
        what = f"{row.at:%H:%M:%S.%f} operation {row.id} ({row.kind} {row.action}, {row.source}), VPS {row.vps_id}"
        lines.append(f"{what}: {row.state} {row.result or ''} {row.reason or row.error or ''}")
        lines.append(f"    {row.before} -> {row.after}; run {row.run_id}, evidence {row.evidence}")
    return lines


RECORDS = text(
    "SELECT r.id, r.user_id, r.name, r.fingerprint, r.order_id, r.status, r.node, r.cpu, r.deleted_at,"
    " r.deleted_reason, r.merged_into, d.kind AS deleted_by, coalesce(d.applied_at, r.deleted_at) AS delete_applied_at"
    " FROM vps r LEFT JOIN operations d ON d.vps_id = r.id AND d.action = 'delete' AND d.state = 'applied'"
)
FINDINGS = text(
    "SELECT class, subject, vps_id, order_id, cluster, vmid, reason FROM findings WHERE resolved_at IS NULL"
)
CALLS = text("SELECT state, count(*) AS n FROM operations WHERE kind = 'sync' GROUP BY state")
RUNS = text("SELECT state, count(*) AS n FROM runs GROUP BY state")
CLEAN = text(
    "SELECT count(*) FROM runs WHERE kind = 'full' AND state = 'done' AND started_at > :since AND problems = '{}'"
)
VERSIONS = text("SELECT id, version FROM vps")
_ENTRY = (
    "SELECT id, kind, action, vps_id, seq, state, accepted_at, applied_at, (before ->> 'version')::bigint AS before,"
    " (after ->> 'version')::bigint AS after, coalesce(reason, error) AS why, run_id, epoch"
)
ENTRIES = text(f"{_ENTRY} FROM operations ORDER BY vps_id, seq")
REPAIRS = text(f"{_ENTRY}, pg_xact_commit_timestamp(xmin) AS committed_at FROM operations WHERE kind = 'repair'")
MARKED = text(
    "SELECT vps_id, id, payload ->> 'ip_address' AS mark, state FROM operations"
    " WHERE kind = 'sync' AND vps_id = ANY(CAST(:ids AS bigint[])) AND payload ->> 'ip_address' IS NOT NULL"
    " ORDER BY vps_id, seq"
)
MARKS = text("SELECT id, ip_address FROM vps WHERE id = ANY(CAST(:ids AS bigint[]))")
HISTORY = text(
    "SELECT coalesce(applied_at, accepted_at) AS at, id, kind, action, source, vps_id, state, result, reason, error,"
    " before, after, run_id, evidence FROM operations"
    " WHERE vps_id IN (SELECT id FROM vps WHERE name = ANY(CAST(:names AS text[]))) ORDER BY vps_id, seq"
)
UNKNOWN = text(
    "SELECT asked.id FROM unnest(CAST(:ids AS bigint[])) AS asked(id)"
    " WHERE NOT EXISTS (SELECT 1 FROM operations o WHERE o.id = asked.id)"
)
