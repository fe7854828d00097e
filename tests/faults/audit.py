"""The journal and the records held against what callers were told: exactly, call by call."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from sqlalchemy import Engine, text

from chaos.proof import Entry, prove_lanes
from tests.faults.load import Load, Said


def journal_faults(engine: Engine, load: Load) -> list[str]:
    """Everything accepted is in the journal, in the order of the calls and once; nothing refused is: sentences."""
    # The calls first: the load goes on, and the journal may know more by now.
    calls, created = load.snapshot()
    with engine.connect() as connection:
        rows = connection.execute(JOURNAL).all()
        names = connection.execute(NAMES).all()
    marks: dict[int, list[tuple[int, str]]] = defaultdict(list)
    for row in rows:
        if row.action == "update":
            marks[row.vps_id].append((row.id, row.mark))
    wrong = [said for vps_id, said_of in calls.items() for said in _lane(vps_id, said_of, marks[vps_id])]
    ids: dict[str, set[int]] = defaultdict(set)
    for row in names:
        ids[row.name].add(row.vps_id)
    for name, told in created.items():
        if ids[name] != told or len(told) != 1:
            wrong.append(f"{name}: answers gave the ids {told}, the journal has {ids[name]}")
    return wrong


def _lane(vps_id: int, calls: Sequence[Said], journaled: Sequence[tuple[int, str]]) -> list[str]:
    by_mark = {one.mark: one for one in calls}
    wrong = [f"VPS {vps_id}: call {m} is {n} times in the journal" for m, n in Counter(m for _, m in journaled).items()
             if n > 1]  # fmt: skip
    there = {mark: id_ for id_, mark in journaled}
    for one in calls:
        if one.operation is not None and there.get(one.mark) != one.operation:
            wrong.append(f"VPS {vps_id}: call {one.mark} was answered as {one.operation}, it is {there.get(one.mark)}")
        if one.operation is None and not one.open and one.mark in there:
            wrong.append(f"VPS {vps_id}: call {one.mark} was refused ({one.code}) and is in the journal")
    order = [int(mark) for _, mark in journaled if mark in by_mark]
    if order != sorted(order):
        wrong.append(f"VPS {vps_id}: the journal's order is not that of the calls: {order}")
    return wrong


def application_faults(engine: Engine) -> list[str]:
    """Everything in the journal is applied once and in order, or says why not; each record is what its last call
    said: sentences. For when nothing is queued any more."""
    with engine.connect() as connection:
        entries = [Entry(**row._mapping) for row in connection.execute(ENTRIES)]
        versions = {row.id: row.version for row in connection.execute(text("SELECT id, version FROM vps"))}
        unlike = connection.execute(UNLIKE).all()
    proof = prove_lanes(entries, versions)
    return [*proof.lost, *proof.doubled, *proof.disordered, *(f"VPS {r.id} is {r.os}, not {r.mark}" for r in unlike)]


def unsettled(engine: Engine) -> int:
    """How many calls wait to be applied."""
    with engine.connect() as connection:
        return connection.scalar(text("SELECT count(*) FROM operations WHERE state = 'queued'")) or 0


def counted(load: Load) -> Mapping[str, int]:
    """How many calls were accepted, refused and never answered."""
    every = [one for lane in (load.creates, *load.said.values()) for one in lane]
    return Counter("accepted" if o.operation is not None else "unknown" if o.open else "refused" for o in every)


JOURNAL = text(
    "SELECT id, action, vps_id, payload ->> 'os' AS mark FROM operations WHERE kind = 'sync' ORDER BY vps_id, seq"
)
NAMES = text("SELECT vps_id, payload ->> 'name' AS name FROM operations WHERE action = 'create'")
ENTRIES = text(
    "SELECT id, kind, action, vps_id, seq, state, accepted_at, applied_at, (before ->> 'version')::bigint AS before,"
    " (after ->> 'version')::bigint AS after, coalesce(reason, error) AS why FROM operations ORDER BY vps_id, seq"
)
UNLIKE = text(
    "SELECT r.id, r.os, o.payload ->> 'os' AS mark FROM vps r JOIN LATERAL ("
    " SELECT payload FROM operations WHERE vps_id = r.id AND state = 'applied' AND payload ? 'os'"
    " ORDER BY seq DESC LIMIT 1) o ON true WHERE r.os IS DISTINCT FROM o.payload ->> 'os'"
)
