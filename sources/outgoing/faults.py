"""What can go wrong between the panel and a server that it asks.

Messages carry no credentials and no personal data. Callers turn these faults into values of their own: a reading with
a problem, a 503, an alarm that is sent again.
"""

from __future__ import annotations


class SourceFault(Exception):  # noqa: N818 - a fault of the server that was asked, not an error of the panel
    """A request whose answer proves nothing. ``str()`` is a sentence for operators."""


class Unreachable(SourceFault):
    """No connection was made: nothing was asked."""


class PrivateAddress(Unreachable):
    """Only public addresses may be connected to, and the server's name leads to none."""


class TlsRefused(Unreachable):
    """The server's certificate is not trusted. No request was sent."""


class TimedOut(SourceFault):
    """The server did not answer in time."""


class CutOff(SourceFault):
    """The connection ended before the whole answer had arrived."""


class Malformed(SourceFault):
    """An answer that breaks the contract: not HTTP, wrongly compressed, not JSON, wrong shape, too large."""
