"""One Proxmox VE cluster as a ``GuestSource``: its endpoints, the circuit, and faults as values."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from domain.guests import GuestType
from domain.source_protocols import ClusterReading, GuestConfig, Health, Lookup, Unclear
from sources.clock import Clock
from sources.config import ClusterConfig
from sources.faults import SourceFault
from sources.outgoing.client import Transport
from sources.proxmox.circuit import CircuitBreaker
from sources.proxmox.client import Endpoint
from sources.proxmox.confirming import confirm_absence, look_up
from sources.proxmox.faults import CircuitOpen, EndpointDown, Forbidden, Unauthorized
from sources.proxmox.health import check, unhealthy
from sources.proxmox.reading import nothing, read_cluster
from sources.proxmox.session import Session

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
            return nothing(self.cluster, str(fault))

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
            return self._through_one_endpoint(check)
        except SourceFault as fault:
            return unhealthy(fault)

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
        told = "; ".join(dict.fromkeys(str(fault) for fault in failures))
        (kind, *others) = {type(fault) for fault in failures}
        raise EndpointDown(told) if others else kind(told)
