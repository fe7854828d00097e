"""Apply the changes that the gate let through: confirm each one singly, then write it by one compare-and-set. Facts
that need no confirmation share a transaction. A fenced run stops."""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import structlog
from sqlalchemy import Engine
from sqlalchemy.exc import DataError, IntegrityError, SQLAlchemyError

from domain.changes import FACTS, Change, Link, Update
from domain.failures import Failure, Interrupts, Stage, cause_of
from panel.journal.repairs import NotWritten, Written, write_repair, write_updates
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

TOGETHER = 100
"""How many changes, at most, share a transaction, so that it holds its locks for a fraction of a second."""


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
    writing, waiting = _Writing(engine, run_id, epoch, confirmer, interrupts, until), deque(sets_of(changes))
    try:
        while waiting:
            if writing.write(waiting[0]):
                waiting.popleft()
            else:  # one of them is refused, or another transaction holds it
                waiting.extendleft((change,) for change in reversed(waiting.popleft()))
    except FencedError as error:
        log.warning("run_fenced", run_id=run_id, error=str(error))
        writing.outcome.fenced = True
    except OutOfTimeError:
        writing.outcome.postponed += [change for together in waiting for change in together]
    return writing.outcome


def sets_of(changes: Iterable[Change]) -> Iterator[tuple[Change, ...]]:
    """The changes in their order. Those that write facts and ask nothing are together, no record twice; any other one
    is alone."""
    together: dict[int, Change] = {}  # by record
    for change in changes:
        id_ = change.record.id if change.record is not None and _is_plain(change) else None
        if together and (id_ is None or id_ in together or len(together) == TOGETHER):
            yield tuple(together.values())
            together = {}
        if id_ is None:
            yield (change,)
        else:
            together[id_] = change
    if together:
        yield tuple(together.values())


def _is_plain(change: Change) -> bool:
    """Whether a change writes facts, and neither a source nor another table has to be asked about it."""
    writes_facts = isinstance(change, Update) and change.kind in FACTS and "order_id" not in change.values
    return writes_facts and not change.confirm and change.adoption is None


@dataclass(slots=True)
class _Writing:
    """Writes changes, and notes what becomes of them."""

    engine: Engine
    run_id: int
    epoch: int
    confirmer: ChangeCheck
    interrupts: Interrupts
    until: float
    outcome: Outcome = field(default_factory=Outcome)
    versions: dict[int, int] = field(default_factory=dict)
    """Of records that the run has changed: several facts of one may change, and each write raises its version."""
    unsure: set[int] = field(default_factory=set)
    """Records whose link was not written, or that failed: their other changes wait, too."""

    def write(self, changes: Sequence[Change]) -> bool:
        """Write these in one transaction. Returns False, and writes none, if one of several would fail by itself."""
        sure = [change for change in changes if change.record is None or change.record.id not in self.unsure]
        if len(sure) > 1:
            return self._write_together(sure)
        for change in sure:
            self._write_one(change)
        return True

    def _write_together(self, changes: Sequence[Change]) -> bool:
        with inner_span("repair facts") as noted:
            try:
                updates = [(cast("Update", change), self._asked(change)) for change in changes]
                if any(why for _, (why, _) in updates):
                    return False
                facts = [(change, evidence) for change, (_, evidence) in updates]
                written = write_updates(self.engine, self.run_id, self.epoch, facts, self.versions)
            except (FencedError, OutOfTimeError):
                raise
            except Exception as error:
                refused = isinstance(error, (DataError, IntegrityError))
                if not refused and _own_failure(changes[0], error, self.interrupts) is None:
                    raise
                log.info("repairs_one_by_one", repairs=len(changes), why=cause_of(error))
                noted.note({"panel.result": "one_by_one"})
                return False
            noted.note({"panel.result": "written", "panel.repairs": len(changes)})
        for change, result in zip(changes, written, strict=True):
            self._note(change, result)
        return True

    def _write_one(self, change: Change) -> None:
        try:
            with inner_span(f"repair {change.kind.value}") as noted:
                why, evidence = self._asked(change)
                if why is not None:
                    written: Written | NotWritten = NotWritten(why)
                else:
                    written = write_repair(self.engine, self.run_id, self.epoch, change, evidence, self.versions)
                noted.note(_result(written))
        except (FencedError, OutOfTimeError):
            raise
        except Exception as error:
            if (failure := _own_failure(change, error, self.interrupts)) is None:
                raise
            self.outcome.failures.append(failure)
            if change.record is not None:
                self.unsure.add(change.record.id)
            return
        self._note(change, written, confirmed=why is None)

    def _asked(self, change: Change) -> tuple[str | None, dict[str, Any]]:
        """Why the change may not be made (None: it may), and its evidence for the journal: the class of drift, since
        when it stood, what was seen, and what was confirmed."""
        if time.monotonic() >= self.until:
            raise OutOfTimeError
        why, confirmed = self.confirmer.hindrance(change)
        since = drift_since(change)
        drift = {"kind": change.kind.value, **({"since": since.isoformat()} if since else {})}
        return why, {**drift, **change.evidence, **confirmed}

    def _note(self, change: Change, result: Written | NotWritten, *, confirmed: bool = True) -> None:
        outcome = self.outcome
        if isinstance(result, NotWritten):
            if confirmed:
                log.info("repair_not_written", subject=change.subject, kind=change.kind.value, why=result.why)
            outcome.not_written.append((change, result.why))
            if result.refused:
                outcome.failures.append(Failure(change.subject, Stage.WRITE, result.why, REFUSALS))
            if isinstance(change, Link):
                self.unsure.add(change.record.id)
            return
        for record in change.records:
            self.versions[record.id] = self.versions.get(record.id, record.version) + 1
        outcome.applied[change.kind.value] += 1
        outcome.written.append(change)
        outcome.texts.append(f"vps={result.vps_id} {result.text}")
        log.info(
            "repaired",
            operation_id=result.operation_id,
            vps_id=result.vps_id,
            kind=change.kind.value,
            result=result.text,
            reason=change.reason,
        )


def _result(written: Written | NotWritten) -> dict[str, str | int | None]:
    """What a trace says of a repair."""
    if isinstance(written, NotWritten):
        return {"panel.result": "not_written"}
    return {"panel.result": "written", "panel.operation_id": written.operation_id}


def _own_failure(change: Change, error: Exception, interrupts: Interrupts) -> Failure | None:
    """The error as this change's own failure; None if every change would meet it."""
    if isinstance(error, (*interrupts, MemoryError)):
        return None
    if not isinstance(error, SQLAlchemyError):
        return Failure(change.subject, Stage.WRITE, cause_of(error))
    refusal = own_refusal(error)
    return Failure(change.subject, Stage.WRITE, *refusal) if refusal is not None else None
