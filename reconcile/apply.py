"""Apply the changes that the gate let through: confirm each one singly, then write it by one compare-and-set. A fenced
run stops."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from domain.changes import Change, Link
from domain.failures import Failure, Interrupts, Stage, cause_of
from panel.journal.repairs import NotWritten, Written, write_repair
from panel.operators.quarantine import own_refusal
from panel.runs.lease import FencedError
from reconcile.confirming import ChangeCheck, OutOfTimeError
from reconcile.decision.drift_since import drift_since
from tracing.spans import inner_span

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Outcome:
    """What became of the changes: counts by kind, short texts, why some were not written, what failed, and what is
    left to the next run because the time of this one was over."""

    applied: Counter[str] = field(default_factory=Counter)
    texts: list[str] = field(default_factory=list)
    not_written: list[tuple[Change, str]] = field(default_factory=list)
    written: list[Change] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    postponed: list[Change] = field(default_factory=list)
    fenced: bool = False

    def after(self, earlier: Outcome) -> Outcome:
        """Both outcomes as one, ``earlier`` first."""
        return Outcome(
            earlier.applied + self.applied,
            [*earlier.texts, *self.texts],
            [*earlier.not_written, *self.not_written],
            [*earlier.written, *self.written],
            [*earlier.failures, *self.failures],
            [*earlier.postponed, *self.postponed],
            earlier.fenced or self.fenced,
        )


def unconfirmed_last(changes: Iterable[Change], unconfirmed: Collection[str]) -> tuple[Change, ...]:
    """The changes in the plan's order, except that subjects which earlier runs could not confirm come last: a run that
    is short of time spends it on the others first."""
    return tuple(sorted(changes, key=lambda change: change.subject in unconfirmed))


REFUSALS = 3
"""After this many refusals in a row by the database, a subject is held back. One or two are mostly a race."""


def apply_changes(
    engine: Engine,
    run_id: int,
    epoch: int,
    changes: Iterable[Change],
    confirmer: ChangeCheck,
    interrupts: Interrupts = (),
    until: float = math.inf,
) -> Outcome:
    """Write changes in order. A change that no longer fits, or that fails by itself, is left to the next run; a fenced
    run stops. An error that every change would meet (the database is away, an exception of ``interrupts``) is raised.

    ``until`` (monotonic clock): no write begins later; what is left then is ``postponed``."""
    outcome, changes = Outcome(), tuple(changes)
    versions: dict[int, int] = {}  # several facts of one record in one run: each write raises its version
    unsure: set[int] = set()  # records whose link was not written, or that failed: their other changes wait, too
    for position, change in enumerate(changes):
        if change.record is not None and change.record.id in unsure:
            continue
        try:
            with inner_span(f"repair {change.kind.value}") as noted:
                why, confirmed = _in_time(confirmer, change, until)
                evidence = _evidence(change, confirmed)
                written = NotWritten(why) if why else write_repair(engine, run_id, epoch, change, evidence, versions)
                noted.note(_result(written))
        except FencedError as error:
            log.warning("run_fenced", run_id=run_id, error=str(error))
            outcome.fenced = True
            return outcome
        except OutOfTimeError:
            outcome.postponed += changes[position:]
            break
        except Exception as error:
            if (failure := _own_failure(change, error, interrupts)) is None:
                raise
            outcome.failures.append(failure)
            if change.record is not None:
                unsure.add(change.record.id)
            continue
        if isinstance(written, NotWritten):
            if why is None:
                log.info("repair_not_written", subject=change.subject, kind=change.kind.value, why=written.why)
            outcome.not_written.append((change, written.why))
            if written.refused:
                outcome.failures.append(Failure(change.subject, Stage.WRITE, written.why, REFUSALS))
            if isinstance(change, Link):
                unsure.add(change.record.id)
            continue
        _note(outcome, change, written, versions)
    return outcome


def _result(written: Written | NotWritten) -> dict[str, str | int | None]:
    """What a trace says of a repair."""
    if isinstance(written, NotWritten):
        return {"panel.result": "not_written"}
    return {"panel.result": "written", "panel.operation_id": written.operation_id}


def _in_time(confirmer: ChangeCheck, change: Change, until: float) -> tuple[str | None, dict[str, Any]]:
    if time.monotonic() >= until:
        raise OutOfTimeError
    return confirmer.hindrance(change)


def _own_failure(change: Change, error: Exception, interrupts: Interrupts) -> Failure | None:
    """The error as this change's own failure; None if every change would meet it."""
    if isinstance(error, (*interrupts, MemoryError)):
        return None
    if not isinstance(error, SQLAlchemyError):
        return Failure(change.subject, Stage.WRITE, cause_of(error))
    refusal = own_refusal(error)
    return Failure(change.subject, Stage.WRITE, *refusal) if refusal is not None else None


def _evidence(change: Change, confirmed: Mapping[str, Any]) -> dict[str, Any]:
    """The evidence in the journal: the class of drift, since when it stood, what was seen, and what was confirmed."""
    since = drift_since(change)
    drift = {"kind": change.kind.value, **({"since": since.isoformat()} if since else {})}
    return {**drift, **change.evidence, **confirmed}


def _note(outcome: Outcome, change: Change, written: Written, versions: dict[int, int]) -> None:
    for record in change.records:
        versions[record.id] = versions.get(record.id, record.version) + 1
    outcome.applied[change.kind.value] += 1
    outcome.written.append(change)
    outcome.texts.append(f"vps={written.vps_id} {written.text}")
    log.info(
        "repaired",
        operation_id=written.operation_id,
        vps_id=written.vps_id,
        kind=change.kind.value,
        result=written.text,
        reason=change.reason,
    )
