"""The journal, runs and identities as operators are told of them, in commands and on pages. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Row

from panel.records.history import History

HIDDEN = frozenset({"version"})
"""Columns that change with every write, so a reader learns nothing from them."""


def span(seconds: float) -> str:
    """A duration for people, in its one largest unit."""
    for length, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * length or (seconds >= length and unit == "min"):
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def moment(at: datetime | None) -> str:
    """A time to the second, UTC as everywhere."""
    return "" if at is None else f"{at:%Y-%m-%d %H:%M:%S}"


def clock(at: datetime) -> str:
    """The time of day to the second, UTC as everywhere."""
    return f"{at:%H:%M:%S}"


def plain(value: object) -> str:
    """A value of the journal, in words."""
    if value is None:
        return "nothing"
    if isinstance(value, Mapping):
        return "(" + pairs(value) + ")"
    if isinstance(value, list):
        return "[" + ", ".join(plain(item) for item in value) + "]"
    return str(value)


def pairs(evidence: Mapping[str, Any]) -> str:
    """Evidence in one line: "order=ended, reads=[1, 2]"."""
    return ", ".join(f"{name}={plain(value)}" for name, value in evidence.items())


def changed(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> list[tuple[str, str, str]]:
    """(column, old value, new value) of each column that an operation changed."""
    if before is None:
        return []
    return [
        (column, plain(before.get(column)), plain(value))
        for column, value in (after or {}).items()
        if column not in HIDDEN
    ]


def changes(operation: Row[Any]) -> bool:
    """Whether an operation of the journal is more than an update that found all as it says."""
    if operation.state != "applied" or operation.action != "update" or operation.before is None:
        return True
    return bool(changed(operation.before, operation.after))


def counted(counts: Mapping[str, Any]) -> str:
    """A run's counts in a line: zeros left out, groups flattened ("repaired.create=2")."""
    parts: list[str] = []
    for name, value in sorted(counts.items()):
        if isinstance(value, Mapping):
            parts.extend(f"{name}.{inner}" for inner in counted(value).split() if inner)
        elif value:
            parts.append(f"{name}={value}")
    return " ".join(parts)


def identity_told(journaled: History) -> str | None:
    """Which machine the VPS's guest is, when its configuration was read, and what puts the identity in doubt."""
    known, row = journaled.identity, journaled.record
    if known is None:
        if row is None or row.claimed_vmid is None:
            return None
        claim = f"a call named guest {row.claimed_cluster}/{row.claimed_vmid}, which another record had"
        return f"{claim}, so this VPS has no guest (`panel-sync findings --class link-conflict`)"
    if known.state is None:
        return f"guest {known.guest} was never listed"
    if known.read_at is None or known.age_s is None:
        return f"the configuration of guest {known.guest} was never read, so nothing is taken from this guest"
    at = f"{moment(known.read_at)} UTC"
    if known.unlisted_since is not None:
        gone = f"guest {known.guest} has not been listed since {moment(known.unlisted_since)} UTC"
        return f"{gone}; it was {known.fingerprint or 'without an identity'}, read {at}"
    if known.state == "forbidden":
        asked = f"HTTP 403; last asked {at}, {span(known.age_s)} ago"
        return f"the identity of guest {known.guest} could not be read ({asked}): give the token VM.Audit on it"
    if known.in_doubt:
        since = f" since {moment(known.doubted_at)} UTC" if known.doubted_at is not None else ""
        why = known.why or "the cluster's list shows something new"
        last_read = f"last read {at}, {span(known.age_s)} ago"
        doubt = f"the identity of guest {known.guest} has been in doubt{since}: {why}"
        return f"{doubt}; nothing is taken from it until its configuration is read again ({last_read})"
    read = f"read {at} ({span(known.age_s)} ago)"
    machine = f"guest {known.guest} is {known.fingerprint or 'without an identity'}, {read}"
    if known.believed in (None, known.fingerprint):
        return machine
    return f"{machine}: not this VPS's machine, which is {known.believed}"
