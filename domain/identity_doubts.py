"""When a guest's identity is in doubt.

``panel.observations.identity_doubts`` does the same in SQL. A test compares the two.

Only a guest's own configuration says which machine has a VMID. Between two reads of it, a list can prove only that the
machine is the same one. A running guest is one process on its node. If that process started before the configuration
was read, the list shows the machine whose configuration was read. Anything else that may mean another machine puts
the identity in doubt. The panel takes nothing from a guest in doubt until its configuration is read again.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum

from domain.guests import FingerprintState, Guest

GAP = timedelta(minutes=2)
"""How long a cluster may go unread before a guest whose list proves nothing may have been replaced."""

LOOKED_AT = (FingerprintState.READ, FingerprintState.FORBIDDEN)
"""States after an answer to the question who the guest is. Only such guests can be in doubt."""


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
    ADOPTED = "adopted"


WHY = {
    Doubt.UNLISTED: "a list left it out",
    Doubt.CHANGED: "its name, type, node, size or tags changed",
    Doubt.STARTED: "it was started after its configuration was read",
    Doubt.POWER: "it was switched over",
    Doubt.GAP: "its cluster was not read for a while",
    Doubt.ORDER: "an order began or ceased to name it, or ended",
    Doubt.CALL: "a call named its address for another record",
    Doubt.RESTORED: "an operator restored its record",
    Doubt.ADOPTED: "an operator adopted it",
}
"""The same as phrases for operators."""


def listed(
    known: Guest,
    shown: Guest,
    began: datetime,
    answered: datetime,
    previous: datetime | None,
    *,
    missed: bool,
    gap: timedelta = GAP,
) -> Doubt | None:
    """The doubt that a list raises about a guest whose configuration was asked for, or None.

    ``known``: the guest as last listed. ``shown``: the guest in this list. ``began``: when this read began.
    ``answered``: a time not earlier than the end of this cluster's answer. ``previous``: when the trusted read before
    it began (all by the database's clock). ``missed``: a trusted list has left it out.
    """
    if known.fingerprint_state not in LOOKED_AT:
        return None
    if missed:
        return Doubt.UNLISTED
    if signature(known) != signature(shown) or known.template is not shown.template:
        return Doubt.CHANGED
    if shown.uptime_s is not None:
        return None if goes_on(shown.uptime_s, known.fingerprint_read_at, answered) else Doubt.STARTED
    if known.disk_gb != shown.disk_gb:
        return Doubt.CHANGED
    if known.power is not shown.power:
        return Doubt.POWER
    if previous is None or began - previous > gap:
        return Doubt.GAP
    return None


def goes_on(uptime_s: float, read_at: datetime | None, answered: datetime) -> bool:
    """Whether the listed process was running before the configuration was read.

    The uptime is of a moment that is not known, at the latest of the end of the answer, ``answered``. Counted from
    there, the start is the latest possible one. Counted from the time of the question, the start of a machine that a
    slow list shows would seem to lie before a read of the machine that stood there until then.
    A node reports every 10 s, so the listed uptime may be up to 10 s too small. The process then seems to have started
    later than it did, which errs on the safe side. For as long, Proxmox's list may still show the machine that had the
    VMID before. Then everything in the entry is about that machine, and so is the identity that the panel believes.
    A read in the future is of a clock that was set back since, and shows nothing.
    """
    return read_at is not None and answered - timedelta(seconds=uptime_s) <= read_at <= answered


def signature(guest: Guest) -> tuple[object, ...]:
    """What a list shows of a machine and rarely changes by itself."""
    return guest.name, guest.guest_type, guest.node, guest.memory_mb, guest.cores, guest.marks
