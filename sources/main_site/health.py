"""The main site's self-check. Its problems are sentences with the remedy."""

from __future__ import annotations

from collections.abc import Callable

from domain.source_protocols import Health
from sources.faults import CredentialRefused, SourceFault, TlsRefused, Unreachable


def check(feed: str, probe: Callable[[], float | None]) -> Health:
    """Run ``probe`` (returns the clock skew in seconds, raises a ``SourceFault``) and report what it found."""
    try:
        skew_s = probe()
    except SourceFault as fault:
        sentence = _remedy(feed, fault)
        return Health(ok=False, detail=f"{feed}: not usable", problems=(sentence,))
    return Health(ok=True, detail=f"{feed}: answers", clock_skew_s=skew_s)


def _remedy(feed: str, fault: SourceFault) -> str:
    if isinstance(fault, CredentialRefused):
        return f"{fault} ({fault.status}): set it to the key that the main site expects from the panel"
    if isinstance(fault, TlsRefused):
        return f"MAIN_SITE_URL: {fault}; check the address, or name the authority that signed it"
    if isinstance(fault, Unreachable):
        return f"MAIN_SITE_URL: {fault}; check the address, the port and the firewall"
    return f"the main site's {feed} interface: {fault}; check MAIN_SITE_URL and MAIN_SITE_FEED"
