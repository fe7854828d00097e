"""Changes and findings as typed, ordered, serialisable values; the plan and its hash. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar, Literal, get_args

from domain.confirmations import Confirmation
from domain.guests import Guest, GuestKey
from domain.orders import Order
from domain.records import Record


class Kind(StrEnum):
    """The classes of drift that a run repairs, in the order in which a plan applies them."""

    LINK = "link"
    STATUS = "missed-status"
    SIZE = "plan"  # the class had this name once, and stored journals and approvals still say it
    OWNER = "ownership"
    MERGE = "duplicate"
    UNLINK = "replaced-guest"
    SOLD_ON = "sold-on"
    CREATE = "missed-create"
    DELETE = "missed-delete"
    ORPHAN = "orphan"


DELETES = frozenset({Kind.DELETE, Kind.ORPHAN})
FACTS = frozenset({Kind.LINK, Kind.STATUS, Kind.SIZE})
"""Classes that write what every run observes again. Each other class makes or ends a record, or gives it or its guest
to another."""


OperationState = Literal["queued", "applied", "superseded", "rejected", "dead"]
"""How far the journaled operation of a change has come."""

OPERATION_STATES: tuple[OperationState, ...] = get_args(OperationState)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One write. Each kind is a subclass, which adds the fields that it needs.

    ``source``: whose word the change follows ("orders", "proxmox", ...). ``record``: the record to change, as the
    decision saw it. ``values``: columns of ``vps`` to write; empty where the class alone says what to do. ``confirm``:
    the questions that the run asks the sources just before the write, in this order. ``evidence`` is JSON-ready.
    ``adoption``: the operator's adoption that it follows, by id. It is written only while that stands, and ends it.
    """

    kind: ClassVar[Kind]
    action: ClassVar[str]  # create | update | delete | merge | unlink

    source: str
    reason: str
    record: Record | None = None
    order: Order | None = None
    guest_key: GuestKey | None = None
    values: Mapping[str, Any] = field(default_factory=dict)
    evidence: Mapping[str, Any] = field(default_factory=dict)
    confirm: tuple[Confirmation, ...] = ()
    adoption: int | None = None

    @property
    def subject(self) -> str:
        """What it is about, stable from run to run."""
        if self.record is not None:
            return f"vps:{self.record.id}"
        return f"order:{self.order.order_id}" if self.order is not None else f"guest:{self.guest_key}"

    @property
    def records(self) -> tuple[Record, ...]:
        """The records that it changes."""
        return (self.record,) if self.record is not None else ()

    @property
    def subjects(self) -> frozenset[str]:
        """All that it is about: both records of a merge, the order and the guest of a create."""
        names = [f"vps:{record.id}" for record in self.records]
        names += [f"order:{self.order.order_id}"] if self.order is not None else []
        names += [f"guest:{self.guest_key}"] if self.guest_key is not None else []
        return frozenset(names)

    @property
    def user_id(self) -> int | None:
        """The customer whose budget it counts against."""
        return self.record.user_id if self.record else self.order.user_id if self.order else None

    @property
    def node(self) -> tuple[str, str] | None:
        """(cluster, node) whose budget it counts against."""
        if self.record is not None and self.record.cluster and self.record.node:
            return self.record.cluster, self.record.node
        return None

    @property
    def question(self) -> str | None:
        """The question that a refusal answers: "delete vps:3", "ownership vps:3". It leaves out the record's version,
        so the refusal still counts after the record changed. None for facts: they change back and forth, so the
        refusal of one says nothing about the next."""
        if self.kind in FACTS:
            return None
        return f"{'delete' if self.action == 'delete' else self.kind.value} {self.subject}"

    def identity(self) -> dict[str, Any]:
        """What an approval binds to: the action, the record and its version, the guest, a delete's order, the target
        (state, survivor, owner), every value that is written, and the kinds of evidence. Times are left out, because
        every run sees new ones."""
        written = {n: v is not None if n.endswith(TIMES) else v for n, v in self._bound_values().items()}
        return {
            "action": self.action,
            "subject": self.subject,
            "version": self.record.version if self.record else None,
            "kind": self.kind.value,
            "target": self._target(),
            "values": written,
            "order": self.order.order_id if self.order is not None and self.action == "delete" else None,
            "guest": str(self.guest_key) if self.guest_key is not None else None,
            "evidence": sorted(self.evidence),
        }

    def _bound_values(self) -> Mapping[str, Any]:
        """The values that an approval binds to, under the names that stored approvals were made with."""
        return {APPROVED_AS.get(name, name): value for name, value in self.values.items()}

    def _target(self) -> str | int | None:
        """What the record becomes, in one word: its new state, owner or survivor."""
        return None


TIMES = ("_at", "_as_of", "_since")
"""Endings of the names of columns that hold times. An approval binds only to whether there is a time, not to which."""


APPROVED_AS = {"power_unconfirmed_since": "unconfirmed_since"}
"""Columns that were renamed, with their old names. The hashes of stored approvals were made with the old names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Create(Change):
    """Make the record of an order that has none. ``guest``: the guest to link it with, if one was found."""

    kind: ClassVar[Kind] = Kind.CREATE
    action: ClassVar[str] = "create"
    order: Order
    guest: Guest | None = None

    def _bound_values(self) -> Mapping[str, Any]:
        # The states of order and guest, and the node, may change while an approval is awaited: they are no part of the
        # question. Stored approvals were made with the names of sync calls, and with the id that the order names.
        kept = {CALLED.get(n, n): v for n, v in self.values.items() if n not in NOT_ASKED_OF_A_CREATE}
        return kept | {"panel_vps_id": self.order.panel_vps_id}

    def _target(self) -> str | int | None:
        return self.order.user_id


CALLED = {"ram_mb": "ram", "disk_gb": "disk"}
"""Columns that have another name in sync calls."""
NOT_ASKED_OF_A_CREATE = frozenset({"order_state", "power_state", "power_source", "node"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Update(Change):
    """Write ``values`` on a record. ``guest``: the case's guest, if it has one."""

    action: ClassVar[str] = "update"
    record: Record
    guest: Guest | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Link(Update):
    """Write which order or which guest belongs to a record, where the guest is, and how sure that is."""

    kind: ClassVar[Kind] = Kind.LINK


@dataclass(frozen=True, slots=True, kw_only=True)
class SetStatus(Update):
    """Write the state of the order, the power of the guest, or that the guest is missing. ``flip``: the direction of
    the change ("to stopped", "to suspended", ...). The gate limits how many records may turn the same way at once."""

    kind: ClassVar[Kind] = Kind.STATUS
    flip: str | None = None

    def _target(self) -> str | int | None:
        return self.flip


@dataclass(frozen=True, slots=True, kw_only=True)
class SetSize(Update):
    """Write the size, system, name and address that were sold."""

    kind: ClassVar[Kind] = Kind.SIZE


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeOwner(Update):
    """Give a record to another customer."""

    kind: ClassVar[Kind] = Kind.OWNER

    def _target(self) -> str | int | None:
        owner: int | None = self.values.get("user_id")
        return owner


@dataclass(frozen=True, slots=True, kw_only=True)
class Merge(Change):
    """Fold ``record`` into ``survivor``: two records of one machine. ``takes_guest``: the survivor's own guest is gone,
    and it takes that of ``record``."""

    kind: ClassVar[Kind] = Kind.MERGE
    action: ClassVar[str] = "merge"
    record: Record
    survivor: Record
    takes_guest: bool = False

    @property
    def records(self) -> tuple[Record, ...]:
        return self.record, self.survivor

    def _target(self) -> str | int | None:
        return f"{self.survivor.id} with {self.record.guest_key}" if self.takes_guest else self.survivor.id


@dataclass(frozen=True, slots=True, kw_only=True)
class Unlink(Change):
    """A record gives up its guest, which belongs to another order by now."""

    kind: ClassVar[Kind] = Kind.UNLINK
    action: ClassVar[str] = "unlink"
    record: Record


@dataclass(frozen=True, slots=True, kw_only=True)
class SellOn(Unlink):
    """A record gives up its own machine, which was sold to another customer."""

    kind: ClassVar[Kind] = Kind.SOLD_ON


@dataclass(frozen=True, slots=True, kw_only=True)
class Delete(Change):
    """Delete a record whose order ended. ``asks``: why an operator must approve this delete even within the limits;
    None: the limits alone decide."""

    kind: ClassVar[Kind] = Kind.DELETE
    action: ClassVar[str] = "delete"
    record: Record
    asks: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteOrphan(Delete):
    """Delete a record whose order is gone or was never known."""

    kind: ClassVar[Kind] = Kind.ORPHAN


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that a run may not repair, or that an operator should know."""

    class_: str
    subject: str
    reason: str
    severity: str = "warning"  # info | warning | alarm
    vps_id: int | None = None
    order_id: str | None = None
    cluster: str | None = None
    vmid: int | None = None


@dataclass(frozen=True, slots=True)
class ChangePlan:
    """All changes of a run in the order of application, and its findings."""

    changes: tuple[Change, ...]
    findings: tuple[Finding, ...]

    @property
    def hash(self) -> str:
        """SHA-256 over the identities of the changes. It names the plan in its output and in the run log. An approval
        is not for a plan: it is for single changes, by the hash of each one's identity."""
        return plan_hash(self.changes)


def plan_hash(changes: tuple[Change, ...]) -> str:
    """The hash of a set of changes, independent of their order. Of one change: the hash that its approval is for."""
    return identities_hash(change.identity() for change in changes)


def identities_hash(identities: Iterable[Mapping[str, Any]]) -> str:
    """The hash of a set of changes that are given by their identities (``Change.identity``)."""
    lines = sorted(json.dumps(identity, sort_keys=True) for identity in identities)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


SEVERITY = {
    "paid-but-missing": "alarm",
    "ownership": "alarm",
    "deleted-but-alive": "alarm",
    "sold-on": "alarm",
    "suspended-but-running": "warning",
    "ended-but-running": "info",
    "unmanaged-guest": "info",
    "unlinked-record": "info",
    "stuck-creating": "warning",
}
"""The severity of a class of finding. A class that is not listed is a warning."""
