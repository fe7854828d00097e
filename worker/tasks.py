"""The tasks. Each parses, calls one function and returns a short text for the task list (no personal data)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery import shared_task
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from panel.journal.writer import apply_operation
from panel.operators.prune import prune
from panel.runs import schedule_duties
from panel.runs.run_requests import OPERATOR_TRIGGER
from panel.settings import get_settings
from reconcile.decision.subjects import parse_subject
from reconcile.run import look_around, run_fast, run_full
from reconcile.run_context import RUN_FOR_S
from reconcile.users import import_users
from worker.resources import engine
from worker.webhook import tell_alarms
from worker.wiring import reconciler

DATABASE_FAULTS = (DBAPIError, PoolTimeoutError)
"""The database errors that reach a task: the journal counts an operation's own failures itself."""

RUN_LIMIT_S = int(RUN_FOR_S) + 60
"""A run ends by itself before this and reports what it did. One that lasts longer is faulty."""

BUSY_RETRY_S, BUSY_RETRIES = 5, RUN_LIMIT_S // 5
"""How an operator's run waits for its turn: longer than any other run may take."""


@shared_task(
    name="sync.apply",
    bind=True,
    autoretry_for=DATABASE_FAULTS,
    max_retries=20,  # bounds the message, not the operation: while it is queued the relay sends it again
    default_retry_delay=2,  # for a pool process that was killed; Celery's own default is three minutes
    retry_backoff=1,
    retry_backoff_max=30,
    retry_jitter=True,
)
def apply(self: Any, operation_id: int) -> str:  # noqa: ANN401 - Celery's
    """Apply one journaled call, and those before it for the same VPS."""
    return apply_operation(engine(), operation_id, again=self.request.retries > 0).text


Work = Callable[[], tuple[bool, str]]
"""What a task does. Returns whether it was done, and a short text."""

NOT_ASKED = "not asked for since it began last"


def _duty(name: str, work: Work) -> str:
    """Do what beat asked for, unless another worker has taken the request. Store how it ended."""
    with engine().begin() as connection:
        if not schedule_duties.begin(connection, name):
            return NOT_ASKED
    try:
        done, summary = work()
    except Exception as error:
        _leave_word(name, type(error).__name__)
        raise
    if done:
        _leave_word(name, None)
    return summary


def _leave_word(name: str, problem: str | None) -> None:
    with engine().begin() as connection:
        if problem is None:
            schedule_duties.note_done(connection, name)
        else:
            schedule_duties.note_failed(connection, name, problem)


def _asked(name: str, trigger: str, work: Work) -> str:
    """A request of beat's is done once. A nudge is always followed, and counts as done, too."""
    if trigger == schedule_duties.BEAT:
        return _duty(name, work)
    done, summary = work()
    if done:
        _leave_word(name, None)
    return summary


@shared_task(name="reconcile.fast", soft_time_limit=60, time_limit=75)
def fast(trigger: str = "nudge") -> str:
    """Read every cluster once and repair power states. Then read some guests' identities again."""

    def work() -> tuple[bool, str]:
        wired = reconciler(engine(), get_settings())
        result = run_fast(wired, trigger="beat")
        if result.state == "done":
            look_around(wired)
        # A full run that keeps this one waiting reads the same lists and repairs the same.
        return result.state in {"done", "paused", "busy"}, result.summary

    return _asked("reconcile.fast", trigger, work)


@shared_task(
    name="reconcile.run", bind=True, soft_time_limit=RUN_LIMIT_S, time_limit=RUN_LIMIT_S + 30, max_retries=BUSY_RETRIES
)
def run(self: Any, trigger: str = "nudge", **_: Any) -> str:  # noqa: ANN401 - Celery's; newer senders may say more
    """One full reconciliation. One that an operator asked for waits for the current run; others give up."""
    asked = trigger.startswith(OPERATOR_TRIGGER)
    only = parse_subject(trigger.removeprefix(OPERATOR_TRIGGER).strip()) if asked else None

    def work() -> tuple[bool, str]:
        result = run_full(reconciler(engine(), get_settings()), trigger=trigger, only=only)
        if result.state == "busy" and asked:
            raise self.retry(countdown=BUSY_RETRY_S)
        return result.state in {"done", "paused"} and only is None, result.summary

    return _asked("reconcile.run", trigger, work)


@shared_task(name="users.import", soft_time_limit=120, time_limit=150)
def users_import(trigger: str = "nudge") -> str:
    """Import users of the main site, so that calls for new users are accepted."""
    return _asked("users.import", trigger, lambda: (True, import_users(reconciler(engine(), get_settings())).summary))


@shared_task(name="findings.tell", soft_time_limit=60, time_limit=75)
def tell(trigger: str = "nudge") -> str:
    """Send new alarms to FINDING_WEBHOOK_URL. The next call sends again what it did not take."""
    return _asked("findings.tell", trigger, lambda: (True, tell_alarms(engine(), get_settings()).summary))


@shared_task(name="maintenance.prune", soft_time_limit=120, time_limit=150)
def maintenance_prune(trigger: str = "nudge") -> str:
    """Delete what has been kept for long enough."""

    def work() -> tuple[bool, str]:
        pruned = prune(engine(), get_settings().journal_days)
        gone = ", ".join(f"{count} {table}" for table, count in pruned.items() if count)
        return True, gone or "nothing is old enough"

    return _asked("maintenance.prune", trigger, work)
