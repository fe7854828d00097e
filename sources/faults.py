"""What can go wrong at a source, as types. The messages carry no credentials and no personal data.

They stay inside this package: the feeds and the cluster source turn them into values of ``reconcile.ports``.
"""

from __future__ import annotations


class SourceFault(Exception):  # noqa: N818 - a fault of the source, not an error of the panel
    """A read that gave nothing to conclude from. ``str()`` is the human sentence."""


class Unreachable(SourceFault):
    """No connection was made: nothing was asked."""


class TlsRefused(Unreachable):
    """The server's certificate is not the one that may be trusted; no request was sent."""


class TimedOut(SourceFault):
    """The source did not answer in time."""


class CutOff(SourceFault):
    """The connection ended before the whole answer had arrived."""


class Malformed(SourceFault):
    """An answer that is not what the contract says: not JSON, wrong shape, too large."""


class RefusedStatus(SourceFault):
    """An HTTP status other than the expected ones. ``retry_after_s`` is the server's own wish."""

    def __init__(self, sentence: str, status: int, retry_after_s: float | None = None) -> None:
        super().__init__(sentence)
        self.status = status
        self.retry_after_s = retry_after_s


class CredentialRefused(RefusedStatus):
    """401 or 403: the panel's own credential is not accepted."""
