"""A cluster's self-check for ``doctor``. Its problems are sentences with the remedy."""

from __future__ import annotations

from domain.source_protocols import Health
from sources.faults import SourceFault, TlsRefused
from sources.proxmox.faults import CircuitOpen, EndpointDown, Forbidden, Unauthorized
from sources.proxmox.reading import PARTIAL_VIEW, status_forbidden
from sources.proxmox.selfcheck import version_problem
from sources.proxmox.session import Session

POWER_PRIVILEGE = "VM.PowerMgmt"


def check(session: Session) -> Health:
    """Check what a read depends on. Raises a ``SourceFault`` if an answer is missing altogether."""
    version = session.version()
    problems = [problem for problem in (version_problem(version),) if problem is not None]
    view = session.view()
    problems.extend(view.missing)
    if not view.whole and not view.missing:
        problems.append(PARTIAL_VIEW)
    told = [f"Proxmox VE {version}"]
    try:
        membership = session.membership()
    except Forbidden as fault:
        problems.append(status_forbidden(fault))
    else:
        told.append(f"{len(membership.online)} of {len(membership.nodes)} node(s) online")
        doubt = membership.doubt()
        if doubt is not None:
            problems.append(doubt)
    if not session.holds("/vms", POWER_PRIVILEGE):
        told.append(f"without {POWER_PRIVILEGE} on /vms, so that power actions will be refused")
    return Health(ok=not problems, detail=", ".join(told), problems=tuple(problems), clock_skew_s=session.skew_s)


def unhealthy(fault: SourceFault) -> Health:
    """The result of a check that could not be finished."""
    return Health(ok=False, detail="not usable", problems=(f"{fault}{_remedy(fault)}",))


def _remedy(fault: SourceFault) -> str:
    if isinstance(fault, Unauthorized | CircuitOpen):
        return ": check token_id and token_secret, and whether the token expired or was removed"
    if isinstance(fault, TlsRefused):
        return ": check fingerprint or ca_file of this cluster in PROXMOX_CLUSTERS"
    if isinstance(fault, EndpointDown):
        return ": check urls of this cluster in PROXMOX_CLUSTERS and the firewall (port 8006)"
    return ""
