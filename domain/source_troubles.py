"""What can be wrong with a source, in one sentence with its remedy, and what it makes of single findings. Pure.

A source that is not believed is one alarm. The findings that it would cause, one for each guest or order, are left out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from domain.changes import Finding
from domain.source_protocols import ClusterReading

USERS = "users"
"""The name under which the list of the main site's users is a source of its own."""

FINDING_CLASS = "source"


class Cause(StrEnum):
    """Why a source is not believed, or not in everything."""

    UNREAD = "unread"  # nothing usable was read
    INCOMPLETE = "incomplete"  # what was read is true, but nothing counts as absent
    MASS_LOSS = "mass-loss"  # much vanished at once
    OLD = "old"  # what it shows is of a while ago
    NOT_IMPORTED = "not-imported"  # the users were never read completely


@dataclass(frozen=True, slots=True)
class Trouble:
    """What is wrong with a source at the moment. ``reason``: a sentence that stays the same while nothing changes."""

    cause: Cause
    reason: str

    @property
    def severity(self) -> str:
        """How loud its finding is."""
        return "warning" if self.cause is Cause.INCOMPLETE else "alarm"

    @property
    def at_once(self) -> bool:
        """Whether it is told at once: an outage of a minute is nobody's business, a mass loss waits for a person."""
        return self.cause is Cause.MASS_LOSS


def remedy_of(source: str, cause: Cause) -> str:
    """What an operator can do about it, as a sentence."""
    match cause:
        case Cause.UNREAD:
            return "ask for what is wrong with panel-sync doctor; the source is read again by itself"
        case Cause.INCOMPLETE:
            return "what it shows is used, and nothing that it does not show counts as gone until it is whole again"
        case Cause.MASS_LOSS:
            return (
                f"if they are really gone: panel-sync acknowledge {source}; else mend the source, and the mark goes "
                "when they are back"
            )
        case Cause.OLD:
            return "look whether the main site answers from a cache or from a replica that lags or stands still"
        case Cause.NOT_IMPORTED:
            return "ask for the reason with panel-sync users import; the workers try again by themselves"


def cluster_trouble(reading: ClusterReading, lost: str | None) -> Trouble | None:
    """What is wrong with a cluster's reading. ``lost``: why its absences are not believed, if so."""
    told = "; ".join(reading.problems)
    if not reading.trusted:
        return Trouble(Cause.UNREAD, told or "its answer can't be trusted")
    if lost is not None:
        return Trouble(Cause.MASS_LOSS, lost)
    if told and not reading.complete:
        return Trouble(Cause.INCOMPLETE, told)
    return None


def feed_trouble(
    problem: str | None, lost: str | None, count: int, began: datetime, effective: datetime | None, bound: timedelta
) -> Trouble | None:
    """What is wrong with a read of the order feed, whose content is of ``effective``."""
    if problem is not None:
        return Trouble(Cause.INCOMPLETE if count else Cause.UNREAD, problem)
    if lost is not None:
        return Trouble(Cause.MASS_LOSS, lost)
    if effective is not None and began - effective > bound:
        of = f"{effective:%Y-%m-%d %H:%M} UTC (its as_of)"
        return Trouble(
            Cause.OLD, f"what it shows is of {of}, older than {bound.total_seconds():g} s: nothing newer is known"
        )
    return None


CONSEQUENCES = frozenset({"delete-held", "guest-unseen", "order-vanished", "guest-without-order"})
"""Findings that a guest's absence from a list leads to."""


def without_consequences(
    findings: Iterable[Finding], unbelieved: frozenset[str], *, users_known: bool
) -> tuple[tuple[Finding, ...], int, int]:
    """(the findings that are told, how many are left out because their cluster is not believed, how many because the
    users were never imported). ``unbelieved``: clusters of which nothing counts as absent now."""
    told: list[Finding] = []
    by_cluster = by_users = 0
    for finding in findings:
        if finding.class_ in CONSEQUENCES and finding.cluster in unbelieved:
            by_cluster += 1
        elif finding.class_ == "owner-unknown" and not users_known:
            by_users += 1
        else:
            told.append(finding)
    return tuple(told), by_cluster, by_users
