"""The size that was sold against the size in the guest's configuration. Pure.

A difference is reported, never repaired: the client sees what was sold, and only an operator resizes guests.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from datetime import datetime, timedelta

from domain.changes import Finding
from domain.guests import GuestKey


@dataclass(frozen=True, slots=True)
class Size:
    """Cores, memory in MiB and all disks in GiB. None: not known, so it differs from nothing."""

    cores: float | None
    memory_mb: int | None
    disk_gb: int | None


@dataclass(frozen=True, slots=True)
class Drift:
    """A record and its guest that differ in size. ``since``: since when the record has had this plan and this guest,
    and the guest this configuration (database clock)."""

    vps_id: int
    order_id: str | None
    key: GuestKey
    sold: Size
    has: Size
    since: datetime


def spec_findings(drifts: Iterable[Drift], now: datetime, grace: timedelta) -> list[Finding]:
    """The findings that are due. The grace is there because the order and the guest are changed one after the other,
    and a guest takes its new size at its next restart."""
    return [_finding(drift) for drift in drifts if now - drift.since >= grace and differing(drift.sold, drift.has)]


def _finding(drift: Drift) -> Finding:
    differences = differing(drift.sold, drift.has)
    less = any(has < sold for _, sold, has in differences)
    return Finding(
        "spec",
        f"vps:{drift.vps_id}",
        f"guest {drift.key} is configured with {told(differences)}: {'less' if less else 'more'} than was sold",
        "warning" if less else "info",
        vps_id=drift.vps_id,
        order_id=drift.order_id,
        cluster=drift.key.cluster,
        vmid=drift.key.vmid,
    )


def differing(sold: Size, has: Size) -> list[tuple[str, float, float]]:
    """(unit, sold, configured) of each size that both know and that differs."""
    pairs = [(UNITS[f.name], getattr(sold, f.name), getattr(has, f.name)) for f in fields(Size)]
    return [(unit, sold, has) for unit, sold, has in pairs if None not in (sold, has) and sold != has]


def told(differences: Iterable[tuple[str, float, float]]) -> str:
    """Differing sizes in words: "2 cores instead of 4"."""
    return ", ".join(f"{_plain(has)} {unit} instead of {_plain(sold)}" for unit, sold, has in differences)


def _plain(number: float) -> str:
    return str(int(number)) if number == int(number) else str(number)


UNITS = {"cores": "cores", "memory_mb": "MiB of memory", "disk_gb": "GiB of disk"}
