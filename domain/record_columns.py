"""Every column of a VPS record, once. Standard library only.

A column that is added here reaches the tables, the reads of a feed, the search for drift, the repair, the journal, the
views of callers and clients and the OpenAPI document. ``docs/changing.md`` names the places that stay to be written.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, Flag, StrEnum, auto

from domain.guests import GuestType, PowerState
from domain.orders import OrderState
from domain.records import LinkState

MAX_ID = 2**63 - 1
"""PostgreSQL's ``bigint``."""

MAX_INT = 2**31 - 1
"""PostgreSQL's ``integer``."""


class Kind(Enum):
    """What a column holds."""

    ID = auto()  # a whole number of 64 bits
    WHOLE = auto()  # a whole number of 32 bits
    FLAG = auto()
    TIME = auto()
    TEXT = auto()  # up to 255 printable characters
    WORD = auto()  # one of ``words``
    LABEL = auto()  # the name of a cluster: letters, digits, "_", ".", "-"
    HOST = auto()  # the name of a node: letters, digits, ".", "-"
    ORDER_ID = auto()  # up to 64 characters; a caller may send a whole number
    ADDRESS = auto()  # an IPv4 or IPv6 address, written in one way
    ADDRESS_6 = auto()  # an IPv6 address, written in one way


class Facts(StrEnum):
    """A group of facts that are compared with their source together. The record says when one of them was last changed
    (``<group>_changed_at``). What a source said before that time changes none of them."""

    ORDER = "order"
    PLAN = "plan"
    POWER = "power"
    LINK = "link"
    OWNER = "owner"


class ValueSource(Flag):
    """What gives a column's value, in a field of its own."""

    NONE = 0  # the panel works it out
    CALL = auto()  # a sync call of the main site
    ORDER = auto()  # a row of the order feed
    GUEST = auto()  # Proxmox


class Reader(Flag):
    """Who may see a column."""

    NONE = 0
    MAIN_SITE = auto()  # in the ``vps`` object of answers
    CLIENT = auto()  # the database's role for clients may read it
    OPERATOR = auto()  # in the journal's ``before`` and ``after``


@dataclass(frozen=True, slots=True)
class RecordColumn:
    """One column of the table ``vps``.

    ``word``: its name in JSON, where that differs from the column's (``ram`` for ``ram_mb``). ``unit``: as the OpenAPI
    document says it. ``required``: never NULL. ``default``: what the database fills in. ``limits``: the least and the
    largest number that a call may say. ``words``: all that a ``Kind.WORD`` may be. ``feed_names_only``: it drifts only
    where the feed's names are authoritative.
    """

    name: str
    kind: Kind
    group: Facts | None = None
    given_by: ValueSource = ValueSource.NONE
    seen_by: Reader = Reader.NONE
    word: str = ""
    unit: str | None = None
    required: bool = False
    default: str | None = None
    limits: tuple[int, int] | None = None
    words: type[StrEnum] | tuple[str, ...] = ()
    feed_names_only: bool = False

    @property
    def json_name(self) -> str:
        """Its name in calls and answers."""
        return self.word or self.name

    @property
    def feed_name(self) -> str:
        """Its name in the rows of every feed: ``ipAddress``."""
        if self.name == "vmid":
            return "proxmoxId"
        first, *rest = self.json_name.split("_")
        return first + "".join(map(str.capitalize, rest))


_ALL = Reader.MAIN_SITE | Reader.CLIENT | Reader.OPERATOR
_SITE = ValueSource.CALL | ValueSource.ORDER
_ANY = ValueSource.CALL | ValueSource.ORDER | ValueSource.GUEST
_PLAN, _ORDER, _POWER, _LINK, _OWNER = Facts.PLAN, Facts.ORDER, Facts.POWER, Facts.LINK, Facts.OWNER
STATUSES = ("creating", "running", "stopped", "suspended", "error")
HYPERVISORS = ("proxmox", "vmware", "hyperv", "kvm", "xen")

COLUMNS: tuple[RecordColumn, ...] = (
    RecordColumn("id", Kind.ID, seen_by=Reader.MAIN_SITE | Reader.CLIENT, required=True),
    # An order names its owner by the main site's own id: the user map translates it.
    RecordColumn("user_id", Kind.ID, _OWNER, ValueSource.CALL, _ALL, required=True, limits=(1, MAX_ID)),
    RecordColumn("name", Kind.TEXT, _PLAN, _SITE, _ALL, required=True, feed_names_only=True),
    # What the client sees: panel.records.projection works it out. A call's status sets order_state and power_state.
    RecordColumn("status", Kind.WORD, None, ValueSource.CALL, _ALL, required=True, words=STATUSES),
    RecordColumn("cpu", Kind.WHOLE, _PLAN, _SITE, _ALL, unit="Cores", required=True, limits=(1, 1024)),
    # Below 128 the caller means gigabytes; writing that as megabytes would shrink a customer's plan on paper.
    RecordColumn("ram_mb", Kind.WHOLE, _PLAN, _SITE, _ALL, "ram", "MB", required=True, limits=(128, MAX_INT)),
    RecordColumn("disk_gb", Kind.WHOLE, _PLAN, _SITE, _ALL, "disk", "GB", required=True, limits=(1, MAX_INT)),
    RecordColumn("os", Kind.TEXT, _PLAN, _SITE, _ALL, required=True),
    RecordColumn("hypervisor", Kind.WORD, None, _SITE, _ALL, required=True, words=HYPERVISORS),
    RecordColumn("ip_address", Kind.ADDRESS, _PLAN, _SITE, _ALL),
    RecordColumn("ip6_address", Kind.ADDRESS_6, _PLAN, _SITE, _ALL),
    # the order
    RecordColumn("order_id", Kind.ORDER_ID, None, ValueSource.CALL, _ALL),
    # what the status of a call or of an order says of the order
    RecordColumn("order_state", Kind.WORD, _ORDER, seen_by=_ALL, required=True, words=OrderState),
    RecordColumn("order_source", Kind.TEXT, _ORDER, seen_by=Reader.CLIENT, required=True),
    RecordColumn("order_changed_at", Kind.TIME, _ORDER, required=True),
    RecordColumn("order_as_of", Kind.TIME, _ORDER, seen_by=Reader.CLIENT, required=True),
    # the guest
    RecordColumn("cluster", Kind.LABEL, _LINK, _ANY, Reader.OPERATOR),
    RecordColumn("node", Kind.HOST, _LINK, _ANY, Reader.OPERATOR),
    RecordColumn("vmid", Kind.WHOLE, _LINK, _ANY, Reader.OPERATOR, limits=(100, 999_999_999)),
    RecordColumn("guest_type", Kind.WORD, _LINK, _ANY, Reader.OPERATOR, words=GuestType),
    RecordColumn("fingerprint", Kind.TEXT, _LINK, ValueSource.GUEST, Reader.OPERATOR),
    RecordColumn("link_state", Kind.WORD, _LINK, seen_by=Reader.CLIENT | Reader.OPERATOR, required=True,
                 default="unlinked", words=LinkState),
    RecordColumn("link_source", Kind.TEXT, _LINK),
    RecordColumn("link_changed_at", Kind.TIME, _LINK, required=True),
    # which guest a call named for a record in conflict: another live record had it
    RecordColumn("claimed_cluster", Kind.LABEL, _LINK),
    RecordColumn("claimed_vmid", Kind.WHOLE, _LINK),
    RecordColumn("power_state", Kind.WORD, _POWER, ValueSource.GUEST, _ALL, required=True, words=PowerState),
    # Proxmox's own word where it says more (paused, hibernated)
    RecordColumn("power_detail", Kind.TEXT, _POWER, ValueSource.GUEST, Reader.CLIENT),
    RecordColumn("power_source", Kind.TEXT, _POWER, seen_by=Reader.CLIENT, required=True),
    RecordColumn("power_changed_at", Kind.TIME, _POWER, required=True),
    RecordColumn("power_as_of", Kind.TIME, _POWER, seen_by=Reader.CLIENT, required=True),
    # Since when reads of the guest do not confirm the power state (absent, unknown, or a difference that is held).
    # NULL: every complete read of its node confirms it, so "as of" is scopes.began_at and costs no write.
    RecordColumn("power_unconfirmed_since", Kind.TIME, seen_by=Reader.CLIENT),
    RecordColumn("owner_changed_at", Kind.TIME, _OWNER, required=True),
    RecordColumn("plan_changed_at", Kind.TIME, _PLAN, required=True),
    # paid, but its guest is proven absent for longer than its grace
    RecordColumn("missing_since", Kind.TIME, seen_by=Reader.OPERATOR),
    RecordColumn("order_linked_once", Kind.FLAG, required=True, default="false"),
    RecordColumn("guest_linked_once", Kind.FLAG, required=True, default="false"),
    RecordColumn("last_sync_at", Kind.TIME),
    RecordColumn("last_update_at", Kind.TIME),
    RecordColumn("applied_seq", Kind.ID, required=True),
    RecordColumn("created_at", Kind.TIME, seen_by=Reader.MAIN_SITE | Reader.CLIENT, required=True),
    RecordColumn("updated_at", Kind.TIME, seen_by=Reader.MAIN_SITE | Reader.CLIENT, required=True),
    # tombstone
    RecordColumn("deleted_at", Kind.TIME, seen_by=Reader.OPERATOR),
    RecordColumn("deleted_reason", Kind.TEXT, seen_by=Reader.OPERATOR),
    RecordColumn("merged_into", Kind.ID, seen_by=Reader.OPERATOR),
    # a restored record is not deleted again on old evidence
    RecordColumn("protected_until", Kind.TIME),
    RecordColumn("version", Kind.ID, seen_by=Reader.OPERATOR, required=True),
)  # fmt: skip


def given_by(source: ValueSource) -> tuple[RecordColumn, ...]:
    """The columns whose value this source can give."""
    return tuple(column for column in COLUMNS if source in column.given_by)


def seen_by(reader: Reader) -> tuple[RecordColumn, ...]:
    """The columns that this reader may see."""
    return tuple(column for column in COLUMNS if reader in column.seen_by)


def in_group(group: Facts) -> tuple[RecordColumn, ...]:
    """The columns of a group, its times and sources among them."""
    return tuple(column for column in COLUMNS if column.group is group)


def names(columns: Iterable[RecordColumn]) -> tuple[str, ...]:
    """The columns' names in the database."""
    return tuple(column.name for column in columns)


DRIFTING = tuple(column for column in given_by(ValueSource.ORDER) if column.group is Facts.PLAN)
"""The columns of the plan that an order can state. The record must have the same values. A value that the order leaves
out is no drift."""
