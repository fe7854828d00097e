"""One bulk read of a cluster: what it shows, and how far it may be believed."""

from __future__ import annotations

from dataclasses import replace

from domain.guests import PowerState
from domain.source_protocols import ClusterReading
from sources.faults import SourceFault
from sources.proxmox.faults import Forbidden, NoQuorum
from sources.proxmox.parse import Listed, is_silent
from sources.proxmox.selfcheck import GRANT_STATUS, NO_QUORUM, Membership, version_problem
from sources.proxmox.session import Session

# Proxmox loses all states at once if its internal replies overflow. Among fewer guests than this a starting node is the
# likelier cause, and only the loss of all states counts as that fault.
SILENT_SHARE_FROM = 10
PARTIAL_VIEW = (
    "the token sees only the configured pools: a guest that is not listed may have left its pool, "
    "so nothing counts as absent"
)


def nothing(cluster: str, *problems: str) -> ClusterReading:
    """A reading from which nothing follows."""
    return ClusterReading(
        cluster=cluster,
        guests=(),
        nodes=frozenset(),
        nodes_complete=frozenset(),
        complete=False,
        trusted=False,
        problems=problems,
    )


def read_cluster(session: Session, cluster: str) -> ClusterReading:
    """Self-check, then one list. Raises a ``SourceFault`` if an answer is missing altogether, and ``NoQuorum``."""
    warned = version_problem(session.version())
    warnings = () if warned is None else (warned,)
    view = session.view()
    if view.missing:
        return replace(nothing(cluster, *view.missing), warnings=warnings)
    try:
        membership = session.membership()
    except Forbidden as fault:
        return replace(nothing(cluster, status_forbidden(fault)), warnings=warnings)
    if not membership.quorate:
        raise NoQuorum(NO_QUORUM)
    return interpret(cluster, membership, session.guests(), whole=view.whole, warnings=warnings)


def status_forbidden(fault: SourceFault) -> str:
    """Why a list without ``/cluster/status`` is not used, and the remedy."""
    return f"quorum and nodes cannot be read: {fault}; grant Sys.Audit on /: {GRANT_STATUS}"


def interpret(
    cluster: str, membership: Membership, listed: Listed, *, whole: bool, warnings: tuple[str, ...] = ()
) -> ClusterReading:
    """Judge a list of a cluster with quorum. Pure.

    For minutes the list repeats the last values of guests on offline nodes, so those are not facts. ``whole``: the
    token sees every guest. ``warnings``: what is known to be wrong with such lists. They still show what exists, but a
    missing guest proves nothing.
    """
    told = list[str]()
    foreign = {guest.node for guest in listed.guests} - membership.nodes
    nodes = membership.nodes | foreign
    complete_nodes = membership.online - listed.blurred
    if membership.offline:
        told.append(f"node(s) offline: {', '.join(sorted(membership.offline))}")
    if foreign:
        told.append(f"guests are listed on node(s) that the cluster does not name: {', '.join(sorted(foreign))}")
    if listed.blurred:
        told.append("some listed guests are unreadable or listed twice")
    if None in listed.blurred or not whole or warnings:
        complete_nodes = frozenset()
    states = [is_silent(guest) for guest in listed.guests if guest.node in membership.online]
    silent = sum(states)
    trusted = not _overflowed(silent, len(states))
    if not trusted:
        told.append(f"{silent} of {len(states)} guests on online nodes have no known state")
        complete_nodes = frozenset()
    guests = tuple(
        guest if guest.node in membership.online else replace(guest, power=PowerState.UNKNOWN)
        for guest in listed.guests
    )
    return ClusterReading(
        cluster=cluster,
        guests=guests,
        nodes=nodes,
        nodes_complete=complete_nodes,
        complete=complete_nodes == nodes,
        trusted=trusted,
        problems=tuple(told),
        nodes_away=nodes - membership.online,
        warnings=warnings if whole else (*warnings, PARTIAL_VIEW),
    )


def _overflowed(silent: int, listed: int) -> bool:
    """Whether so many guests without a state mean a broken list instead of broken guests."""
    return silent > 0 and (silent == listed or (listed >= SILENT_SHARE_FROM and 2 * silent > listed))
