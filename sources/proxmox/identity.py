"""Whether a machine is still the one that is meant: its configuration is read just before something is asked of it."""

from __future__ import annotations

from domain.guests import GuestType
from sources.proxmox.answers import NO_QUORUM
from sources.proxmox.endpoint import NoQuorum, Session


def require_quorum(session: Session) -> None:
    """What a minority shows may be an old configuration, of a machine that stood there before. Raises NoQuorum."""
    if not session.membership().quorate:
        raise NoQuorum(NO_QUORUM)


def is_same(session: Session, node: str, guest_type: GuestType, vmid: int, fingerprint: str, name: str | None) -> bool:
    """Whether the configuration on exactly this node has this fingerprint now. A container, which is known by a MAC
    alone, must have this name, too. Raises a ``SourceFault``."""
    require_quorum(session)
    config = session.config(node, guest_type, vmid)
    return config.fingerprint == fingerprint and (guest_type is not GuestType.LXC or config.name == name)
