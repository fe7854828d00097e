"""What can go wrong between the panel and a server that it asks.

The messages carry no credentials and no personal data. Those who ask turn them into values of their own: a reading with
a problem, a 503, an alarm that is told again.
"""

from __future__ import annotations


class SourceFault(Exception):  # noqa: N818 - a fault of the server that was asked, not an error of the panel
    """A request that gave nothing to conclude from. ``str()`` is the human sentence."""


class Unreachable(SourceFault):
    """No connection was made: nothing was asked."""


class TlsRefused(Unreachable):
    """The server's certificate is not the one that may be trusted; no request was sent."""


class TimedOut(SourceFault):
    """The server did not answer in time."""


class CutOff(SourceFault):
    """The connection ended before the whole answer had arrived."""


class Malformed(SourceFault):
    """An answer that is not what the contract says: not HTTP, wrongly compressed, not JSON, wrong shape, too large."""
