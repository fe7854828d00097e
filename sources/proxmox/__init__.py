"""Proxmox VE clusters behind ``domain.source_protocols.GuestSource``, read only."""

from __future__ import annotations

from sources.config import ClusterConfig
from sources.proxmox.circuit import CircuitBreaker, CircuitState
from sources.proxmox.cluster import ClusterSource

__all__ = ["CircuitBreaker", "CircuitState", "ClusterSource", "make_cluster"]


def make_cluster(
    config: ClusterConfig, breaker: CircuitBreaker | None = None, first: str | None = None
) -> ClusterSource:
    """The cluster that ``config`` names, a ``GuestSource``; ``close`` it after use. ``first``: the endpoint that was
    good last (host:port)."""
    return ClusterSource(config, breaker, first=first)
