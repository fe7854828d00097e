"""What reconciliation needs from the outside, as Protocols. Adapters live in ``sources``.

Reads never raise for a source's fault: a fault is a value, so that nobody can mistake a failed read for an
empty one. Adapters raise only for bugs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from domain.guests import Guest, GuestType
from domain.orders import Order
from domain.users import User

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Page(Generic[T_co]):
    """One page of a feed.

    ``began_s``: seconds from the start of the whole read to this page's request (monotonic clock).
    ``staleness_s``: how old the page's content was when the request was answered, on the source's own clock
    (``max(0, Date - as_of)``); ``None`` when the source gave no usable ``as_of``: not fresh, writes nothing.
    ``scope``: what a complete read of this page's scope covers: ``"all"``, or ``"user:<id>"``.
    """

    items: tuple[T_co, ...]
    began_s: float
    staleness_s: float | None
    scope: str = "all"


@dataclass(slots=True)
class Sweep(Generic[T]):
    """A streamed read. Iterate ``pages`` to the end, then look at ``problem`` and ``complete_scopes``.

    A scope is complete only when every page of it arrived and agreed with the others; only complete scopes
    prove absence. ``problem`` is one human sentence (no credentials, no personal data).
    ``rolled_to``: the user at whom a read that rolls on through the users stopped; None where there was no such read.
    """

    pages: Iterator[Page[T]]
    complete_scopes: set[str] = field(default_factory=set)
    problem: str | None = None
    count: int = 0
    rolled_to: str | None = None

    @property
    def complete(self) -> bool:
        return self.problem is None and "all" in self.complete_scopes


@dataclass(frozen=True, slots=True)
class Found(Generic[T_co]):
    """It exists, and this is what it is now."""

    value: T_co


@dataclass(frozen=True, slots=True)
class Gone:
    """The source is well (shown by a control look-up) and says that it does not exist."""

    how: str


@dataclass(frozen=True, slots=True)
class Unclear:
    """Neither proven present nor proven absent: nothing follows from it."""

    why: str


Lookup = Found[T] | Gone | Unclear


class OrderFeed(Protocol):
    """The main site's orders and users."""

    @property
    def name(self) -> str:
        """``orders`` or ``panel-api``."""
        ...

    @property
    def names_are_authoritative(self) -> bool:
        """Whether ``Order.name`` may overwrite a record's name."""
        ...

    def users(self) -> Sweep[User]:
        """All users."""
        ...

    def orders(
        self, updated_since: str | None = None, suspects: tuple[str, ...] = (), rolled_to: str | None = None
    ) -> Sweep[Order]:
        """All orders, or those changed since (RFC 3339; a delta read proves no absence).

        Where the feed is read user by user: ``suspects`` are main-site user ids to read first, and ``rolled_to`` is
        where the last read through the others stopped (``Sweep.rolled_to``).
        """
        ...

    def order(self, order_id: str, control_id: str | None) -> Lookup[Order]:
        """One order, now. ``Gone`` only if ``control_id`` (an order known to exist) answers meanwhile."""
        ...

    def health(self) -> Health:
        """Reachability, credentials and clock, for ``doctor``."""
        ...


@dataclass(frozen=True, slots=True)
class Health:
    """What a self-check found; ``problems`` are sentences with the remedy in them."""

    ok: bool
    detail: str
    problems: tuple[str, ...] = ()
    clock_skew_s: float | None = None  # source's clock minus ours


@dataclass(frozen=True, slots=True)
class ClusterReading:
    """One bulk read of a cluster.

    ``nodes_complete``: nodes whose guests are all in ``guests``, so that absence from them counts.
    ``complete``: every node of the cluster is in ``nodes_complete`` (needed for "nowhere else").
    ``trusted``: the listing itself may be used for facts (power, node); False keeps everything as it is.
    ``problems``: why something is not complete or not trusted, in sentences. ``warnings``: what an operator should
    know and the panel has allowed for.
    ``nodes_away``: nodes that are not online, or that the cluster does not name: their guests cannot be asked about.
    """

    cluster: str
    guests: tuple[Guest, ...]
    nodes: frozenset[str]
    nodes_complete: frozenset[str]
    complete: bool
    trusted: bool
    problems: tuple[str, ...] = ()
    nodes_away: frozenset[str] = frozenset()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class GuestConfig:
    """What a guest's own configuration says. ``fingerprint`` and ``name`` are None when it has none to offer."""

    fingerprint: str | None
    node: str
    cores: float | None
    memory_mb: int | None
    disk_gb: int | None
    forbidden: bool = False  # 403 on the configuration: identity stays unverified
    name: str | None = None


class GuestSource(Protocol):
    """One Proxmox cluster, read only."""

    @property
    def cluster(self) -> str: ...

    def read(self) -> ClusterReading:
        """Self-check (token rights, quorum, nodes, version), then one bulk list. Never raises for faults."""
        ...

    def config(self, node: str, guest_type: GuestType, vmid: int) -> Lookup[GuestConfig]:
        """Read a guest's configuration from its node (fresh, past Proxmox's status cache)."""
        ...

    def confirm(self, node: str, guest_type: GuestType, vmid: int) -> Lookup[GuestConfig]:
        """Just before a write: is the guest gone on its last node and on every other node of the cluster?

        ``Found`` carries the node it is on now (a migrated guest is found elsewhere).
        """
        ...

    def health(self) -> Health: ...
