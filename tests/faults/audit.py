"""The journal and the records held against what callers were told: exactly, call by call."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address

from sqlalchemy import Engine, text

from lab.chaos.calls import MarkedCall
from lab.chaos.proofs.audit import journal_of, marks_of, vps_queues
from lab.chaos.proofs.call_proof import Journaled, prove_calls, prove_records
from tests.faults.load import Load


def journal_faults(engine: Engine, load: Load) -> list[str]:
    """Everything accepted is in the journal, in the order of the calls and once; nothing refused is: sentences."""
    # The calls first: the load goes on, and the journal may know more by now.
    calls, created = load.snapshot()
    with engine.connect() as connection:
        journal = journal_of(connection, calls)
        names = connection.execute(NAMES).all()
    wrong = prove_calls(calls, {vps_id: _known(journal[vps_id], sent) for vps_id, sent in calls.items()}).wrong
    ids: dict[str, set[int]] = defaultdict(set)
    for row in names:
        ids[row.name].add(row.vps_id)
    for name, given in created.items():
        if ids[name] != given or len(given) != 1:
            wrong.append(f"{name}: answers gave the ids {given}, the journal has {ids[name]}")
    return wrong


def _known(journal: Sequence[Journaled], sent: Sequence[MarkedCall]) -> list[Journaled]:
    """Without what was called since: marks grow."""
    newest = max((IPv4Address(call.mark) for call in sent), default=None)
    return [entry for entry in journal if newest is not None and IPv4Address(entry.mark) <= newest]


def application_faults(engine: Engine, load: Load) -> list[str]:
    """Everything in the journal is applied once and in order, or says why not; each record is what its last call
    said: sentences. For when nothing is queued any more."""
    calls, _ = load.snapshot()
    proof = vps_queues(engine)
    with engine.connect() as connection:
        mismatched = prove_records(journal_of(connection, calls), marks_of(connection, calls))
        return [*proof.lost, *proof.doubled, *proof.disordered, *mismatched]


def queued_calls(engine: Engine) -> int:
    """How many calls wait to be applied."""
    with engine.connect() as connection:
        return connection.scalar(text("SELECT count(*) FROM operations WHERE state = 'queued'")) or 0


def counted(load: Load) -> Mapping[str, int]:
    """How many calls were accepted, refused and never answered."""
    every = [call for queue in (load.creates, *load.calls_by_vps.values()) for call in queue]
    return Counter("accepted" if o.operation is not None else "unknown" if o.open else "refused" for o in every)


NAMES = text("SELECT vps_id, payload ->> 'name' AS name FROM operations WHERE action = 'create'")
