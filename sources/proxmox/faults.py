"""What Proxmox VE answers when it does not answer, as types. Messages carry no token."""

from __future__ import annotations

from sources.faults import SourceFault


class CircuitOpen(SourceFault):
    """The token was refused lately: nothing is asked until the pause is over."""


class Unauthorized(SourceFault):
    """401: the token is wrong, expired or removed. Each further try costs the cluster 3 s."""


class Forbidden(SourceFault):
    """403: the token lacks a privilege, which the sentence names if Proxmox did."""


class ConfigMissing(SourceFault):
    """The guest has no configuration on that node: it is gone, or on another node."""


class NodeUnreachable(SourceFault):
    """595 or 596: the endpoint cannot reach the node that was asked about."""


class EndpointDown(SourceFault):
    """This endpoint cannot be used at all; another one of the cluster may."""


class NoQuorum(SourceFault):
    """The answering node is not in the majority: what it says may be frozen. Another endpoint's may be."""


class Transient(SourceFault):
    """Any other refusal: an internal error, an unknown path, an unexpected status."""
