"""The queues of a set, locked, and everything that their calls name. A few statements, however many calls there are.

Locks are taken in the order of all writers: order ids sorted, then VPS queues by id. Nothing waits for one of them
here (``Patience.NONE``): what another transaction holds is left out, and comes later.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from sqlalchemy import Connection, select, text

from panel.journal import rows
from panel.journal.call_sets.decision import guest_name, guests_of, order_name, orders_of, shared
from panel.journal.call_sets.effects import Address, QueuedCall
from panel.records.projection import Row
from panel.schema import tables

MOST_CALLS = 500
"""In one transaction, so that its locks are held for a fraction of a second."""


class Patience(Enum):
    """Whether to wait for the locks that another transaction holds."""

    NONE = 0.5
    """Leave those queues out. The seconds are for what must be waited for: rows that others are just writing."""
    BRIEF = 0.15
    """Wait for this many seconds. A set holds its locks for less."""


@dataclass(slots=True)
class CallSet:
    """Queues with their queued calls, under locks. ``left``: VPSes whose calls must be applied one by one;
    ``locked``: those that another transaction holds."""

    calls: dict[int, list[QueuedCall]]
    rows: dict[int, Row] = field(default_factory=dict)
    left: set[int] = field(default_factory=set)
    locked: set[int] = field(default_factory=set)
    holders: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    """Name of an order or a guest -> the VPSes that have it."""
    unfree: set[str] = field(default_factory=set)
    """Names that another VPS of the set names, too, and guests that another transaction has locked."""

    def taken(self, vps_id: int) -> set[str]:
        """The names that this VPS may not take."""
        calls, row = self.calls[vps_id], self.rows.get(vps_id)
        return {
            name for name in names_of(row, calls) if name in self.unfree or self.holders.get(name, set()) - {vps_id}
        }


def names_of(row: Row | None, calls: Sequence[QueuedCall]) -> set[str]:
    """The orders and guests that a VPS has or that its calls name."""
    return {order_name(o) for o in orders_of(row, calls)} | {guest_name(g) for g in guests_of(row, calls)}


def load(connection: Connection, up_to: Mapping[int, int], patience: Patience) -> CallSet:
    """Lock and read the queued calls of these VPSes, each up to this number of its queue. There may be more of them
    than fit into one transaction: then the last ones are missing."""
    connection.execute(SET_LOCK_TIMEOUT, {"ms": str(int(1000 * patience.value))})
    found = CallSet(_queued(connection, up_to))
    found.left = {vps_id for vps_id, calls in found.calls.items() if any(_failed_before(call) for call in calls)}
    _lock(connection, found, patience)
    usual = sorted(set(found.calls) - found.left - found.locked)
    loaded = connection.execute(select(tables.vps).where(tables.vps.c.id.in_(usual)))
    found.rows = {row.id: dict(row._mapping) for row in loaded}
    _keep_queued(connection, found)
    _leave_those_that_share(found)
    _find_holders(connection, found)
    _lock_guests(connection, found)
    return found


def _queued(connection: Connection, up_to: Mapping[int, int]) -> dict[int, list[QueuedCall]]:
    operations = tables.operations
    values = {"vps_ids": list(up_to), "seqs": list(up_to.values()), "most": MOST_CALLS}
    queued: dict[int, list[Any]] = defaultdict(list)
    for call in connection.execute(QUEUED.columns(*(operations.c[name] for name in COLUMNS)), values):
        queued[call.vps_id].append(call)
    return dict(queued)


def _failed_before(call: Any) -> bool:  # noqa: ANN401 - a row
    return call.publishes > 1 or call.attempts > 0 or call.error is not None


def _lock(connection: Connection, found: CallSet, patience: Patience) -> None:
    orders = {vps_id: orders_of(None, calls) for vps_id, calls in found.calls.items() if vps_id not in found.left}
    wanted = set().union(*orders.values())
    if wanted and patience is Patience.NONE:
        got = set(connection.scalars(TRY_ORDERS, {"names": sorted(map(order_name, wanted))}))
        found.locked = {vps_id for vps_id, named in orders.items() if not got.issuperset(map(order_name, named))}
    else:
        rows.lock_orders(connection, wanted)
    queues = tables.vps_queues.c.vps_id
    usual = set(orders) - found.locked
    lock = select(queues).where(queues.in_(sorted(usual))).order_by(queues)
    found.locked |= usual - set(connection.scalars(lock.with_for_update(skip_locked=patience is Patience.NONE)))


def _keep_queued(connection: Connection, found: CallSet) -> None:
    """Leave out what another worker applied before the queue was locked."""
    usual = {vps_id: calls for vps_id, calls in found.calls.items() if vps_id not in found.left | found.locked}
    ids = [call.id for calls in usual.values() for call in calls]
    queued = set(connection.scalars(STILL_QUEUED, {"ids": ids})) if ids else set()
    for vps_id, calls in usual.items():
        found.calls[vps_id] = [call for call in calls if call.id in queued]


def _leave_those_that_share(found: CallSet) -> None:
    """Two VPSes that name the same order or guest depend on the order in which their calls are applied."""
    names = {vps_id: names_of(found.rows.get(vps_id), calls) for vps_id, calls in found.calls.items()}
    found.unfree = shared(names.values())
    if found.unfree:
        found.left |= {vps_id for vps_id, named in names.items() if named & found.unfree} - found.locked


def _find_holders(connection: Connection, found: CallSet) -> None:
    orders: set[str] = set()
    guests: set[Address] = set()
    for vps_id, calls in _usual(found):
        row = found.rows.get(vps_id)
        orders |= orders_of(None, calls)
        guests |= guests_of(row, calls)
    if not orders and not guests:
        return
    clusters, vmids = [g[0] for g in guests], [g[1] for g in guests]
    values = {"orders": sorted(orders), "clusters": clusters, "vmids": vmids}
    for holder in connection.execute(HOLDERS, values):
        is_order = holder.order_id is not None
        name = order_name(holder.order_id) if is_order else guest_name((holder.cluster, holder.vmid))
        found.holders[name].add(holder.id)


def _lock_guests(connection: Connection, found: CallSet) -> None:
    """Lock the guests that calls name: they may get a doubt. A run that writes them holds nobody up."""
    guests = sorted({g for _, calls in _usual(found) for g in guests_of(None, calls)})
    if guests:
        values = {"clusters": [g[0] for g in guests], "vmids": [g[1] for g in guests]}
        found.unfree |= {guest_name((g.cluster, g.vmid)) for g in connection.execute(HELD_GUESTS, values)}


def _usual(found: CallSet) -> Iterable[tuple[int, Sequence[QueuedCall]]]:
    return ((v, calls) for v, calls in found.calls.items() if v not in found.left and v not in found.locked)


COLUMNS = ("id", "vps_id", "seq", "action", "payload", "accepted_at", "publishes", "attempts", "error")
QUEUED = text(
    f"SELECT {', '.join('o.' + name for name in COLUMNS)}"  # noqa: S608 - own text
    " FROM unnest(CAST(:vps_ids AS bigint[]), CAST(:seqs AS bigint[])) AS n(vps_id, up_to)"
    " JOIN operations o ON o.vps_id = n.vps_id AND o.seq <= n.up_to AND o.state = 'queued'"
    " ORDER BY o.vps_id, o.seq LIMIT :most"
)
SET_LOCK_TIMEOUT = text("SELECT set_config('lock_timeout', :ms, true)")
TRY_ORDERS = text(
    "SELECT n FROM unnest(CAST(:names AS text[])) AS t(n) WHERE pg_try_advisory_xact_lock(hashtextextended(n, 0))"
)
STILL_QUEUED = text("SELECT id FROM operations WHERE id = ANY(:ids) AND state = 'queued'")
HOLDERS = text(
    "SELECT order_id, CAST(NULL AS text) AS cluster, CAST(NULL AS integer) AS vmid, id"
    " FROM vps WHERE order_id = ANY(:orders) AND deleted_at IS NULL"
    " UNION ALL SELECT order_id, NULL, NULL, vps_id FROM order_claims WHERE order_id = ANY(:orders)"
    " UNION ALL SELECT order_id, NULL, NULL, vps_id FROM vps_queues WHERE order_id = ANY(:orders) AND applied_seq = 0"
    " UNION ALL SELECT NULL, v.cluster, v.vmid, v.id"
    " FROM unnest(CAST(:clusters AS text[]), CAST(:vmids AS integer[])) AS n(cluster, vmid)"
    " JOIN vps v ON v.cluster = n.cluster AND v.vmid = n.vmid AND v.deleted_at IS NULL"
)
HELD_GUESTS = text(
    "WITH named AS (SELECT * FROM unnest(CAST(:clusters AS text[]), CAST(:vmids AS integer[])) AS n(cluster, vmid)),"
    " locked AS (SELECT g.cluster, g.vmid FROM named n JOIN guests g ON g.cluster = n.cluster AND g.vmid = n.vmid"
    " ORDER BY g.cluster, g.vmid FOR UPDATE OF g SKIP LOCKED)"
    " SELECT g.cluster, g.vmid FROM named n JOIN guests g ON g.cluster = n.cluster AND g.vmid = n.vmid"
    " WHERE NOT EXISTS (SELECT 1 FROM locked l WHERE l.cluster = g.cluster AND l.vmid = g.vmid)"
)
