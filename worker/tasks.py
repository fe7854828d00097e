"""The tasks. Each parses, calls one function and returns a short text for the task list (no personal data)."""

from __future__ import annotations

from typing import Any

from celery import shared_task
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from panel.operators import OPERATOR_TRIGGER
from panel.prune import prune
from panel.settings import get_settings
from panel.sweep import ring_unapplied
from panel.writer import apply_operation
from reconcile.run import run_fast, run_full
from reconcile.subjects import parse_subject
from reconcile.under_way import RUN_FOR_S
from reconcile.users import import_users
from worker.resources import engine
from worker.webhook import tell_alarms
from worker.wiring import reconciler

DATABASE_FAULTS = (DBAPIError, PoolTimeoutError)
"""What is left of a database's errors: the journal counts an operation's own failures itself."""

RUN_LIMIT_S = int(RUN_FOR_S) + 60
"""A run ends by itself before it and reports what it did; whatever makes it last longer is a fault."""

BUSY_RETRY_S, BUSY_RETRIES = 5, RUN_LIMIT_S // 5
"""How an operator's run waits: longer than any other may take."""


@shared_task(
    name="sync.apply",
    bind=True,
    autoretry_for=DATABASE_FAULTS,
    max_retries=20,  # bounds the message, not the operation: while it is queued the relay rings again
    default_retry_delay=2,  # for a pool process that was killed; Celery's own default is three minutes
    retry_backoff=1,
    retry_backoff_max=30,
    retry_jitter=True,
)
def apply(self: Any, operation_id: int) -> str:  # noqa: ANN401 - Celery's
    """Apply one journaled call, and those before it for the same VPS."""
    return apply_operation(engine(), operation_id, again=self.request.retries > 0).text


@shared_task(name="sync.dispatch_pending")
def dispatch_pending() -> str:
    """Make operations that were published long ago and never applied due for the relay again."""
    return f"{ring_unapplied(engine())} due again"


@shared_task(name="reconcile.fast", soft_time_limit=60, time_limit=75)
def fast() -> str:
    """Read every cluster once and repair power states."""
    return run_fast(reconciler(engine(), get_settings()), trigger="beat").summary


@shared_task(
    name="reconcile.run", bind=True, soft_time_limit=RUN_LIMIT_S, time_limit=RUN_LIMIT_S + 30, max_retries=BUSY_RETRIES
)
def run(self: Any, trigger: str = "nudge", **_: Any) -> str:  # noqa: ANN401 - Celery's; newer senders may say more
    """One full reconciliation. One that an operator asked for waits for the run under way, others give up."""
    asked = trigger.startswith(OPERATOR_TRIGGER)
    only = parse_subject(trigger.removeprefix(OPERATOR_TRIGGER).strip()) if asked else None
    result = run_full(reconciler(engine(), get_settings()), trigger=trigger, only=only)
    if result.state == "busy" and asked:
        raise self.retry(countdown=BUSY_RETRY_S)
    return result.summary


@shared_task(name="users.import", soft_time_limit=120, time_limit=150)
def users_import() -> str:
    """Import users of the main site, so that calls for new users are accepted."""
    return import_users(reconciler(engine(), get_settings())).summary


@shared_task(name="findings.tell", soft_time_limit=60, time_limit=75)
def tell() -> str:
    """Tell FINDING_WEBHOOK_URL of new alarms; what it does not take is offered again by the next of these."""
    return tell_alarms(engine(), get_settings()).summary


@shared_task(name="maintenance.prune", soft_time_limit=120, time_limit=150)
def maintenance_prune() -> str:
    """Delete what has been kept for long enough."""
    pruned = prune(engine(), get_settings().journal_days)
    return ", ".join(f"{count} {table}" for table, count in pruned.items() if count) or "nothing is old enough"
