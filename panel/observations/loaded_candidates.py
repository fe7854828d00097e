"""Loads what ``panel.observations.candidates`` selected, and what else is known of its machines, as domain values.

A row that cannot be parsed stops no run: it is noted in ``broken`` by its subject. If ``broken`` is None, the error is
raised.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, fields
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import Connection, text

from domain.failures import Broken, cause_of, guest_ties, order_ties, record_ties
from domain.guests import FingerprintState, Guest, GuestKey, PowerState
from domain.orders import Order, OrderState
from domain.record_columns import COLUMNS
from domain.records import Record
from panel.observations.components import quarter_of_budget
from panel.observations.proof import PROVEN, Proof

T = TypeVar("T")

_RECORD_FIELDS = {f.name for f in fields(Record)}
_ORDER_FIELDS = {f.name for f in fields(Order)}
_GUEST_FIELDS = {f.name for f in fields(Guest)}
_ENUMS: dict[str, Any] = {
    **{column.name: column.words for column in COLUMNS if isinstance(column.words, type)},
    "state": OrderState,
    "power": PowerState,
    "fingerprint_state": FingerprintState,
}


def load_orders(connection: Connection, broken: dict[str, Broken] | None = None) -> tuple[Order, ...]:
    """The selected orders that are not proven gone, with the panel's user id where the user map knows it."""
    return parsed_orders(connection.execute(text(LOAD_ORDERS)), broken)


def load_guests(
    connection: Connection,
    previous: dict[str, datetime | None],
    began: dict[str, datetime],
    broken: dict[str, Broken] | None = None,
) -> tuple[Guest, ...]:
    """The selected guests that this run's trusted reads listed.

    By cluster, ``began``: when this trusted read began; ``previous``: when the one before it did.
    """
    return parsed_guests(connection.execute(text(LOAD_GUESTS)), previous, began, broken)


def load_records(connection: Connection, broken: dict[str, Broken] | None = None) -> tuple[Record, ...]:
    """The selected records, tombstones included."""
    return parsed_records(connection.execute(text(LOAD_RECORDS)), broken)


def load_unidentified(
    connection: Connection,
    clusters: Iterable[str],
    proof: Proof,
    broken: dict[str, Broken] | None = None,
    limit: int | None = None,
) -> tuple[Guest, ...] | None:
    """Guests of these clusters that are not proven gone and whose identity is not known now. None if there are more
    than ``limit`` (a quarter of the budget) or one cannot be parsed: then any guest may be among them."""
    limit = quarter_of_budget() if limit is None else limit
    values = {"clusters": sorted(clusters), "limit": limit + 1} | asdict(proof)
    rows = connection.execute(text(LOAD_UNIDENTIFIED), values).all()
    parsed = parsed_guests(rows, {}, {}, broken)
    return parsed if len(parsed) == len(rows) <= limit else None


def load_remembered(connection: Connection, broken: dict[str, Broken] | None = None) -> tuple[Guest, ...]:
    """The selected guests that are not listed now, as they were last listed."""
    return parsed_guests(connection.execute(text(LOAD_REMEMBERED)), {}, {}, broken)


def load_unlisted(connection: Connection) -> dict[GuestKey, datetime]:
    """The selected guests that are known but not listed any more, and since when."""
    rows = connection.execute(text(LOAD_UNLISTED))
    return {GuestKey(row.cluster, row.vmid): row.unlisted_since for row in rows}


def load_sightings(connection: Connection) -> dict[str, frozenset[GuestKey]]:
    """By fingerprint, the addresses among the selected guests where it was last read, listed now or not."""
    sightings: dict[str, set[GuestKey]] = {}
    for row in connection.execute(text(LOAD_SIGHTINGS)):
        sightings.setdefault(row.fingerprint, set()).add(GuestKey(row.cluster, row.vmid))
    return {fingerprint: frozenset(keys) for fingerprint, keys in sightings.items()}


def parsed_orders(rows: Iterable[Any], broken: dict[str, Broken] | None) -> tuple[Order, ...]:
    """Rows of ``orders_seen`` with ``user_id``, ``mapped_at`` and ``staged_at``."""
    return _parsed(rows, order_of, lambda row: f"order:{row.order_id}", order_ties, broken)


def parsed_records(rows: Iterable[Any], broken: dict[str, Broken] | None) -> tuple[Record, ...]:
    """Rows of ``vps`` with ``in_flight``."""
    return _parsed(rows, record_of, lambda row: f"vps:{row.id}", record_ties, broken)


def parsed_guests(
    rows: Iterable[Any],
    previous: dict[str, datetime | None],
    began: dict[str, datetime],
    broken: dict[str, Broken] | None,
) -> tuple[Guest, ...]:
    """Rows of ``guests``. By cluster, ``began``: when this trusted read began; ``previous``: when the last one did."""
    return _parsed(
        rows, lambda r: guest_of(r, previous, began), lambda row: f"guest:{row.cluster}/{row.vmid}", guest_ties, broken
    )


def _parsed(
    rows: Iterable[Any],
    parse: Callable[[Any], T],
    subject: Callable[[Any], str],
    ties: Callable[[Any], frozenset[str]],
    broken: dict[str, Broken] | None,
) -> tuple[T, ...]:
    values: list[T] = []
    for row in rows:
        try:
            values.append(parse(row))
        except (ValueError, TypeError) as error:  # an enum value that this version does not know
            if broken is None:
                raise
            broken[subject(row)] = Broken(cause_of(error), ties(row))
    return tuple(values)


def record_of(row: Any) -> Record:  # noqa: ANN401 - a Row
    """One row of ``vps``."""
    return Record(**_values(row, _RECORD_FIELDS))


def order_of(row: Any) -> Order:  # noqa: ANN401 - a Row
    """One row of ``orders_seen``."""
    values = _values(row, _ORDER_FIELDS)
    # An order that shows nothing new is not written. Only this run's stage has the time at which it was read again.
    moments = [moment for moment in (values["effective_at"], row.staged_at) if moment is not None]
    return Order(**values | {"effective_at": max(moments, default=None)})


def guest_of(row: Any, previous: dict[str, datetime | None], began: dict[str, datetime]) -> Guest:  # noqa: ANN401 - a Row
    """One row of ``guests``."""
    values = _values(row, _GUEST_FIELDS) | {"tags": tuple(row.tags), "read_at": began.get(row.cluster)}
    before, now = previous.get(row.cluster), began.get(row.cluster)
    if before is not None and row.power_since <= before and (now is None or before < now):  # else a clock went back
        values["previous_read_at"] = before
    return Guest(**values)


def _values(row: Any, names: set[str]) -> dict[str, Any]:  # noqa: ANN401 - a Row
    values = {k: v for k, v in row._mapping.items() if k in names}
    return {k: _ENUMS[k](v) if k in _ENUMS and v is not None else v for k, v in values.items()}


LOAD_ORDERS = """
SELECT o.*, m.user_id, m.mapped_at, s.effective_at AS staged_at
FROM orders_seen o LEFT JOIN user_map m ON m.owner = o.owner LEFT JOIN stage_orders s ON s.order_id = o.order_id
WHERE o.order_id IN (SELECT order_id FROM pick_orders)
  AND NOT EXISTS (SELECT 1 FROM gone_orders x WHERE x.order_id = o.order_id)
"""

LOAD_GUESTS = """
SELECT g.* FROM guests g JOIN stage_guests s ON s.cluster = g.cluster AND s.vmid = g.vmid
WHERE (g.cluster, g.vmid) IN (SELECT cluster, vmid FROM pick_guests)
"""

LOAD_RECORDS = """
SELECT r.*, (l.applied_seq < l.last_seq) AS in_flight FROM vps r JOIN vps_queues l ON l.vps_id = r.id
WHERE r.id IN (SELECT id FROM pick_records)
"""

# On 403, use the last fingerprint that was read.
_LAST_SEEN_AS = "CASE g.fingerprint_state WHEN 'forbidden' THEN coalesce(g.fingerprint, g.previous_fingerprint)"
_LAST_SEEN_AS += " ELSE g.fingerprint END"

LOAD_SIGHTINGS = f"""
SELECT {_LAST_SEEN_AS} AS fingerprint, g.cluster, g.vmid FROM guests g
WHERE {_LAST_SEEN_AS} IS NOT NULL AND (g.cluster, g.vmid) IN (SELECT cluster, vmid FROM pick_guests)
"""

# A guest that is not listed, because its cluster was not read or because a list left it out, counts as still there
# until its absence is proven. A stale guest is left out if it has the fingerprint of the record at its address: it
# counts as that record's machine. Otherwise the guests of a dead node, all of them stale, would hold every delete.
LOAD_UNIDENTIFIED = f"""
SELECT g.* FROM guests g
WHERE g.cluster = ANY(:clusters)
  AND (g.fingerprint_state IN ('unread', 'stale') OR (g.fingerprint_state = 'forbidden' AND g.fingerprint IS NULL))
  AND (g.unlisted_since IS NULL OR NOT coalesce(
    (SELECT {PROVEN} FROM absences a WHERE a.kind = 'guest' AND a.subject = g.cluster || '/' || g.vmid), false))
  AND NOT EXISTS (SELECT 1 FROM vps r WHERE r.cluster = g.cluster AND r.vmid = g.vmid AND r.deleted_at IS NULL
                  AND r.fingerprint = g.fingerprint)
ORDER BY g.cluster, g.vmid LIMIT :limit
"""

LOAD_REMEMBERED = """
SELECT g.* FROM guests g
WHERE (g.cluster, g.vmid) IN (SELECT cluster, vmid FROM pick_guests)
  AND NOT EXISTS (SELECT 1 FROM stage_guests s WHERE s.cluster = g.cluster AND s.vmid = g.vmid)
"""

LOAD_UNLISTED = """
SELECT g.cluster, g.vmid, g.unlisted_since FROM guests g
WHERE g.unlisted_since IS NOT NULL AND (g.cluster, g.vmid) IN (SELECT cluster, vmid FROM pick_guests)
"""
