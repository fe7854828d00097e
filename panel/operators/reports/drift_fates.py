"""What happens to each record that differs: whether a run repairs it, or what keeps runs from it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from sqlalchemy import Connection

from domain.changes import Kind
from domain.repair_policy.budget import Handling
from panel.operators.holds import held_subjects
from panel.operators.pages.vps_view import sources_of
from panel.operators.pauses import ALL, CLUSTER, FEED, USER, VPS, PauseView, pauses_in_force
from panel.operators.quarantine import quarantined_among
from panel.operators.reports.drift import DriftRow
from panel.runs.source_states import list_sources

ONLY_TOLD = frozenset({"spec"})
"""Classes that no run repairs: it only reports them."""

KINDS = {kind.value: kind for kind in Kind}


@dataclass(frozen=True, slots=True)
class Fate:
    """``word``: what happens next. ``until``: the end of the pause."""

    word: Literal["paused", "quarantined", "not-judged", "held", "ignored", "reported", "repaired"]
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Hindrances:
    """What keeps runs from records now. ``pauses``: by target. ``held``, ``quarantined``: subjects. ``troubled``:
    sources that are not believed. ``handling``: REPAIR_POLICY by class."""

    pauses: Mapping[str, PauseView] = field(default_factory=dict)
    held: frozenset[str] = frozenset()
    quarantined: frozenset[str] = frozenset()
    troubled: frozenset[str] = frozenset()
    handling: Mapping[Kind, Handling] = field(default_factory=dict)


def fates(connection: Connection, rows: Sequence[DriftRow], handling: Mapping[Kind, Handling]) -> dict[int, Fate]:
    """What happens to each of these records, by its id."""
    subjects = {subject for row in rows for subject in _subjects(row)}
    quarantined = {one.subject for one in quarantined_among(connection, subjects)}
    troubled = {one.source for one in list_sources(connection) if one.cause}
    stands = Hindrances(
        pauses_in_force(connection),
        held_subjects(connection, subjects),
        frozenset(quarantined),
        frozenset(troubled),
        handling,
    )
    return {row.vps_id: fate_of(row, stands) for row in rows}


def fate_of(row: DriftRow, stands: Hindrances) -> Fate:
    """What happens to one record; what keeps a run from it longest comes first. Pure."""
    subjects = _subjects(row)
    targets = [ALL, FEED, f"{VPS}{row.vps_id}", f"{USER}{row.user_id}", f"{CLUSTER}{row.cluster}"]
    paused = [stands.pauses[target].until for target in targets if target in stands.pauses]
    handled = {_handled(class_, stands.handling) for class_ in row.classes}
    if paused:
        return Fate("paused", max(paused))
    if subjects & stands.quarantined:
        return Fate("quarantined")
    if sources_of(row.cluster) & stands.troubled:
        return Fate("not-judged")
    if subjects & stands.held:
        return Fate("held")
    if Handling.REPAIR in handled:
        return Fate("repaired")
    if Handling.HOLD in handled:
        return Fate("held")
    return Fate("ignored" if Handling.IGNORE in handled else "reported")


def paused_vps(targets: Iterable[str]) -> list[int]:
    """The ids of the VPS that are paused by themselves."""
    return sorted(int(target.removeprefix(VPS)) for target in targets if target.startswith(VPS))


def _handled(class_: str, handling: Mapping[Kind, Handling]) -> Handling | None:
    if class_ in ONLY_TOLD:
        return None
    return handling.get(KINDS[class_], Handling.REPAIR) if class_ in KINDS else Handling.REPAIR


def _subjects(row: DriftRow) -> set[str]:
    told = {f"{VPS}{row.vps_id}"}
    told |= {f"order:{row.order_id}"} if row.order_id is not None else set()
    return told | ({f"guest:{row.cluster}/{row.vmid}"} if row.vmid is not None else set())
