"""The tasks. Each parses, calls one function and returns a short text for the task list (no personal data)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import structlog
from celery import shared_task
from celery.exceptions import SoftTimeLimitExceeded
from celery.utils.time import get_exponential_backoff_interval
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from panel.journal.call_sets.apply import apply_calls
from panel.observations.proof import Proof
from panel.operators.prune import prune
from panel.operators.repair_policy.policies import handling_of, policy_text
from panel.operators.repair_policy.what_ifs import TASK as WHAT_IF
from panel.operators.repair_policy.what_ifs import keep_outcome, keep_problem, waiting_policy
from panel.operators.service_levels import COUNTED, count_levels
from panel.runs import schedule_duties
from panel.runs.run_requests import OPERATOR_TRIGGER
from panel.settings import get_settings
from reconcile.decision.subjects import parse_subject
from reconcile.run import rolling_read, run_fast, run_full
from reconcile.run_context import RUN_FOR_S
from reconcile.users import import_users
from reconcile.what_if import try_policy
from worker.resources import engine
from worker.webhooks.alarms import send_alarms
from worker.webhooks.events import send_events
from worker.wiring import act, read_statistics, reconciler

log = structlog.get_logger(__name__)

DATABASE_FAULTS = (DBAPIError, PoolTimeoutError)
"""The database errors after which a message is retried. The failures that are an operation's own do not reach the task:
the journal counts them."""

APPLY_AGAIN_S = 30
"""The longest wait for another try of a message while the database is away, in seconds."""

RUN_LIMIT_S = int(RUN_FOR_S) + 60
"""A run ends by itself before this and reports what it did. A run that lasts longer has a defect."""

POWER_LIMIT_S = 80
"""A step of a power action ends by itself before this. An action is taken for longer (``panel.power.progress``)."""

STATISTICS_LIMIT_S = 60
"""Reads of statistics end by themselves before this. A row is taken for longer (``panel.statistics.readings``)."""

BUSY_RETRY_S, BUSY_RETRIES = 5, RUN_LIMIT_S // 5
"""Seconds between the tries of an operator's run to get its turn, and the number of tries. Together this is longer
than any other run may take."""


@shared_task(
    name="sync.apply",
    bind=True,
    max_retries=20,  # of this message only: while an operation is queued, the relay sends further messages
    default_retry_delay=2,  # for a pool process that was killed; Celery's own default is three minutes
)
def apply(self: Any, operations: int | list[int], ended: int = 0) -> str:  # noqa: ANN401 - Celery's
    """Apply journaled calls, and the calls before them for the same VPSes. ``ended``: how many tries of this message
    came to an end. If there were more, a process was killed."""
    retries = self.request.retries
    ids = [operations] if isinstance(operations, int) else operations
    try:
        return apply_calls(engine(), ids, again=retries > ended)
    except DATABASE_FAULTS as error:
        wait_s = get_exponential_backoff_interval(1, retries, APPLY_AGAIN_S, full_jitter=True)
        raise self.retry(exc=error, countdown=wait_s, kwargs={"ended": ended + 1}) from error


@shared_task(name="power.act", soft_time_limit=POWER_LIMIT_S, time_limit=POWER_LIMIT_S + 10)
def power_act(action_id: int) -> str:
    """Do the next step of a power action. If it fails or its process dies, the relay publishes the action again."""
    return act(engine(), get_settings(), action_id)


@shared_task(name="statistics.read", soft_time_limit=STATISTICS_LIMIT_S, time_limit=STATISTICS_LIMIT_S + 10)
def statistics_read(row_id: int | str) -> str:
    """Read the statistics of a VPS that its customer looks at, and those that wait for the same node."""
    return read_statistics(engine(), get_settings(), int(row_id))


Work = Callable[[], tuple[bool, str]]
"""What a task does. Returns whether it is done to the end, and a short text."""

NOT_ASKED = "beat has not asked for it since it last began"


def _duty(name: str, work: Work) -> str:
    """Do what beat asked for, unless another worker has taken the request. Store how it ended."""
    with engine().begin() as connection:
        if not schedule_duties.begin(connection, name):
            return NOT_ASKED
    try:
        done, summary = work()
    except Exception as error:
        _note_outcome(name, type(error).__name__)
        raise
    if done:
        _note_outcome(name, None)
    return summary


def _note_outcome(name: str, problem: str | None) -> None:
    with engine().begin() as connection:
        if problem is None:
            schedule_duties.note_done(connection, name)
        else:
            schedule_duties.note_failed(connection, name, problem)


def _perform(name: str, trigger: str, work: Work) -> str:
    """Do a task's work. A request of beat's is done once only; any other message (a nudge) is always followed.

    Either way the duty counts as done once the work is done to the end.
    """
    if trigger == schedule_duties.BEAT:
        return _duty(name, work)
    done, summary = work()
    if done:
        _note_outcome(name, None)
    return summary


@shared_task(name="reconcile.fast", soft_time_limit=60, time_limit=75)
def fast(trigger: str = "nudge") -> str:
    """Read every cluster once and repair power states. Then read some guests' identities again."""

    def work() -> tuple[bool, str]:
        wired = reconciler(engine(), get_settings())
        result = run_fast(wired, trigger="beat")
        if result.state == "done":
            rolling_read(wired)
        # "busy" counts as done: the run that is in the way reads the same lists and repairs the same power states.
        return result.state in {"done", "paused", "busy"}, result.summary

    return _perform("reconcile.fast", trigger, work)


@shared_task(
    name="reconcile.run", bind=True, soft_time_limit=RUN_LIMIT_S, time_limit=RUN_LIMIT_S + 30, max_retries=BUSY_RETRIES
)
def run(self: Any, trigger: str = "nudge", **_: Any) -> str:  # noqa: ANN401 - Celery's; newer senders may pass more
    """One full run. A run that an operator asked for waits until the current run ends; any other gives up."""
    by_operator = trigger.startswith(OPERATOR_TRIGGER)
    only = parse_subject(trigger.removeprefix(OPERATOR_TRIGGER).strip()) if by_operator else None

    def work() -> tuple[bool, str]:
        result = run_full(reconciler(engine(), get_settings()), trigger=trigger, only=only)
        if result.state == "busy" and by_operator:
            raise self.retry(countdown=BUSY_RETRY_S)
        return result.state in {"done", "paused"} and only is None, result.summary

    return _perform("reconcile.run", trigger, work)


@shared_task(
    name=WHAT_IF, bind=True, soft_time_limit=RUN_LIMIT_S, time_limit=RUN_LIMIT_S + 30, max_retries=BUSY_RETRIES
)
def what_if(self: Any, asked: int | str) -> str:  # noqa: ANN401 - Celery's
    """Plan a run under the repair policy that an operator asked about, and keep what it would do. It repairs nothing
    and is no duty, so no lane counts it."""
    with engine().begin() as connection:
        policy = waiting_policy(connection, int(asked))
    if policy is None:
        return "there is an outcome already"
    settings = get_settings()
    try:
        handling = handling_of(settings, policy)
        tried = try_policy(reconciler(engine(), settings, remember=False), policy_text(policy), handling)
    except Exception as error:
        with engine().begin() as connection:
            keep_problem(connection, int(asked), f"the run failed ({type(error).__name__}); the worker's log says more")
        raise
    if tried.result.state == "busy" and self.request.retries < BUSY_RETRIES:
        raise self.retry(countdown=BUSY_RETRY_S)
    with engine().begin() as connection:
        if tried.outcome is None:
            keep_problem(connection, int(asked), tried.result.summary)
        else:
            keep_outcome(connection, int(asked), tried.result.run_id, tried.outcome)
    return tried.result.summary


@shared_task(name="users.import", soft_time_limit=120, time_limit=150)
def users_import(trigger: str = "nudge") -> str:
    """Import users of the main site, so that calls for new users are accepted."""
    return _perform("users.import", trigger, lambda: (True, import_users(reconciler(engine(), get_settings())).summary))


@shared_task(name="findings.tell", soft_time_limit=60, time_limit=75)
def send_new_alarms(trigger: str = "nudge") -> str:
    """Send new alarms to FINDING_WEBHOOK_URL. The next call sends again what the receiver did not take. Until it takes
    everything, the duty does not count as done, so that the lane tells that alarms are not delivered."""

    def work() -> tuple[bool, str]:
        delivery = send_alarms(engine(), get_settings())
        if delivery.problem is not None:
            _note_outcome("findings.tell", delivery.problem)
        return delivery.problem is None, delivery.summary

    return _perform("findings.tell", trigger, work)


@shared_task(name="webhooks.send", soft_time_limit=40, time_limit=50)
def send_due_events() -> str:
    """Send the main site what is due. If it fails or its process dies, the relay asks again."""
    return send_events(engine(), get_settings()).summary


@shared_task(name="maintenance.prune", soft_time_limit=120, time_limit=150)
def maintenance_prune(trigger: str = "nudge") -> str:
    """Delete what has been kept for long enough. After it, count the service level of the last day and of the last 30
    days. A count may fail or take too long: what was deleted stays deleted, and the duty is done."""

    def work() -> tuple[bool, str]:
        settings = get_settings()
        proof = Proof(settings.absence_proof_n, timedelta(seconds=settings.absence_proof_t_s))
        pruned = prune(engine(), settings.journal_days, proof)
        _count_service_levels(settings.mend_within_s)
        gone = ", ".join(f"{count} {table}" for table, count in pruned.items() if count)
        return True, gone or "nothing is old enough"

    return _perform("maintenance.prune", trigger, work)


def _count_service_levels(within_s: float) -> None:
    for window in COUNTED:
        try:
            with engine().begin() as connection:
                count_levels(connection, window, within_s)
        except (*DATABASE_FAULTS, SoftTimeLimitExceeded) as error:
            log.exception("service_levels_not_counted", days=window.days)
            if isinstance(error, SoftTimeLimitExceeded):
                return
