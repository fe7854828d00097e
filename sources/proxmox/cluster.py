"""One Proxmox VE cluster as a ``GuestSource``: its endpoints and the circuit breaker, with faults as values.

Three things are read of it: the list of all guests and how far it may be believed; one guest, so that "gone" differs
from "moved", "hidden" and "not answering"; and its health, for ``doctor``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from domain.guests import GuestType, PowerState
from domain.source_protocols import ClusterReading, Found, Gone, GuestConfig, Health, Lookup, Unclear, untrusted_reading
from sources.clock import Clock
from sources.config import ClusterConfig
from sources.outgoing.client import Transport
from sources.outgoing.faults import SourceFault, TlsRefused
from sources.proxmox.answers import GRANT_STATUS, NO_QUORUM, Listed, Membership, is_silent, unreadable, version_problem
from sources.proxmox.circuit_breaker import CircuitBreaker
from sources.proxmox.endpoint import (
    CircuitOpen,
    ConfigMissing,
    Endpoint,
    EndpointDown,
    Forbidden,
    NoQuorum,
    Session,
    Unauthorized,
)

# Proxmox loses all states at once if its internal replies overflow. From this many guests on, the loss of more than
# half of the states counts as that fault. With fewer guests only the loss of all of them does: a starting node is the
# likelier cause of anything less.
SILENT_SHARE_FROM = 10
PARTIAL_VIEW = (
    "the token sees only the configured pools: a guest that is not listed may have left its pool, "
    "so nothing counts as absent"
)
POWER_PRIVILEGE = "VM.PowerMgmt"

T = TypeVar("T")


class ClusterSource:
    """Reads through one endpoint at a time and takes the next one if it cannot be used.

    ``breaker`` holds the pause after a refused token. The caller stores its ``state`` between processes, and passes the
    ``endpoint`` (host:port) that last worked as ``first``.
    """

    def __init__(
        self,
        config: ClusterConfig,
        breaker: CircuitBreaker | None = None,
        *,
        first: str | None = None,
        clock: Clock | None = None,
        transport: Transport | None = None,
    ) -> None:
        self._config = config
        self._clock = clock or Clock()
        self.breaker = breaker or CircuitBreaker()
        endpoints = [Endpoint(config, url, self._clock, transport) for url in config.api_urls]
        self._endpoints = tuple(sorted(endpoints, key=lambda endpoint: endpoint.label != first))

    @property
    def cluster(self) -> str:
        return self._config.name

    @property
    def endpoint(self) -> str:
        """The endpoint that is asked first: host:port."""
        return self._endpoints[0].label

    def read(self) -> ClusterReading:
        """Self-check (version, token rights, quorum, nodes), then one bulk list."""
        try:
            return self._through_one_endpoint(lambda session: read_cluster(session, self.cluster))
        except SourceFault as fault:
            return untrusted_reading(self.cluster, str(fault))

    def config(self, node: str, guest_type: GuestType, vmid: int) -> Lookup[GuestConfig]:
        """A guest's configuration from its node, or from the node it has moved to; never ``Gone``."""
        return self._look_up(lambda session: look_up(session, node, guest_type, vmid))

    def confirm(self, node: str, guest_type: GuestType, vmid: int) -> Lookup[GuestConfig]:
        """Just before a write: gone from its last node and every other one, or where it is now.

        ``Found`` may be another guest that got the VMID: compare its fingerprint.
        """
        return self._look_up(lambda session: confirm_absence(session, node, guest_type, vmid))

    def health(self) -> Health:
        """Version, token rights, quorum, clock and TLS. Its problems are sentences with the remedy."""
        try:
            return self._through_one_endpoint(check_health)
        except SourceFault as fault:
            return unhealthy(fault)

    def ask(self, work: Callable[[Session], T]) -> T:
        """Do a read of another module through the first endpoint that can do it. Raises a ``SourceFault``."""
        return self._through_one_endpoint(work)

    def tell_once(self, work: Callable[[Session], T]) -> T:
        """Do ``work`` through the endpoint that answered last, and through no other: for what must not be done twice.

        Raises a ``SourceFault``; ``CircuitOpen`` before anything is sent.
        """
        now = self._clock.wall()
        if not self.breaker.allow(now):
            raise CircuitOpen(f"the token was refused; nothing is asked before {self.breaker.state.open_until}")
        try:
            return work(Session(self._endpoints[0], self._config.name, self._config.pools))
        except Unauthorized:
            self.breaker.refused(now)
            raise

    @property
    def token_id(self) -> str:
        """The token's name, as Proxmox writes it into its tasks: ``USER@REALM!TOKENID``."""
        return self._config.token_id

    def close(self) -> None:
        """Close the connections."""
        for endpoint in self._endpoints:
            endpoint.close()

    def _look_up(self, work: Callable[[Session], Lookup[GuestConfig]]) -> Lookup[GuestConfig]:
        try:
            return self._through_one_endpoint(work)
        except SourceFault as fault:
            return Unclear(str(fault))

    def _through_one_endpoint(self, work: Callable[[Session], T]) -> T:
        """Do the whole ``work`` through the first endpoint that can do it.

        A read never changes its endpoint on the way: quorum seen at one says nothing of a list from another. A refused
        token or a missing privilege ends it at once, because every endpoint would refuse. Anything else may be this
        endpoint's own trouble: down, cut off, without quorum, failing inside.
        """
        now = self._clock.wall()
        if not self.breaker.allow(now):
            raise CircuitOpen(f"the token was refused; nothing is asked before {self.breaker.state.open_until}")
        failures: list[SourceFault] = []
        for endpoint in self._endpoints:
            try:
                result = work(Session(endpoint, self._config.name, self._config.pools))
            except Unauthorized:
                self.breaker.refused(now)
                raise
            except Forbidden:
                raise
            except SourceFault as fault:
                failures.append(fault)
                # Move it to the end, so that the next read does not wait for it first.
                self._endpoints = (*(other for other in self._endpoints if other is not endpoint), endpoint)
            else:
                self.breaker.accepted()
                return result
        sentence = "; ".join(dict.fromkeys(str(fault) for fault in failures))
        (kind, *others) = {type(fault) for fault in failures}
        raise EndpointDown(sentence) if others else kind(sentence)


def read_cluster(session: Session, cluster: str) -> ClusterReading:
    """Self-check, then one list. Raises a ``SourceFault`` if an answer is missing, and ``NoQuorum`` without quorum."""
    warned = version_problem(session.version())
    warnings = () if warned is None else (warned,)
    view = session.view()
    if view.missing:
        return replace(untrusted_reading(cluster, *view.missing), warnings=warnings)
    try:
        membership = session.membership()
    except Forbidden as fault:
        return replace(untrusted_reading(cluster, status_forbidden(fault)), warnings=warnings)
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
    problems = list[str]()
    foreign = {guest.node for guest in listed.guests} - membership.nodes
    nodes = membership.nodes | foreign
    complete_nodes = membership.online - listed.blurred
    if membership.offline:
        problems.append(f"node(s) offline: {', '.join(sorted(membership.offline))}")
    if foreign:
        problems.append(f"guests are listed on node(s) that the cluster does not name: {', '.join(sorted(foreign))}")
    if listed.blurred:
        problems.append("some listed guests are unreadable or listed twice")
    if None in listed.blurred or not whole or warnings:
        complete_nodes = frozenset()
    states = [is_silent(guest) for guest in listed.guests if guest.node in membership.online]
    silent = sum(states)
    trusted = not _overflowed(silent, len(states))
    if not trusted:
        problems.append(f"{silent} of {len(states)} guests on online nodes have no known state")
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
        problems=tuple(problems),
        nodes_away=nodes - membership.online,
        warnings=warnings if whole else (*warnings, PARTIAL_VIEW),
    )


def _overflowed(silent: int, listed: int) -> bool:
    """Whether so many guests without a state mean a broken list instead of broken guests."""
    return silent > 0 and (silent == listed or (listed >= SILENT_SHARE_FROM and 2 * silent > listed))


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
    return Gone(_how_gone(asked, before))


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
    guest = next((guest for guest in listed.guests if guest.vmid == vmid), None)
    if guest is None:
        return Unclear("the cluster's list is not readable throughout") if listed.blurred else None
    found = _on_node(session, guest.node, guest.guest_type, vmid)
    return found or Unclear(f"guest {vmid} is listed on node {guest.node} but has no configuration there")


def _how_gone(asked: str, nodes: Membership) -> str:
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


def check_health(session: Session) -> Health:
    """Check what a read depends on. Raises a ``SourceFault`` if an answer is missing altogether."""
    version = session.version()
    problems = [problem for problem in (version_problem(version),) if problem is not None]
    view = session.view()
    problems.extend(view.missing)
    if not view.whole and not view.missing:
        problems.append(PARTIAL_VIEW)
    details = [f"Proxmox VE {version}"]
    try:
        membership = session.membership()
    except Forbidden as fault:
        problems.append(status_forbidden(fault))
    else:
        details.append(f"{len(membership.online)} of {len(membership.nodes)} node(s) online")
        doubt = membership.doubt()
        if doubt is not None:
            problems.append(doubt)
    power_right = session.holds("/vms", POWER_PRIVILEGE)
    if not power_right:
        details.append(f"without {POWER_PRIVILEGE} on /vms, so that power actions will be refused")
    return Health(
        ok=not problems,
        detail=", ".join(details),
        problems=tuple(problems),
        clock_skew_s=session.skew_s,
        power_right=power_right,
    )


def unhealthy(fault: SourceFault) -> Health:
    """The result of a check that could not be finished."""
    return Health(ok=False, detail="not usable", problems=(f"{fault}{_remedy(fault)}",))


def _remedy(fault: SourceFault) -> str:
    if isinstance(fault, Unauthorized | CircuitOpen):
        return ": check token_id and token_secret, and whether the token expired or was removed"
    if isinstance(fault, TlsRefused):
        return ": check fingerprint or ca_file of this cluster in PROXMOX_CLUSTERS"
    if isinstance(fault, EndpointDown):
        return ": check urls of this cluster in PROXMOX_CLUSTERS and the firewall (port 8006)"
    return ""
