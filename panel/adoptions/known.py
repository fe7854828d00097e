"""What the panel knows of guests and orders that may belong together, as values of the domain.

Every look-up is for a whole page of guests at once, by an index, and stops after a fixed number of rows for each.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, TextClause, text

from domain.adoptions.candidates import CREATED_WITH, tagged_orders
from domain.adoptions.permission import Around
from domain.guests import Guest, GuestKey
from domain.orders import Order
from domain.records import Record
from domain.size_drift import Size
from panel.observations.loaded_candidates import guest_of, parsed_orders, parsed_records
from panel.observations.owners import IS_OWNER
from panel.observations.proof import PROVEN, Proof
from panel.settings import Settings

PER_LOOK_UP = 10
"""How many orders without a guest one look-up gives a guest."""
SCANNED = 200
"""How many orders of a name, an address, a VMID or a size one look-up goes through to find them."""
NEIGHBOURS = 100
"""How many of a customer's newest records are looked at for other guests on the same node."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How the panel reads the main site. ``shared_ids``: its user ids are also the panel's. ``proof``: what proves that
    an order is gone, so that it claims no guest any more."""

    shared_ids: bool
    proof: Proof

    @classmethod
    def of(cls, settings: Settings) -> Reading:
        """As the settings say."""
        proof = Proof(settings.absence_proof_n, timedelta(seconds=settings.absence_proof_t_s))
        return cls(settings.user_id_space == "shared", proof)


@dataclass(frozen=True, slots=True)
class KnownOrder:
    """An order that is listed. ``username``: its customer's in the panel."""

    order: Order
    username: str | None


def guest_at(connection: Connection, key: GuestKey) -> Guest | None:
    """The guest that is listed at an address."""
    row = connection.execute(GUEST_AT, {"cluster": key.cluster, "vmid": key.vmid}).one_or_none()
    return None if row is None else guest_of(row, {}, {})


def orders_of(connection: Connection, order_ids: Collection[str], reading: Reading) -> dict[str, KnownOrder]:
    """The orders with these ids that are listed now."""
    rows = connection.execute(ORDERS[reading.shared_ids], {"ids": sorted(order_ids)}).all()
    names = {row.order_id: row.username for row in rows}
    return {order.order_id: KnownOrder(order, names[order.order_id]) for order in parsed_orders(rows, {})}


def order_of_record(connection: Connection, vps_id: int) -> tuple[bool, str | None]:
    """(whether there is such a live record, the id of its order)."""
    row = connection.execute(ORDER_OF_RECORD, {"id": vps_id}).one_or_none()
    return row is not None, row.order_id if row is not None else None


def possible_orders(
    connection: Connection, guests: Sequence[Guest], sizes: Mapping[GuestKey, Size]
) -> dict[GuestKey, set[str]]:
    """For each guest the ids of orders without a guest that share a name, an address, a VMID, a tag, or a size and a
    time with it. A value that several guests share is looked up once."""
    by_name = _found(connection, BY_NAME, {guest.name for guest in guests if guest.name})
    by_address = _found(connection, BY_ADDRESS, {guest.ip_address for guest in guests if guest.ip_address})
    by_vmid = _found(connection, BY_VMID, {guest.vmid for guest in guests})
    tags = {guest.key: tagged_orders(guest.tags) for guest in guests}
    tagged = set(connection.scalars(TAGGED, {"ids": sorted(set().union(*tags.values()))}))
    by_size = _by_size(connection, guests, sizes)
    return {
        guest.key: by_name.get(guest.name, set())
        | by_address.get(guest.ip_address, set())
        | by_vmid.get(guest.vmid, set())
        | (tags[guest.key] & tagged)
        | by_size.get(guest.key, set())
        for guest in guests
    }


def _found(connection: Connection, statement: TextClause, values: Collection[Any]) -> dict[Any, set[str]]:
    found: dict[Any, set[str]] = defaultdict(set)
    limits = {"scanned": SCANNED, "most": PER_LOOK_UP}
    for row in connection.execute(statement, {"values": sorted(values)} | limits):
        found[row.value].add(row.order_id)
    return found


def _by_size(
    connection: Connection, guests: Sequence[Guest], sizes: Mapping[GuestKey, Size]
) -> dict[GuestKey, set[str]]:
    values: dict[str, Any] = {
        "n": list(range(len(guests))),
        "cores": [sizes[guest.key].cores for guest in guests],
        "memory": [sizes[guest.key].memory_mb for guest in guests],
        "disks": [sizes[guest.key].disk_gb for guest in guests],
        "seen": [guest.first_seen_at for guest in guests],
        "within": CREATED_WITH,
        "scanned": SCANNED,
        "most": PER_LOOK_UP,
    }
    found: dict[GuestKey, set[str]] = defaultdict(set)
    for row in connection.execute(BY_SIZE, values):
        found[guests[row.n].key].add(row.order_id)
    return found


class Surroundings:
    """What else is known of these guests and these orders. It takes four statements, however many there are."""

    def __init__(
        self, connection: Connection, guests: Iterable[Guest], orders: Iterable[Order], reading: Reading
    ) -> None:
        guests = list(guests)
        self._own = _records_of(connection, orders)
        self._held = _records_at(connection, guests)
        self._naming = _naming(connection, [guest.key for guest in guests], reading)
        self._twins = _twins(connection, guests)

    def of(self, guest: Guest, order: Order | None = None) -> Around:
        """What is around a guest and an order, or around the guest whatever its order is."""
        order_id = order.order_id if order is not None else None
        own, held = self._own.get(order_id or "", {}), self._held.get(guest.key, {})
        return Around(
            own=tuple(record for record in own.values() if record.live),
            others=tuple(record for id_, record in held.items() if id_ not in own and record.live),
            deleted=tuple(record for record in (own | held).values() if not record.live),
            naming=tuple(id_ for id_ in self._naming.get(guest.key, ()) if id_ != order_id),
            twins=self._twins.get(guest.key, ()),
        )


def guests_of_customers(
    connection: Connection, user_ids: Collection[int]
) -> Mapping[int, Mapping[tuple[str, str], int]]:
    """How many identified guests each customer has, by user and by (cluster, node), among their newest records."""
    found: dict[int, dict[tuple[str, str], int]] = defaultdict(dict)
    for row in connection.execute(GUESTS_OF_CUSTOMERS, {"users": sorted(user_ids), "most": NEIGHBOURS}):
        found[row.user_id][row.cluster, row.node] = row.guests
    return found


def namesakes(connection: Connection, guests: Sequence[Guest]) -> dict[GuestKey, tuple[GuestKey, ...]]:
    """For each guest the other listed guests with its name that have no record, up to ``PER_LOOK_UP``."""
    names = sorted({guest.name for guest in guests if guest.name is not None})
    by_name: dict[str, list[GuestKey]] = defaultdict(list)
    for row in connection.execute(NAMESAKES, {"names": names, "scanned": SCANNED, "most": PER_LOOK_UP + 1}):
        by_name[row.name].append(GuestKey(row.cluster, row.vmid))
    return {g.key: tuple(key for key in by_name.get(g.name or "", ()) if key != g.key) for g in guests}


def _records_of(connection: Connection, orders: Iterable[Order]) -> dict[str, dict[int, Record]]:
    """The records of each order: linked to it, or named by it, also by the id of a record merged into them."""
    orders = list(orders)
    values = {"ids": [order.order_id for order in orders], "named": [order.panel_vps_id for order in orders]}
    rows = connection.execute(RECORDS_OF, values).all()
    records = {record.id: record for record in parsed_records(rows, {})}
    found: dict[str, dict[int, Record]] = defaultdict(dict)
    for row in rows:
        if row.id in records:
            found[row.of_order][row.id] = records[row.id]
    return found


def _records_at(connection: Connection, guests: Iterable[Guest]) -> dict[GuestKey, dict[int, Record]]:
    guests = list(guests)
    values = {
        "clusters": [guest.cluster for guest in guests],
        "vmids": [guest.vmid for guest in guests],
        "fingerprints": [guest.fingerprint for guest in guests],
    }
    rows = connection.execute(RECORDS_AT, values).all()
    records = {record.id: record for record in parsed_records(rows, {})}
    found: dict[GuestKey, dict[int, Record]] = defaultdict(dict)
    for row in rows:
        if row.id in records:
            found[GuestKey(row.at_cluster, row.at_vmid)][row.id] = records[row.id]
    return found


def _naming(connection: Connection, keys: Iterable[GuestKey], reading: Reading) -> dict[GuestKey, list[str]]:
    found: dict[GuestKey, list[str]] = defaultdict(list)
    for row in connection.execute(NAMING, _addresses(keys) | asdict(reading.proof)):
        found[GuestKey(row.cluster, row.vmid)].append(row.order_id)
    return found


def _twins(connection: Connection, guests: Iterable[Guest]) -> dict[GuestKey, tuple[GuestKey, ...]]:
    known = {guest.key: guest.fingerprint for guest in guests if guest.fingerprint is not None}
    rows = connection.execute(TWINS, {"fingerprints": sorted(set(known.values()))})
    by_fingerprint: dict[str, list[GuestKey]] = defaultdict(list)
    for row in rows:
        by_fingerprint[row.fingerprint].append(GuestKey(row.cluster, row.vmid))
    return {key: tuple(k for k in by_fingerprint[value] if k != key) for key, value in known.items()}


def _addresses(keys: Iterable[GuestKey]) -> dict[str, list[Any]]:
    keys = list(keys)
    return {"clusters": [key.cluster for key in keys], "vmids": [key.vmid for key in keys]}


GUEST_AT = text("SELECT * FROM guests WHERE cluster = :cluster AND vmid = :vmid AND unlisted_since IS NULL")
ORDER_OF_RECORD = text("SELECT order_id FROM vps WHERE id = :id AND deleted_at IS NULL")

_ORDERS = (
    "SELECT o.*, u.id AS user_id, u.username, u.mapped_at, CAST(NULL AS timestamptz) AS staged_at"
    " FROM orders_seen o LEFT JOIN users u ON {whose}"
    " WHERE o.order_id = ANY(CAST(:ids AS text[])) AND o.unlisted_since IS NULL"
)
ORDERS = {shared: text(_ORDERS.format(whose=is_owner)) for shared, is_owner in IS_OWNER.items()}
"""By whether the main site's user ids are also the panel's."""

# An order without a guest: it has no linked record, and no guest is listed where it says one is.
_GOING = "o.state IN ('active', 'pending', 'suspended')"
_WITHOUT_GUEST = """o.unlisted_since IS NULL
  AND NOT EXISTS (SELECT 1 FROM vps r WHERE r.order_id = o.order_id AND r.deleted_at IS NULL AND r.vmid IS NOT NULL)
  AND NOT EXISTS (SELECT 1 FROM guests x WHERE x.cluster = o.cluster AND x.vmid = o.vmid AND x.unlisted_since IS NULL)
"""


def _look_up(alike: str) -> str:
    scanned = f"SELECT o.* FROM orders_seen o WHERE {_GOING} AND {alike} LIMIT :scanned"  # noqa: S608 - own text
    return f"(SELECT o.order_id FROM ({scanned}) o WHERE {_WITHOUT_GUEST} LIMIT :most)"  # noqa: S608 - own text


def _of_records(alike: str) -> str:
    """Where a feed names no guests, most orders of a name have one. The records without a guest are few."""
    return (
        "(SELECT r.order_id FROM vps r WHERE r.deleted_at IS NULL AND r.vmid IS NULL AND r.order_id IS NOT NULL"  # noqa: S608 - own text
        f" AND {alike} LIMIT :most)"
    )


def _by(kind: str, look_ups: str) -> TextClause:
    return text(
        f"SELECT w.value, o.order_id FROM unnest(CAST(:values AS {kind}[])) AS w(value)"  # noqa: S608 - own text
        f" CROSS JOIN LATERAL ({look_ups}) o"
    )


BY_NAME = _by("text", f"{_look_up('o.name = w.value')} UNION {_of_records('r.name = w.value')}")
BY_ADDRESS = _by("text", f"{_look_up('o.ip_address = w.value')} UNION {_of_records('r.ip_address = w.value')}")
BY_VMID = _by("int", _look_up("o.vmid = w.value"))
_SIZE_AND_TIME = (
    "o.ram_mb = w.memory AND o.cpu = CAST(w.cores AS int) AND o.disk_gb = w.disk"
    " AND o.created_at BETWEEN w.seen - CAST(:within AS interval) AND w.seen + CAST(:within AS interval)"
)
BY_SIZE = text(
    "SELECT w.n, o.order_id FROM unnest(CAST(:n AS int[]), CAST(:cores AS float8[]), CAST(:memory AS int[]),"  # noqa: S608 - own text
    " CAST(:disks AS int[]), CAST(:seen AS timestamptz[])) AS w(n, cores, memory, disk, seen)"
    f" CROSS JOIN LATERAL {_look_up(_SIZE_AND_TIME)} o"
)
TAGGED = text(
    "SELECT o.order_id FROM orders_seen o WHERE o.order_id = ANY(CAST(:ids AS text[]))"  # noqa: S608 - own text
    f" AND {_GOING} AND {_WITHOUT_GUEST}"
)

_RECORD = "r.*, (q.applied_seq < q.last_seq) AS in_flight"
RECORDS_OF = text(
    f"SELECT w.order_id AS of_order, {_RECORD}"  # noqa: S608 - own text
    " FROM unnest(CAST(:ids AS text[]), CAST(:named AS bigint[])) AS w(order_id, named)"
    " CROSS JOIN LATERAL (SELECT r.id FROM vps r WHERE r.order_id = w.order_id"
    " UNION SELECT coalesce(n.merged_into, n.id) FROM vps n WHERE n.id = w.named) i"
    " JOIN vps r ON r.id = i.id JOIN vps_queues q ON q.vps_id = r.id WHERE r.merged_into IS NULL"
)
RECORDS_AT = text(
    f"SELECT w.cluster AS at_cluster, w.vmid AS at_vmid, {_RECORD}"  # noqa: S608 - own text
    " FROM unnest(CAST(:clusters AS text[]), CAST(:vmids AS int[]), CAST(:fingerprints AS text[]))"
    " AS w(cluster, vmid, fingerprint) CROSS JOIN LATERAL ("
    "SELECT r.id FROM vps r WHERE r.cluster = w.cluster AND r.vmid = w.vmid AND r.deleted_at IS NULL"
    " UNION SELECT r.id FROM vps r WHERE r.claimed_cluster = w.cluster AND r.claimed_vmid = w.vmid"
    " AND r.claimed_vmid IS NOT NULL AND r.deleted_at IS NULL"
    " UNION SELECT r.id FROM vps r WHERE r.fingerprint = w.fingerprint) i"
    " JOIN vps r ON r.id = i.id JOIN vps_queues q ON q.vps_id = r.id WHERE r.merged_into IS NULL"
)
NAMING = text(
    "SELECT o.cluster, o.vmid, o.order_id FROM unnest(CAST(:clusters AS text[]), CAST(:vmids AS int[]))"  # noqa: S608 - own text
    " AS w(cluster, vmid) JOIN orders_seen o ON o.cluster = w.cluster AND o.vmid = w.vmid WHERE o.state <> 'ended'"
    " AND (o.unlisted_since IS NULL OR NOT coalesce("
    f"(SELECT {PROVEN} FROM absences a WHERE a.kind = 'order' AND a.subject = o.order_id), false))"
)
TWINS = text(
    "SELECT fingerprint, cluster, vmid FROM guests"
    " WHERE fingerprint = ANY(CAST(:fingerprints AS text[])) AND unlisted_since IS NULL"
)
GUESTS_OF_CUSTOMERS = text(
    "SELECT w.user_id, r.cluster, r.node, count(*) AS guests FROM unnest(CAST(:users AS bigint[])) AS w(user_id)"
    " CROSS JOIN LATERAL (SELECT r.cluster, r.node, r.link_state FROM vps r"
    " WHERE r.user_id = w.user_id AND r.deleted_at IS NULL ORDER BY r.id DESC LIMIT :most) r"
    " WHERE r.link_state = 'verified' GROUP BY w.user_id, r.cluster, r.node"
)
NAMESAKES = text(
    "SELECT w.name, g.cluster, g.vmid FROM unnest(CAST(:names AS text[])) AS w(name) CROSS JOIN LATERAL ("
    "SELECT g.cluster, g.vmid FROM (SELECT g.cluster, g.vmid FROM guests g"
    " WHERE g.name = w.name AND g.unlisted_since IS NULL AND NOT g.template LIMIT :scanned) g"
    " WHERE NOT EXISTS (SELECT 1 FROM vps r WHERE r.cluster = g.cluster AND r.vmid = g.vmid AND r.deleted_at IS NULL)"
    " LIMIT :most) g"
)
