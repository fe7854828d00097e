"""Which orders may be a guest's, the likeliest first, each with what speaks for it and against it. Pure.

Facts are compared one by one, the strongest first: an identity tag of the order's id, the IP address, the name, the
VMID, the size, the time, and the customer's other guests. Two candidates differ by the first fact in which they
differ: one that agrees in it comes before one that says nothing, and that before one that contradicts. So no sum of
weak hints outweighs a strong one, and of two candidates that agree in the same facts nobody can say which is right.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import IntEnum
from ipaddress import ip_address, ip_network
from itertools import groupby

from domain.adoptions.permission import Around, names_another, why_never, why_not_yet
from domain.guests import Guest, GuestKey
from domain.orders import Order
from domain.records import Record
from domain.size_drift import UNITS, Size, differing, told

CREATED_WITH = timedelta(minutes=30)
"""How far apart an order's creation and the first sight of its guest may be to say that they belong together."""
SHOWN = 3
"""How many candidates of a guest are shown."""
PRIVATE = tuple(ip_network(one) for one in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"))
"""Addresses that machines have behind a router (RFC 1918 and RFC 6598)."""
ORDER_TAG = re.compile(r"(?:order|vps)[-_.]?(.+)")
"""How hosters mark a guest with the id of its order: ``order-7041``. The bare id counts, too."""


class Says(IntEnum):
    """What one fact says of an order and a guest."""

    CONTRADICTS = 0
    NOTHING = 1
    AGREES = 2


@dataclass(frozen=True, slots=True)
class Possible:
    """An order that may be the guest's, and what is known of both.

    ``on_node``, ``in_cluster``: how many other guests the same customer has there. ``around``: what else is known.
    """

    order: Order
    around: Around
    on_node: int = 0
    in_cluster: int = 0

    @property
    def record(self) -> Record | None:
        """The order's live record, if it has one."""
        return next(iter(self.around.own), None)


@dataclass(frozen=True, slots=True)
class Candidate:
    """An order that may be the guest's. ``evidence``, ``against``: sentences. ``obstacle``: why the guest cannot be
    adopted into it now and what to do; None if it can. ``tied``: others fit just as well."""

    possible: Possible
    evidence: tuple[str, ...]
    against: tuple[str, ...]
    obstacle: str | None
    tied: bool


@dataclass(frozen=True, slots=True)
class _Fact:
    says: Says
    sentence: str = ""


SILENT = _Fact(Says.NOTHING)


def candidates_of(
    guest: Guest, size: Size, possible: Iterable[Possible], namesakes: Sequence[GuestKey] = ()
) -> tuple[Candidate, ...]:
    """The likeliest orders of a guest, at most ``SHOWN``. ``size``: by its own configuration where that is known.
    ``namesakes``: other guests that nobody ordered and that have its name. The order of the input is irrelevant.

    An order is left out if it cannot be the guest's, or if nothing but its size or its customer speaks for it.
    """
    judged = []
    for one in {p.order.order_id: p for p in possible}.values():
        facts = _facts(guest, size, one)
        if why_never(guest, one.order, one.around) is None and _speaks_for(facts):
            judged.append((one, facts, _obstacle(guest, one)))
    # Between equals, what must be settled elsewhere first comes last.
    judged.sort(key=lambda item: (_rank(item[1]), item[2] is not None, item[0].order.order_id))
    found: list[Candidate] = []
    for _, alike in groupby(judged, key=lambda item: _rank(item[1])):
        rivals = list(alike)
        ids = [one.order.order_id for one, *_ in rivals]
        found += [_candidate(*rival, ids, namesakes) for rival in rivals[: SHOWN - len(found)]]
    return tuple(found)


def compared(guest: Guest, size: Size, one: Possible) -> tuple[str, ...]:
    """All that speaks for and against an order, as sentences: what agrees comes first."""
    facts = sorted(_facts(guest, size, one), key=lambda fact: -fact.says)  # stable: the strongest stays first
    return tuple(fact.sentence for fact in facts if fact.says is not Says.NOTHING)


def _obstacle(guest: Guest, one: Possible) -> str | None:
    return names_another(guest, one.order) or why_not_yet(guest, one.order, one.around)


def _rank(facts: Sequence[_Fact]) -> tuple[int, ...]:
    """The smallest comes first."""
    return tuple(-fact.says for fact in facts)


def _candidate(
    one: Possible, facts: Sequence[_Fact], obstacle: str | None, alike: Sequence[str], namesakes: Sequence[GuestKey]
) -> Candidate:
    order_id = one.order.order_id
    against = [fact.sentence for fact in facts if fact.says is Says.CONTRADICTS]
    others = [other for other in alike if other != order_id]
    if others:
        fit = "and others fit" if len(others) > 1 else "fits"
        against.append(f"order {others[0]} {fit} just as well: they cannot be told apart")
    if namesakes and facts[_NAME].says is Says.AGREES:
        have = "and others have" if len(namesakes) > 1 else "has"
        against.append(f"guest {min(namesakes, key=str)} {have} this name, too, and no order")
    evidence = tuple(fact.sentence for fact in facts if fact.says is Says.AGREES)
    return Candidate(one, evidence, tuple(against), obstacle, bool(others))


def _speaks_for(facts: Sequence[_Fact]) -> bool:
    """Whether something strong agrees, or both weak facts do: the size and the time."""
    agrees = [fact.says is Says.AGREES for fact in facts]
    return any(agrees[:_SIZE]) or (agrees[_SIZE] and agrees[_TIME])


def _facts(guest: Guest, size: Size, one: Possible) -> tuple[_Fact, ...]:
    order = one.order
    return (
        _tag(guest, order),
        _address(guest, order),
        _name(guest, one),
        _vmid(guest, order),
        _size(size, order),
        _time(guest, order),
        _neighbours(guest, one),
    )


_NAME, _SIZE, _TIME = 2, 4, 5
"""The places of these facts."""


def tagged_orders(tags: Iterable[str]) -> frozenset[str]:
    """The order ids that a guest's tags may mean."""
    bare = set(tags)
    return frozenset(bare | {parts[1] for tag in bare if (parts := ORDER_TAG.fullmatch(tag)) is not None})


def _tag(guest: Guest, order: Order) -> _Fact:
    if order.order_id in tagged_orders(guest.tags):
        return _Fact(Says.AGREES, f"a tag of the guest is the id of order {order.order_id}")
    return SILENT


def _is_private(address: str) -> bool:
    with contextlib.suppress(ValueError):
        return any(ip_address(address) in network for network in PRIVATE)
    return False


def _address(guest: Guest, order: Order) -> _Fact:
    if guest.ip_address is None or order.ip_address is None:
        return SILENT
    if guest.ip_address == order.ip_address:
        return _Fact(Says.AGREES, f"the guest has the order's address {order.ip_address}")
    if _is_private(guest.ip_address) != _is_private(order.ip_address):
        return SILENT  # behind a router that translates addresses, both may be right
    return _Fact(
        Says.CONTRADICTS, f"the guest has the address {guest.ip_address}, and the order has {order.ip_address}"
    )


def _name(guest: Guest, one: Possible) -> _Fact:
    names = {one.order.name, one.record.name if one.record is not None else None} - {None}
    if guest.name is None or not names:
        return SILENT
    if guest.name in names:
        return _Fact(Says.AGREES, f"the guest and the order have the name {guest.name}")
    return _Fact(Says.CONTRADICTS, f"the order has another name than {guest.name}")


def _vmid(guest: Guest, order: Order) -> _Fact:
    if order.vmid is None or (order.cluster == guest.cluster and order.vmid == guest.vmid):
        return SILENT
    where = "without a cluster" if order.cluster is None else f"of cluster {order.cluster}"
    if order.vmid == guest.vmid:
        return _Fact(Says.AGREES, f"the order names VMID {order.vmid} {where}")
    return _Fact(Says.CONTRADICTS, f"the order names VMID {order.vmid} {where}, and the guest is {guest.vmid}")


def _size(size: Size, order: Order) -> _Fact:
    sold = Size(order.cpu, order.ram_mb, order.disk_gb)
    if differences := differing(sold, size):
        return _Fact(Says.CONTRADICTS, f"the guest has {told(differences)}")
    both = [n for n in UNITS if getattr(sold, n) is not None and getattr(size, n) is not None]
    if len(both) < len(UNITS):
        return SILENT
    return _Fact(Says.AGREES, "cores, memory and disk are as the order says")


def _time(guest: Guest, order: Order) -> _Fact:
    made, seen = order.created_at, guest.first_seen_at
    if made is None or seen is None:
        return SILENT
    if abs(seen - made) <= CREATED_WITH:
        minutes = int(CREATED_WITH.total_seconds() // 60)
        return _Fact(Says.AGREES, f"the guest was first seen within {minutes} minutes of the order's creation")
    if made > seen:
        return _Fact(Says.CONTRADICTS, "the guest was there before the order was made")
    return SILENT


def _neighbours(guest: Guest, one: Possible) -> _Fact:
    for count, where in ((one.on_node, f"node {guest.node}"), (one.in_cluster, f"cluster {guest.cluster}")):
        if count:
            return _Fact(Says.AGREES, f"the same customer has {count} other guest{'s' * (count > 1)} on {where}")
    return SILENT
