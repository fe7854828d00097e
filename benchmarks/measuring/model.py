"""After a measurement: the panel equals the model. What was accepted is applied, once, and nothing else is there."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

import psycopg

from runtime.processes.supervisor import Supervisor

_SHOWN = 5
_PATIENCE_S = 600.0


@dataclass(frozen=True, slots=True)
class Created:
    """A create that was accepted: its record's id and name."""

    vps_id: int
    name: str


def accepted(bodies: Iterable[bytes]) -> dict[int, Created]:
    """What the answers promise, by the operation's id."""
    answers = [json.loads(body) for body in bodies]
    return {answer["operation"]["id"]: Created(answer["vps"]["id"], answer["vps"]["name"]) for answer in answers}


def differences(
    model: Mapping[int, Created], journal: Mapping[int, tuple[int, str]], records: Mapping[int, str]
) -> list[str]:
    """Sentences, one for each thing that is not as promised. Pure.

    ``journal``: the record's id and the state of each operation. ``records``: the name of each record.
    """
    return [*_of_the_journal(model, journal), *_of_the_records(model, records)]


def _of_the_journal(model: Mapping[int, Created], journal: Mapping[int, tuple[int, str]]) -> Iterator[str]:
    for operation, created in model.items():
        found = journal.get(operation)
        if found is None:
            yield f"operation {operation} was accepted and is lost"
        elif found != (created.vps_id, "applied"):
            yield f"operation {operation} of VPS {created.vps_id} is {found[1]}, of VPS {found[0]}"
    yield from (f"operation {operation} was never accepted" for operation in journal.keys() - model.keys())


def _of_the_records(model: Mapping[int, Created], records: Mapping[int, str]) -> Iterator[str]:
    wanted = {created.vps_id: created.name for created in model.values()}
    for vps_id in wanted.keys() | records.keys():
        if wanted.get(vps_id) != records.get(vps_id):
            yield f"VPS {vps_id} should be {wanted.get(vps_id)} and is {records.get(vps_id)}"


def check(url: str, model: Mapping[int, Created], *, first_operation: int = 1, first_vps: int = 1) -> None:
    """Compare what a database holds from those ids on, creates alone, with the model. Raises RuntimeError with the
    first differences."""
    journal = "SELECT id, vps_id, state FROM operations WHERE kind = 'sync' AND id >= %s"
    with psycopg.connect(url) as connection:
        operations = connection.execute(journal, (first_operation,)).fetchall()
        named = "SELECT id, name FROM vps WHERE deleted_at IS NULL AND id >= %s"
        records = connection.execute(named, (first_vps,)).fetchall()
    complain(differences(model, {row[0]: (row[1], row[2]) for row in operations}, dict(records)))


def complain(found: Collection[str]) -> None:
    """Raises RuntimeError if there is anything to complain about."""
    if found:
        raise RuntimeError(f"the panel does not equal the model ({len(found)}): {'; '.join(list(found)[:_SHOWN])}")


def wait_until(
    done: Callable[[], bool], what: str, *, every_s: float = 0.05, check: Callable[[], None] | None = None
) -> None:
    """Look again and again, and ``check`` besides whether all goes well. Raises RuntimeError after ten minutes."""
    deadline = time.monotonic() + _PATIENCE_S
    while not done():
        if check is not None:
            check()
        if time.monotonic() > deadline:
            raise RuntimeError(f"waited {_PATIENCE_S:g} s for {what}")
        time.sleep(every_s)


def wait_applied(connection: psycopg.Connection, supervisor: Supervisor) -> None:
    """Wait until no call waits. The connection commits by itself; the supervisor is that of the worker."""

    def none_waits() -> bool:
        row = connection.execute("SELECT EXISTS (SELECT FROM operations WHERE state = 'queued')").fetchone()
        return row is not None and not row[0]

    wait_until(none_waits, "all accepted calls to be applied", check=supervisor.check)
