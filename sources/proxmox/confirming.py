"""Looks one guest up, so that "gone" differs from "moved", "hidden" and "not answering"."""

from __future__ import annotations

from domain.guests import GuestType
from domain.source_protocols import Found, Gone, GuestConfig, Lookup, Unclear
from sources.proxmox.faults import ConfigMissing, Forbidden, NoQuorum
from sources.proxmox.guest_config import unreadable
from sources.proxmox.parse import Listed
from sources.proxmox.selfcheck import NO_QUORUM, Membership
from sources.proxmox.session import Session, find


def look_up(session: Session, node: str, guest_type: GuestType, vmid: int) -> Lookup[GuestConfig]:
    """The guest's configuration from its node, or from the node that the bulk list names instead.

    Never ``Gone``: one missing file proves nothing. Raises a ``SourceFault`` if a read failed.
    """
    return (
        _on_node(session, node, guest_type, vmid)
        or _where_listed(session, session.guests(), vmid)
        or Unclear(f"guest {vmid} is not on node {node} and not listed on another; only a confirmation proves more")
    )


def confirm_absence(session: Session, node: str, guest_type: GuestType, vmid: int) -> Lookup[GuestConfig]:
    """Whether the guest is gone from its last node and from every other one.

    ``Gone`` needs all this, through one endpoint. The token sees everything. There is quorum, and the guest's last node
    is online, before and after. There is no configuration. The cluster's list has no entry; it is read in one piece, so
    that a guest that migrates meanwhile cannot be missed between two nodes. No online node's own list has an entry, and
    these lists agree on the other guests. Another node may be offline: with quorum the cluster's list names its guests,
    too, because their configurations are in the file system that all nodes share.
    Raises a ``SourceFault`` if a read failed, and ``NoQuorum``.
    """
    if not session.view().whole:
        return Unclear("the token does not see all guests of the cluster")
    before = session.membership()
    if not before.quorate:
        raise NoQuorum(NO_QUORUM)
    # A node that left the cluster is asked about, too: a guest hidden from the token answers 403 from any node.
    asked = node if node in before.nodes else min(before.online, default=node)
    there = _on_node(session, asked, guest_type, vmid) if asked in before.online else None
    if there is not None and not there.value.forbidden:
        return there
    listed = session.guests()
    elsewhere = _where_listed(session, listed, vmid)
    if elsewhere is not None:
        return elsewhere
    if there is not None:
        doubt: str | None = f"the configuration of guest {vmid} is forbidden to the token, and no list shows it"
    else:
        away = before.doubt() if asked not in before.online or node not in before.nodes else None
        doubt = away or _contradiction(session, before, listed, guest_type, vmid)
    if doubt is not None:
        return Unclear(doubt)
    return Gone(_how(asked, before))


def _on_node(session: Session, node: str, guest_type: GuestType, vmid: int) -> Found[GuestConfig] | None:
    """The configuration on that node; ``None`` if the node has none."""
    try:
        return Found(session.config(node, guest_type, vmid))
    except Forbidden:
        return Found(unreadable(node))
    except ConfigMissing:
        return None


def _where_listed(session: Session, listed: Listed, vmid: int) -> Found[GuestConfig] | Unclear | None:
    """The configuration on the node that the cluster's list names; ``None`` if it lists no such guest."""
    guest = find(listed, vmid)
    if guest is None:
        return Unclear("the cluster's list is not readable throughout") if listed.blurred else None
    found = _on_node(session, guest.node, guest.guest_type, vmid)
    return found or Unclear(f"guest {vmid} is listed on node {guest.node} but has no configuration there")


def _how(asked: str, nodes: Membership) -> str:
    lists = f"no configuration on {asked}, and none of {len(nodes.online)} node(s) lists it"
    if not nodes.offline:
        return lists
    return f"{lists}, nor does the cluster (offline: {', '.join(sorted(nodes.offline))})"


def _contradiction(
    session: Session, before: Membership, listed: Listed, guest_type: GuestType, vmid: int
) -> str | None:
    """What contradicts a cluster's list without the guest: a node's own list, or nodes that changed."""
    known = {guest.vmid for guest in listed.guests}
    for node in sorted(before.online):
        own = session.vmids(node, guest_type)
        if vmid in own:
            return f"guest {vmid} is listed by node {node}, though not by the cluster"
        if own - known:
            return f"node {node} lists guests that the cluster's list lacks"
    return None if session.membership() == before else "the cluster's nodes changed while it was asked"
