"""Which part of a plan a run applies: what the operator asked for, without what is paused. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from domain.changes import Change, ChangePlan, Finding
from domain.confirmations import OrderConfirmation


class SubjectKind(StrEnum):
    """What an operator can have reconciled now."""

    VPS = "vps"
    USER = "user"
    CLUSTER = "cluster"


@dataclass(frozen=True, slots=True)
class Subject:
    """One VPS or user (by the panel's id), or one cluster (by name)."""

    kind: SubjectKind
    name: str

    def __str__(self) -> str:
        return f"{self.kind.value}:{self.name}"

    def covers(self, change: Change) -> bool:
        """Whether a change is about it."""
        match self.kind:
            case SubjectKind.VPS:
                return self.name in {str(r.id) for r in change.records}
            case SubjectKind.USER:
                owners = {str(r.user_id) for r in change.records}
                return self.name in owners | {str(change.user_id), str(change.values.get("user_id"))}
            case SubjectKind.CLUSTER:
                return self.name in clusters_of(change)


def parse_subject(text: str) -> Subject | None:
    """The subject in ``vps:17``, ``user:5`` or ``cluster:main``; None for anything else."""
    parts = re.fullmatch(r"(vps|user):([1-9][0-9]{0,18})|(cluster):([A-Za-z0-9][A-Za-z0-9_.-]{0,62})", text)
    if parts is None:
        return None
    return Subject(SubjectKind(parts[1] or parts[3]), parts[2] or parts[4])


@dataclass(frozen=True, slots=True)
class Paused:
    """What an operator has paused: clusters by name, the main site, and single VPS and users."""

    clusters: frozenset[str] = frozenset()
    feed: bool = False
    subjects: frozenset[Subject] = frozenset()

    def without_paused(self, plan: ChangePlan) -> ChangePlan:
        """The plan without changes of what is paused: those records keep their state.

        A paused cluster was not read, so its findings are left out, too. A paused VPS or user was read, so its findings
        stay.
        """
        if not self.clusters and not self.feed and not self.subjects:
            return plan
        changes = tuple(c for c in plan.changes if not self._stops(c))
        return ChangePlan(changes, tuple(f for f in plan.findings if not self._mutes(f)))

    def _stops(self, change: Change) -> bool:
        return (
            (self.feed and not _by_guest_alone(change))
            or bool(clusters_of(change) & self.clusters)
            or any(subject.covers(change) for subject in self.subjects)
        )

    def _mutes(self, finding: Finding) -> bool:
        return finding.cluster in self.clusters


def _by_guest_alone(change: Change) -> bool:
    """Whether a change follows from the guest alone, and needs no answer about an order."""
    return change.source == "proxmox" and not any(isinstance(asks, OrderConfirmation) for asks in change.confirm)


def clusters_of(change: Change) -> frozenset[str]:
    """The clusters that a change concerns: the guest's, the records' and the order's."""
    named = [change.guest_key.cluster if change.guest_key else None, change.order.cluster if change.order else None]
    named += [r.cluster for r in change.records]
    return frozenset(name for name in named if name is not None)
