"""What can go wrong at a source, as types. Messages carry no credentials and no personal data.

Faults stay inside this package: the feeds and the cluster source turn them into values of ``domain.source_protocols``.
"""

from __future__ import annotations

from sources.outgoing.faults import CutOff, Malformed, SourceFault, TimedOut, TlsRefused, Unreachable

__all__ = [
    "CredentialRefused",
    "CutOff",
    "Malformed",
    "RefusedStatus",
    "SourceFault",
    "TimedOut",
    "TlsRefused",
    "Unreachable",
]


class RefusedStatus(SourceFault):
    """An HTTP status other than the expected ones. ``retry_after_s``: what the server asked for."""

    def __init__(self, sentence: str, status: int, retry_after_s: float | None = None) -> None:
        super().__init__(sentence)
        self.status = status
        self.retry_after_s = retry_after_s


class CredentialRefused(RefusedStatus):
    """401 or 403: the server does not accept the panel's credential."""
