"""What Proxmox VE measures of a guest (``rrddata``), as a ``StatisticsSource``. It needs ``VM.Audit`` only."""

from __future__ import annotations

import math
from collections.abc import Iterable

from domain.guests import GuestType
from domain.source_protocols import Found
from domain.statistics.measurements import AHEAD_S, Point, Timeframe
from domain.statistics.port import AnotherMachine, Measurements, NotRead
from sources.outgoing.faults import CutOff, Malformed, SourceFault, TimedOut, Unreachable
from sources.proxmox.cluster import ClusterSource, look_up
from sources.proxmox.endpoint import CircuitOpen, EndpointDown, NodeUnreachable, NoQuorum, Session, Unauthorized
from sources.proxmox.identity import is_same, require_quorum

SILENT = (Unreachable, TimedOut, CutOff, EndpointDown, NodeUnreachable, NoQuorum, Unauthorized, CircuitOpen)
"""After these the next guest of the node would have to wait for nothing, too."""

POINTS = 5_000
"""More than any version sends: about 1,500."""

MOST_VALUE = 2.0**53


class ClusterStatistics:
    """The histories of one cluster's guests."""

    def __init__(self, source: ClusterSource) -> None:
        self._source = source

    def measurements(
        self, node: str, guest_type: GuestType, vmid: int, fingerprint: str, name: str | None, timeframe: Timeframe
    ) -> Measurements | AnotherMachine | NotRead:
        """As the Protocol says. All of it is read through one endpoint."""

        def read(session: Session) -> Measurements | AnotherMachine | NotRead:
            return _measurements(session, node, guest_type, vmid, fingerprint, name, timeframe)

        try:
            return self._source.ask(read)
        except SourceFault as fault:
            return NotRead(str(fault), silent=isinstance(fault, SILENT))


def _measurements(
    session: Session, node: str, guest_type: GuestType, vmid: int, fingerprint: str, name: str | None, timeframe: str
) -> Measurements | AnotherMachine | NotRead:
    require_quorum(session)
    found = look_up(session, node, guest_type, vmid)
    if not isinstance(found, Found):
        return NotRead(str(found), silent=False)
    config = found.value
    if config.forbidden:
        return NotRead(f"the configuration of guest {vmid} is forbidden to the token", silent=False)
    renamed = guest_type is GuestType.LXC and None not in (name, config.name) and name != config.name
    if config.fingerprint != fingerprint or renamed:
        return AnotherMachine()
    rows, dated = session.measurements(config.node, guest_type, vmid, timeframe)
    if not is_same(session, config.node, guest_type, vmid, fingerprint, config.name):
        return AnotherMachine()
    points, now = points_of(rows), dated.timestamp()
    if points and points[-1].at > now + AHEAD_S:
        return NotRead(f"the clock of node {config.node} is ahead of its cluster's", silent=False)
    return Measurements(points, now)


def points_of(rows: Iterable[object]) -> tuple[Point, ...]:
    """Read ``rrddata``: oldest first, one for each time. A value that was not measured is left out by Proxmox, and one
    that cannot be is None here, too. Raises ``Malformed``."""
    points: dict[int, Point] = {}
    for row in rows:
        at = _number(row.get("time")) if isinstance(row, dict) else None
        if not isinstance(row, dict) or at is None or len(points) > POINTS:
            raise Malformed("rrddata is not a list of points with their times")
        share, cores = _number(row.get("cpu")), _number(row.get("maxcpu"))
        points[int(at)] = Point(
            at=int(at),
            cores=None if share is None or cores is None else share * cores,
            memory_used=_number(row.get("mem")),
            memory_total=_number(row.get("maxmem")),
            network_in=_number(row.get("netin")),
            network_out=_number(row.get("netout")),
            disk_read=_number(row.get("diskread")),
            disk_write=_number(row.get("diskwrite")),
        )
    return tuple(points[at] for at in sorted(points))


def _number(value: object) -> float | None:
    """A number that can have been measured; None for anything else. Old versions write numbers as text."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) and 0 <= number <= MOST_VALUE else None
