"""What reconciliation needs from the sources, as Protocols. The adapters are in ``sources``.

A read never raises for a source's fault. It returns the fault as a value, so that the caller cannot mistake a failed
read for an empty one. Adapters raise only for bugs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from domain.guests import GuestType, ListedGuest
from domain.orders import Order

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True)
class User:
    """One user as the main site's feed showed it."""

    main_site_user_id: str
    username: str
    email: str | None = None
    email_verified: bool = False
    panel_user_id: int | None = None


@dataclass(frozen=True, slots=True)
class Page(Generic[T_co]):
    """One page of a feed.

    ``began_s``: seconds from the start of the whole read to this page's request (monotonic clock).
    ``staleness_s``: how old the content was when the source answered, by the source's own clock
    (``max(0, Date - as_of)``). ``None``: no usable ``as_of``, so the page is not fresh and nothing is written from it.
    ``scope``: what a complete read covers: ``"all"``, or ``"user:<id>"``.
    """

    items: tuple[T_co, ...]
    began_s: float
    staleness_s: float | None
    scope: str = "all"


@dataclass(slots=True)
class Sweep(Generic[T]):
    """A streamed read. Iterate ``pages`` to the end, then look at ``problem`` and ``complete_scopes``.

    A scope is complete only if all its pages arrived and agreed with each other. Only complete scopes prove absence.
    ``problem`` is one sentence for operators (no credentials, no personal data). ``rolled_to``: the user at whom a read
    that goes user by user stopped; None: the read does not go user by user. ``refused``: rows that could not be read.
    """

    pages: Iterator[Page[T]]
    complete_scopes: set[str] = field(default_factory=set)
    problem: str | None = None
    count: int = 0
    rolled_to: str | None = None
    refused: int = 0

    @property
    def complete(self) -> bool:
        return self.problem is None and "all" in self.complete_scopes


@dataclass(frozen=True, slots=True)
class Found(Generic[T_co]):
    """The object exists; ``value`` is what it is now."""

    value: T_co


@dataclass(frozen=True, slots=True)
class Gone:
    """The source says that the object does not exist, and a control look-up shows that the source works."""

    how: str


@dataclass(frozen=True, slots=True)
class Unclear:
    """Neither proven present nor proven absent. Nothing may follow from it."""

    why: str


Lookup = Found[T] | Gone | Unclear


class OrderFeed(Protocol):
    """The main site's orders and users."""

    @property
    def name(self) -> str:
        """As the setting ``MAIN_SITE_FEED`` writes it: ``orders``, for example. Records and the store keep it."""
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
        """All orders, or those changed since ``updated_since`` (RFC 3339). A delta read proves no absence.

        For a feed that is read user by user: ``suspects`` are the main-site user ids to read in every read, and
        ``rolled_to`` is where the last read through all users stopped (``Sweep.rolled_to``).
        """
        ...

    def order(self, order_id: str, control_id: str | None) -> Lookup[Order]:
        """One order, now. ``Gone`` only if ``control_id``, an order known to exist, is answered at the same time."""
        ...

    def health(self) -> Health:
        """Reachability, credentials and clock, for ``doctor``."""
        ...


@dataclass(frozen=True, slots=True)
class Health:
    """What a self-check found. Each of ``problems`` is a sentence with its remedy. ``power_right``: whether a cluster's
    token may switch guests on and off; None: not asked."""

    ok: bool
    detail: str
    problems: tuple[str, ...] = ()
    clock_skew_s: float | None = None  # source's clock minus ours
    power_right: bool | None = None


@dataclass(frozen=True, slots=True)
class ClusterReading:
    """One bulk read of a cluster.

    ``nodes_complete``: nodes whose guests are all in ``guests``, so that absence from them counts.
    ``complete``: all nodes of the cluster are in ``nodes_complete`` (needed to say "on no other node either").
    ``trusted``: facts (power, node) may be taken from the list. False: everything stays as it is.
    ``problems``: sentences why it is incomplete or not trusted. ``warnings``: what an operator should know although
    the panel copes with it.
    ``nodes_away``: nodes that are offline or that the cluster does not name. Their guests cannot be asked about.
    """

    cluster: str
    guests: tuple[ListedGuest, ...]
    nodes: frozenset[str]
    nodes_complete: frozenset[str]
    complete: bool
    trusted: bool
    problems: tuple[str, ...] = ()
    nodes_away: frozenset[str] = frozenset()
    warnings: tuple[str, ...] = ()


def untrusted_reading(cluster: str, *problems: str) -> ClusterReading:
    """A reading without guests, from which the panel concludes nothing."""
    none = frozenset[str]()
    return ClusterReading(cluster, (), none, none, complete=False, trusted=False, problems=problems)


@dataclass(frozen=True, slots=True)
class GuestConfig:
    """What a guest's own configuration says. ``fingerprint`` and ``name`` are None if it has none."""

    fingerprint: str | None
    node: str
    cores: float | None
    memory_mb: int | None
    disk_gb: int | None
    forbidden: bool = False  # Proxmox answered 403: the identity stays unverified
    name: str | None = None
    ip_address: str | None = None  # a fixed IPv4 address of its own


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
        """Just before a write: is the guest gone from its last node and from every other node of the cluster?

        ``Found`` carries the node where the guest is now, also after a migration.
        """
        ...

    def health(self) -> Health: ...
