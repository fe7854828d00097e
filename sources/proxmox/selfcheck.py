"""What must hold before a list is believed: version, token rights, quorum, nodes. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from sources.faults import Malformed

GUEST_PRIVILEGE = "VM.Audit"
NO_QUORUM = "the cluster has no quorum: what it lists may be frozen"
GRANT_GUESTS = "pveum acl modify {path} --tokens '<token id>' --roles PVEAuditor"
GRANT_STATUS = "pveum acl modify / --tokens '<token id>' --roles PVEAuditor"


@dataclass(frozen=True, slots=True)
class Membership:
    """The cluster as the answering node sees it. ``quorate`` is True for a standalone host."""

    nodes: frozenset[str]
    online: frozenset[str]
    quorate: bool

    @property
    def offline(self) -> frozenset[str]:
        return self.nodes - self.online

    def doubt(self) -> str | None:
        """Why nothing read through this node proves that something is absent from the whole cluster."""
        if not self.quorate:
            return NO_QUORUM
        if self.offline:
            return f"node(s) offline: {', '.join(sorted(self.offline))}"
        return None


def membership_of(data: object) -> Membership:
    """Read ``/cluster/status``; raises ``Malformed``."""
    if not isinstance(data, list) or not all(isinstance(entry, dict) for entry in data):
        raise Malformed("/cluster/status is not a list of entries")
    clusters = [entry for entry in data if entry.get("type") == "cluster"]
    nodes = [entry for entry in data if entry.get("type") == "node"]
    names = [entry.get("name") for entry in nodes]
    if not names or not all(isinstance(name, str) and name for name in names):
        raise Malformed("/cluster/status names no nodes")
    # A standalone host has one node and no cluster entry. Anything else without such an entry is half an answer.
    if len(clusters) > 1 or len(set(names)) != len(names) or (not clusters and len(names) != 1):
        raise Malformed("/cluster/status contradicts itself")
    if clusters and clusters[0].get("nodes", len(names)) != len(names):
        raise Malformed("/cluster/status does not list all of its nodes")
    return Membership(
        nodes=frozenset(str(name) for name in names),
        online=frozenset(str(entry["name"]) for entry in nodes if _is_set(entry.get("online"))),
        quorate=not clusters or _is_set(clusters[0].get("quorate")),
    )


def holds(data: object, path: str, privilege: str) -> bool:
    """Whether ``/access/permissions?path=`` shows the privilege, propagating to what lies below.

    The value 1 means that it propagates. 0 covers the path itself and none of the guests below it.
    """
    if not isinstance(data, dict):
        return False
    own = data.get(path)
    if isinstance(own, dict):
        return _is_set(own.get(privilege))
    above = [held for asked, held in data.items() if asked == "/" or path.startswith(f"{asked}/")]
    return any(isinstance(held, dict) and _is_set(held.get(privilege)) for held in above)


def version_of(data: object) -> str | None:
    """The version's text from ``/version``, if it is one."""
    version = data.get("version") if isinstance(data, dict) else None
    return version if isinstance(version, str) and re.fullmatch(r"[\w.~+-]{1,40}", version) else None


def version_problem(version: str | None) -> str | None:
    """What is known to be wrong with this version's lists: they show what exists but prove no absence."""
    if version is None:
        return "the version of Proxmox VE could not be read, so nothing counts as absent"
    if re.fullmatch(r"9\.0\.[0-7](?:\D.*)?", version):
        return (
            f"Proxmox VE {version} answers large lists in tens of seconds, so nothing counts as absent: "
            "update it to 9.0.8 or later"
        )
    return None


def _is_set(flag: object) -> bool:
    return flag in (1, True, "1")
