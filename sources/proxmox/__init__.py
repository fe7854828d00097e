"""Proxmox VE clusters, each as a ``domain.source_protocols.GuestSource``. Read only."""

from __future__ import annotations

from sources.config import ClusterConfig
from sources.proxmox.circuit import CircuitBreaker, CircuitState
from sources.proxmox.cluster import ClusterSource

__all__ = ["CircuitBreaker", "CircuitState", "ClusterSource", "make_cluster"]


def make_cluster(
    config: ClusterConfig, breaker: CircuitBreaker | None = None, first: str | None = None
) -> ClusterSource:
    """The cluster that ``config`` names. ``close`` it after use. ``first``: the endpoint that last worked
    (host:port)."""
    return ClusterSource(config, breaker, first=first)
