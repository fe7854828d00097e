"""The adoption inbox: the guests that nobody ordered, each with the orders that may be its own, and the orders that
have no guest. The page, the request and the command show what these functions read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field
from sqlalchemy import Connection, Row, text

from domain.adoptions.candidates import Candidate, Possible, candidates_of, compared
from domain.adoptions.permission import why_guest_is_taken, why_guest_waits
from domain.guests import Guest, GuestKey
from domain.orders import NEVER_PROXMOX, Order
from domain.size_drift import Size
from panel.adoptions.decisions import AdoptionView, latest_of
from panel.adoptions.known import (
    KnownOrder,
    Reading,
    Surroundings,
    guests_of_customers,
    namesakes,
    orders_of,
    possible_orders,
)
from panel.api_answer import api_answer
from panel.observations.loaded_candidates import guest_of

UNMANAGED = "unmanaged-guest"


@api_answer
@dataclass(frozen=True, slots=True)
class CandidateView:
    """An order that may be a guest's, with what speaks for it and against it."""

    order_id: str
    order_status: Annotated[str, Field(description="The main site's own word")]
    vps_id: Annotated[int | None, Field(description="The order's record, if it has one")]
    user_id: Annotated[int | None, Field(description="The panel's id of its customer, if known")]
    username: str | None
    owner: Annotated[str | None, Field(description="The main site's id of its customer")]
    name: str | None
    cpu: int | None
    ram_mb: int | None
    disk_gb: int | None
    ip_address: str | None
    evidence: Annotated[list[str], Field(description="What speaks for it, the strongest first")]
    against: Annotated[list[str], Field(description="What speaks against it")]
    tied: Annotated[bool, Field(description="Another order fits just as well: they cannot be told apart")]
    obstacle: Annotated[str | None, Field(description="Why it cannot be adopted into now, and what to do")]


@api_answer
@dataclass(frozen=True, slots=True)
class InboxGuest:
    """A guest that no order names, and the orders that may be its own."""

    finding_id: int
    cluster: str
    vmid: int
    guest_type: Literal["qemu", "lxc"]
    name: str | None
    node: str
    power: str
    lock: str | None
    cores: float | None
    memory_mb: int | None
    disk_gb: int | None
    ip_address: str | None
    tags: list[str]
    fingerprint: Annotated[str | None, Field(description="Which machine it is; an adoption names it")]
    first_seen_at: datetime
    age_s: Annotated[float, Field(description="Seconds since it was first seen")]
    ignored_by: str | None
    ignored_reason: str | None
    candidates: Annotated[list[CandidateView], Field(description="At most three, the likeliest first")]
    obstacle: Annotated[str | None, Field(description="Why it cannot be adopted now, and what to do")]
    adoption: Annotated[AdoptionView | None, Field(description="The latest of this address; outcome null: it waits")]

    @property
    def key(self) -> GuestKey:
        return GuestKey(self.cluster, self.vmid)

    @property
    def waits(self) -> bool:
        """Whether an adoption of it waits for a run."""
        return self.adoption is not None and self.adoption.outcome is None


@api_answer
@dataclass(frozen=True, slots=True)
class GuestlessOrder:
    """An order that goes on, names no guest, and whose record has none."""

    order_id: str
    order_status: str
    vps_id: int | None
    user_id: int | None
    username: str | None
    owner: str | None
    name: str | None
    cpu: int | None
    ram_mb: int | None
    disk_gb: int | None
    ip_address: str | None
    created_at: datetime | None
    first_seen_at: datetime


def unmanaged_guests(
    connection: Connection,
    reading: Reading,
    *,
    cluster: str | None = None,
    everything: bool = False,
    limit: int = 50,
    offset: int = 0,
) -> list[InboxGuest]:
    """A page of the guests that nobody ordered, by cluster and VMID. ``everything``: also the ignored and the snoozed
    ones."""
    values = {"cluster": cluster, "everything": everything, "limit": limit, "offset": offset}
    return _shown(connection, connection.execute(UNMANAGED_GUESTS, values).all(), reading)


def guestless_orders(
    connection: Connection, reading: Reading, *, limit: int = 50, offset: int = 0
) -> list[GuestlessOrder]:
    """A page of the orders whose guest nobody knows, by id."""
    values = {"limit": limit, "offset": offset, "elsewhere": sorted(NEVER_PROXMOX)}
    rows = connection.execute(GUESTLESS, values).all()
    known = orders_of(connection, [row.order_id for row in rows], reading)
    return [_guestless(known[row.order_id], row) for row in rows if row.order_id in known]


@dataclass(frozen=True, slots=True)
class Looked:
    """What was found about some guests: the likeliest orders of each, all orders that were looked at, by id, and what
    else is known of both."""

    candidates: Mapping[GuestKey, tuple[Candidate, ...]]
    orders: Mapping[str, KnownOrder]
    surroundings: Surroundings


def look_for_orders(
    connection: Connection, guests: Sequence[Guest], sizes: Mapping[GuestKey, Size], reading: Reading
) -> Looked:
    """Find the likeliest orders of guests."""
    wanted = possible_orders(connection, guests, sizes)
    orders = orders_of(connection, set().union(*wanted.values()), reading)
    listed = {guest.key: [orders[id_].order for id_ in wanted.get(guest.key, ()) if id_ in orders] for guest in guests}
    surroundings = Surroundings(connection, guests, (known.order for known in orders.values()), reading)
    customers = {known.order.user_id for known in orders.values() if known.order.user_id is not None}
    neighbours = guests_of_customers(connection, customers)
    alike = namesakes(connection, guests)
    found = {}
    for guest in guests:
        possible = [
            Possible(order, surroundings.of(guest, order), *_near(neighbours, order.user_id, guest))
            for order in listed[guest.key]
        ]
        found[guest.key] = candidates_of(guest, sizes[guest.key], possible, alike[guest.key])
    return Looked(found, orders, surroundings)


def _near(
    neighbours: Mapping[int, Mapping[tuple[str, str], int]], user_id: int | None, guest: Guest
) -> tuple[int, int]:
    """How many guests a customer has on the guest's node and in its cluster."""
    theirs = neighbours.get(user_id or 0, {})
    in_cluster = sum(count for (cluster, _), count in theirs.items() if cluster == guest.cluster)
    return theirs.get((guest.cluster, guest.node), 0), in_cluster


def evidence_for(connection: Connection, guest: Guest, order: Order, reading: Reading) -> list[str]:
    """What the panel knows for and against a guest and an order, to be kept with the operator's decision."""
    row = connection.execute(CONFIG_OF, {"cluster": guest.cluster, "vmid": guest.vmid}).one()
    around = Surroundings(connection, [guest], [order], reading).of(guest, order)
    customers = [order.user_id] if order.user_id is not None else []
    near = _near(guests_of_customers(connection, customers), order.user_id, guest)
    return list(compared(guest, size_of(row), Possible(order, around, *near)))


def size_of(row: Row[Any]) -> Size:
    """A guest's size by its own configuration, if that is known, else as it is listed."""
    if row.config_cores is None and row.config_memory_mb is None and row.config_disk_gb is None:
        return Size(row.cores, row.memory_mb, row.disk_gb)
    return Size(row.config_cores, row.config_memory_mb, row.config_disk_gb)


def _shown(connection: Connection, rows: Sequence[Row[Any]], reading: Reading) -> list[InboxGuest]:
    guests = [guest_of(row, {}, {}) for row in rows]
    sizes = {guest.key: size_of(row) for guest, row in zip(guests, rows, strict=True)}
    looked = look_for_orders(connection, guests, sizes, reading)
    adoptions = latest_of(connection, [guest.key for guest in guests])
    alone = {guest.key: looked.surroundings.of(guest) for guest in guests}
    return [
        InboxGuest(
            finding_id=row.finding_id,
            cluster=guest.cluster,
            vmid=guest.vmid,
            guest_type=row.guest_type,
            name=guest.name,
            node=guest.node,
            power=guest.power.value,
            lock=guest.lock,
            cores=sizes[guest.key].cores,
            memory_mb=sizes[guest.key].memory_mb,
            disk_gb=sizes[guest.key].disk_gb,
            ip_address=guest.ip_address,
            tags=list(guest.tags),
            fingerprint=guest.fingerprint,
            first_seen_at=row.first_seen_at,
            age_s=float(row.age_s),
            ignored_by=row.ignored_by,
            ignored_reason=row.ignored_reason,
            candidates=[_candidate(one, looked.orders) for one in looked.candidates[guest.key]],
            obstacle=why_guest_is_taken(guest, alone[guest.key]) or why_guest_waits(guest, alone[guest.key]),
            adoption=adoptions.get(guest.key),
        )
        for row, guest in zip(rows, guests, strict=True)
    ]


def _candidate(one: Candidate, orders: Mapping[str, KnownOrder]) -> CandidateView:
    known, record = orders[one.possible.order.order_id], one.possible.record
    return CandidateView(
        **_sold(known),
        vps_id=record.id if record is not None else None,
        evidence=list(one.evidence),
        against=list(one.against),
        tied=one.tied,
        obstacle=one.obstacle,
    )


def _guestless(known: KnownOrder, row: Row[Any]) -> GuestlessOrder:
    order = known.order
    return GuestlessOrder(
        **_sold(known), vps_id=row.vps_id, created_at=order.created_at, first_seen_at=row.first_seen_at
    )


def _sold(known: KnownOrder) -> dict[str, Any]:
    order = known.order
    return {
        "order_id": order.order_id,
        "order_status": order.status,
        "user_id": order.user_id,
        "username": known.username,
        "owner": order.owner,
        "name": order.name,
        "cpu": order.cpu,
        "ram_mb": order.ram_mb,
        "disk_gb": order.disk_gb,
        "ip_address": order.ip_address,
    }


CONFIG_OF = text(
    "SELECT g.cores, g.memory_mb, g.disk_gb, c.cores AS config_cores, c.memory_mb AS config_memory_mb,"
    " c.disk_gb AS config_disk_gb FROM guests g LEFT JOIN guest_configs c ON c.cluster = g.cluster AND c.vmid = g.vmid"
    " AND c.fingerprint = g.fingerprint WHERE g.cluster = :cluster AND g.vmid = :vmid"
)
_IGNORED = "LEFT JOIN ignored_guests i ON i.cluster = g.cluster AND i.vmid = g.vmid AND i.fingerprint = g.fingerprint"
UNMANAGED_GUESTS = text(
    "SELECT f.id AS finding_id, g.*, c.cores AS config_cores, c.memory_mb AS config_memory_mb,"  # noqa: S608 - own text
    " c.disk_gb AS config_disk_gb, i.ignored_by, i.reason AS ignored_reason,"
    " extract(epoch FROM clock_timestamp() - g.first_seen_at) AS age_s"
    " FROM findings f JOIN guests g ON g.cluster = f.cluster AND g.vmid = f.vmid"
    " LEFT JOIN guest_configs c ON c.cluster = g.cluster AND c.vmid = g.vmid AND c.fingerprint = g.fingerprint"
    f" {_IGNORED} WHERE f.class = '{UNMANAGED}' AND f.resolved_at IS NULL AND g.unlisted_since IS NULL"
    " AND (CAST(:cluster AS text) IS NULL OR f.cluster = :cluster)"
    " AND (CAST(:everything AS boolean) OR (i.cluster IS NULL"
    " AND coalesce(f.snoozed_until <= clock_timestamp(), true)))"
    " ORDER BY f.cluster, f.vmid LIMIT :limit OFFSET :offset"
)
GUESTLESS = text(
    "SELECT o.order_id, o.first_seen_at, r.id AS vps_id FROM orders_seen o"
    " LEFT JOIN vps r ON r.order_id = o.order_id AND r.deleted_at IS NULL"
    " WHERE o.state IN ('active', 'suspended') AND (o.cluster IS NULL OR o.vmid IS NULL) AND o.unlisted_since IS NULL"
    " AND r.vmid IS NULL AND coalesce(NOT o.hypervisor = ANY(CAST(:elsewhere AS text[])), true)"
    " ORDER BY o.order_id LIMIT :limit OFFSET :offset"
)
