"""What puts a guest's identity in doubt.

``panel.observations.identity_doubts`` says the same in SQL, and a test holds the two together.

Only a guest's own configuration says which machine stands at an address. Between two such reads a list can do one
thing: prove that the machine is the same. A running guest is one process of its node. If that process was started
before the configuration was read, then what the list says of it is said of the machine that was read. Everything else
that could mean another machine puts the identity in doubt, and a guest in doubt says nothing of its record until its
configuration was read again.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum

from domain.guests import FingerprintState, Guest

GAP = timedelta(minutes=2)
"""A guest whose list proves nothing may have been replaced while its cluster was not read for longer than this."""

LOOKED_AT = (FingerprintState.READ, FingerprintState.FORBIDDEN)
"""Guests that were asked who they are: only they can be in doubt."""


class Doubt(StrEnum):
    """Why an identity is in doubt, as it is stored."""

    UNLISTED = "unlisted"
    CHANGED = "changed"
    STARTED = "started"
    POWER = "power"
    GAP = "gap"
    ORDER = "order"
    CALL = "call"
    RESTORED = "restored"


WHY = {
    Doubt.UNLISTED: "a list left it out",
    Doubt.CHANGED: "its name, type, node, size or tags changed",
    Doubt.STARTED: "it was started after its configuration was read",
    Doubt.POWER: "it was switched over",
    Doubt.GAP: "its cluster was not read for a while",
    Doubt.ORDER: "an order began or ceased to name it, or ended",
    Doubt.CALL: "a call named its address for another record",
    Doubt.RESTORED: "an operator restored its record",
}
"""The same, for people."""


def listed(
    known: Guest, shown: Guest, began: datetime, previous: datetime | None, *, missed: bool, gap: timedelta = GAP
) -> Doubt | None:
    """The doubt that a list raises about a guest that was looked at.

    ``known``: as it was last listed. ``shown``: as this list has it. ``began``: when this read began, ``previous``:
    the trusted one before (database clock). ``missed``: a trusted list left the guest out since.
    """
    if known.fingerprint_state not in LOOKED_AT:
        return None
    if missed:
        return Doubt.UNLISTED
    if signature(known) != signature(shown) or known.template is not shown.template:
        return Doubt.CHANGED
    if shown.uptime_s is not None:
        return None if goes_on(shown.uptime_s, known.fingerprint_read_at, began) else Doubt.STARTED
    if known.disk_gb != shown.disk_gb:
        return Doubt.CHANGED
    if known.power is not shown.power:
        return Doubt.POWER
    if previous is None or began - previous > gap:
        return Doubt.GAP
    return None


def goes_on(uptime_s: float, read_at: datetime | None, began: datetime) -> bool:
    """Whether the process that a list shows was running before the configuration was read.

    A node reports every 10 s, so a list's uptime is up to that much too small, and the process seems to have begun
    later than it did: the error is on the safe side. Proxmox' status cache may show the machine before for as long:
    then all of the entry that the panel believes is that machine's, and true of it.
    """
    return read_at is not None and began - timedelta(seconds=uptime_s) <= read_at


def signature(guest: Guest) -> tuple[object, ...]:
    """What a list tells of a machine that rarely changes by itself."""
    return guest.name, guest.guest_type, guest.node, guest.memory_mb, guest.cores, guest.marks
