"""Which machines can be looked at on Proxmox, as the reports ask the database."""

from __future__ import annotations

ON_PROXMOX = "(r.hypervisor = 'proxmox' OR r.fingerprint IS NOT NULL OR r.link_state IN ('verified', 'unverified'))"
"""SQL: record ``r`` is on Proxmox: it says so, or its guest was found there, whatever hypervisor the main site names.
The same rule as ``reconcile.decision.cases``."""
