"""Changes and findings as typed, ordered, serialisable values; the plan and its hash. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from domain.guests import Guest, GuestKey
from domain.orders import Order
from domain.records import Record


class Kind(StrEnum):
    """The classes of drift that a run repairs, in the order in which a plan applies them."""

    LINK = "link"
    STATUS = "missed-status"
    PLAN = "plan"
    OWNER = "ownership"
    MERGE = "duplicate"
    UNLINK = "replaced-guest"
    SOLD_ON = "sold-on"
    CREATE = "missed-create"
    DELETE = "missed-delete"
    ORPHAN = "orphan"


DELETES = frozenset({Kind.DELETE, Kind.ORPHAN})
FACTS = frozenset({Kind.LINK, Kind.STATUS, Kind.PLAN})
"""What is observed again and again; the other classes make, take away or give away a record."""


@dataclass(frozen=True, slots=True)
class Change:
    """One write. ``values`` are record columns; ``link`` and ``facts`` only on creates.

    ``confirm`` lists what is looked up singly just before the write: "order", "guest", "left" (that the record's
    guest is not where it was any more), "either" (that of the two guests of a merge one is gone), "claimant" (that the
    other order goes on and names the guest), "same" (that the guest still is the record's own machine).
    """

    kind: Kind
    action: str  # create | update | delete | merge | unlink
    source: str
    reason: str
    record: Record | None = None
    other: Record | None = None  # a merge's survivor
    order: Order | None = None
    claimant: Order | None = None  # whose guest the record's address has become
    guest: Guest | None = None
    guest_key: GuestKey | None = None
    values: Mapping[str, Any] = field(default_factory=dict)
    link: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    evidence: Mapping[str, Any] = field(default_factory=dict)
    confirm: frozenset[str] = frozenset()
    elsewhere: tuple[GuestKey, ...] = ()  # where else its guest was seen: asked for too when "guest" is confirmed
    asks: str | None = None  # why an operator must approve it by itself, whatever the limits
    flip: str | None = None  # "to stopped", "to suspended", ...: many at once of one direction have a budget

    @property
    def subject(self) -> str:
        """What it is about, stable from run to run."""
        if self.record is not None:
            return f"vps:{self.record.id}"
        if self.order is not None:
            return f"order:{self.order.order_id}"
        return f"guest:{self.guest_key}"

    @property
    def subjects(self) -> frozenset[str]:
        """All that it is about: both records of a merge, the order and the guest of a create."""
        found = [f"vps:{record.id}" for record in (self.record, self.other) if record is not None]
        found += [f"order:{self.order.order_id}"] if self.order is not None else []
        found += [f"guest:{self.guest_key}"] if self.guest_key is not None else []
        return frozenset(found)

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
        """What a refusal is about, whatever became of the record since: "delete vps:3", "ownership vps:3"; None for
        facts, which turn to and fro."""
        if self.kind in FACTS:
            return None
        return f"{'delete' if self.action == 'delete' else self.kind.value} {self.subject}"

    def identity(self) -> dict[str, Any]:
        """What an approval binds to: action, record, version, verdict (what for: state, survivor, every value that is
        written) and kind of evidence. Not when it was seen, which every run says anew."""
        survivor = self.other.id if self.other else None
        return {
            "action": self.action,
            "subject": self.subject,
            "version": self.record.version if self.record else None,
            "kind": self.kind.value,
            "target": self.flip or survivor or self.values.get("user_id"),
            "values": self._written(),
            "order": self.order.order_id if self.order is not None and self.action == "delete" else None,
            "guest": str(self.guest_key) if self.guest_key is not None else None,
            "evidence": sorted(self.evidence),
        }

    def _written(self) -> dict[str, Any]:
        """The columns that are written; of a time only whether there is one."""
        values = {**self.values, **self.link}
        if self.action == "create":  # what its guest does just now, and where, is no part of the question
            values = {name: value for name, value in values.items() if name not in ("status", "node")}
        return {name: value is not None if name.endswith(TIMES) else value for name, value in values.items()}


TIMES = ("_at", "_as_of", "_since")
"""How columns end that hold times."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that a run may not mend, or that people should know."""

    class_: str
    subject: str
    reason: str
    severity: str = "warning"  # info | warning | alarm
    vps_id: int | None = None
    order_id: str | None = None
    cluster: str | None = None
    vmid: int | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """All changes of a run in the order of application, and its findings."""

    changes: tuple[Change, ...]
    findings: tuple[Finding, ...]

    @property
    def hash(self) -> str:
        """SHA-256 over the identities of the changes: ties an approval to exactly what was seen."""
        return plan_hash(self.changes)


def plan_hash(changes: tuple[Change, ...]) -> str:
    """The hash of a set of changes, independent of their order."""
    return identities_hash(change.identity() for change in changes)


def identities_hash(identities: Iterable[Mapping[str, Any]]) -> str:
    """The same, of what ``Change.identity`` said of them."""
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
"""How loud a finding is; what is not listed is a warning."""
