"""What can be wrong with a source: one sentence with its remedy, and which findings it suppresses. Pure.

A source that the panel does not believe is one alarm. The findings that would follow for single guests or orders are
left out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Literal

from domain.changes import Finding
from domain.source_protocols import ClusterReading

USERS = "users"
"""The source name of the list of the main site's users."""

FINDING_CLASS = "source"


class Cause(StrEnum):
    """Why a source is not believed, wholly or in part."""

    UNREAD = "unread"  # the read gave nothing usable
    INCOMPLETE = "incomplete"  # what was read is true, but nothing counts as absent
    MASS_LOSS = "mass-loss"  # much vanished at once
    OLD = "old"  # the content is out of date
    NOT_IMPORTED = "not-imported"  # the users were never read completely


@dataclass(frozen=True, slots=True)
class Trouble:
    """What is wrong with a source now. ``reason``: a sentence that stays the same until something changes."""

    cause: Cause
    reason: str

    @property
    def severity(self) -> Literal["warning", "alarm"]:
        """The severity of its finding."""
        return "warning" if self.cause is Cause.INCOMPLETE else "alarm"

    @property
    def at_once(self) -> bool:
        """Whether it is reported at once. An outage of a minute ends by itself; a mass loss waits for an operator."""
        return self.cause is Cause.MASS_LOSS


def remedy_of(source: str, cause: Cause) -> str:
    """What an operator can do about it, as a sentence."""
    match cause:
        case Cause.UNREAD:
            return "run panel-sync doctor to see what is wrong; the worker keeps trying to read the source"
        case Cause.INCOMPLETE:
            return "the panel uses what the source shows; nothing counts as gone until the source is complete again"
        case Cause.MASS_LOSS:
            return (
                f"if they are really gone, run panel-sync acknowledge {source}; otherwise repair the source: this ends "
                "by itself when they are back"
            )
        case Cause.OLD:
            return "check whether the main site answers from a cache or from a replica that lags or has stopped"
        case Cause.NOT_IMPORTED:
            return "run panel-sync users import to see the reason; the workers keep trying by themselves"


def cluster_trouble(reading: ClusterReading, lost: str | None) -> Trouble | None:
    """What is wrong with a cluster's reading. ``lost``: why its absences are not believed, or None."""
    problems = "; ".join(reading.problems)
    if not reading.trusted:
        return Trouble(Cause.UNREAD, problems or "its answer can't be trusted")
    if lost is not None:
        return Trouble(Cause.MASS_LOSS, lost)
    if problems and not reading.complete:
        return Trouble(Cause.INCOMPLETE, problems)
    return None


def feed_trouble(
    problem: str | None, lost: str | None, count: int, began: datetime, effective: datetime | None, bound: timedelta
) -> Trouble | None:
    """What is wrong with a read of the order feed. ``effective``: the time for which its content holds
    (database clock)."""
    if problem is not None:
        return Trouble(Cause.INCOMPLETE if count else Cause.UNREAD, problem)
    if lost is not None:
        return Trouble(Cause.MASS_LOSS, lost)
    if effective is not None and began - effective > bound:
        of = f"{effective:%Y-%m-%d %H:%M} UTC (its as_of)"
        return Trouble(
            Cause.OLD, f"its content is of {of}, older than {bound.total_seconds():g} s, and nothing newer is known"
        )
    return None


CONSEQUENCES = frozenset({"delete-held", "guest-unseen", "order-vanished", "guest-without-order"})
"""Finding classes that follow from a guest's absence from a list."""


def without_consequences(
    findings: Iterable[Finding], unbelieved: frozenset[str], *, users_known: bool
) -> tuple[tuple[Finding, ...], int, int]:
    """(findings to report, how many are left out because their cluster is not believed, how many because the users were
    never imported). ``unbelieved``: clusters in which nothing counts as absent now."""
    reported: list[Finding] = []
    by_cluster = by_users = 0
    for finding in findings:
        if finding.class_ in CONSEQUENCES and finding.cluster in unbelieved:
            by_cluster += 1
        elif finding.class_ == "owner-unknown" and not users_known:
            by_users += 1
        else:
            reported.append(finding)
    return tuple(reported), by_cluster, by_users
