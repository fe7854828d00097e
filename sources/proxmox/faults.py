"""Proxmox VE's refusals as types. Messages carry no token."""

from __future__ import annotations

from sources.faults import SourceFault


class CircuitOpen(SourceFault):
    """The token was refused a short while ago. Nothing is asked until the pause is over."""


class Unauthorized(SourceFault):
    """401: the token is wrong, expired or removed. Each further try takes 3 s."""


class Forbidden(SourceFault):
    """403: the token lacks a privilege. The sentence names it if Proxmox did."""


class ConfigMissing(SourceFault):
    """The guest has no configuration on that node: it is gone or on another node."""


class NodeUnreachable(SourceFault):
    """595 or 596: the endpoint cannot reach the node in question."""


class EndpointDown(SourceFault):
    """This endpoint cannot be used. Another one of the cluster may work."""


class NoQuorum(SourceFault):
    """The answering node is not in the majority, so its answers may be out of date. Another endpoint may be in it."""


class Transient(SourceFault):
    """Any other refusal: an internal error, an unknown path, an unexpected status."""
