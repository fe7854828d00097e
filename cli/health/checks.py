"""The results of ``doctor`` as values, and the checks of PostgreSQL and the workers."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from cli.connect import database_fault, opened, place
from cli.errors import CommandError
from cli.serving.stack import queues_of
from panel.journal.publish import producer_app
from panel.migrate import current_revision, head_revision
from panel.operators.holds import list_holds, with_approvals
from panel.operators.pauses import pauses_in_force
from panel.operators.quarantine import list_quarantined
from panel.runs.schedule_duties import RELAY, Duty, list_duties
from panel.server_urls import is_elsewhere, postgres_tls
from panel.sessions import NoSessionError, driver_connection, plain_engine, require_session
from panel.settings import Settings
from runtime.servers.embedded_postgres import THROWAWAY
from worker.beat import BEAT_LOCK

SKEW_WARNING_S = 5.0
"""Each decision uses one clock, so skew harms no decision. It harms tokens, and it makes logs hard to compare."""

MINIMUM_POSTGRES = 15
WORKER_ANSWER_S = 1.0
QUEUED_WARNING_S = 60.0


class Verdict(StrEnum):
    """How bad a result is. A problem makes ``doctor`` exit with 1."""

    OK = "ok"
    NOTE = "note"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Check:
    """One result: what was seen, and how to repair it if something is wrong. It never holds a secret."""

    subject: str
    verdict: Verdict
    seen: str
    mend: str = ""


def clock_check(subject: str, skew_s: float) -> Check:
    """Judge a clock. ``skew_s``: the other clock minus ours, in seconds."""
    seen = f"clock {skew_s:+.1f} s from this machine's"
    if abs(skew_s) > SKEW_WARNING_S:
        return Check(subject, Verdict.WARNING, seen, "let both machines keep their time by NTP")
    return Check(subject, Verdict.OK, seen)


def check_postgres(settings: Settings) -> list[Check]:
    """Reachable, new enough, migrated, the right role, its clock, and the journal's backlog."""
    subject = "PostgreSQL"
    try:
        with opened(settings.session_url) as engine:
            revision = current_revision(engine)
            with engine.connect() as connection:
                checks = [_postgres_version(connection, settings.session_url), _durability(connection)]
                checks += [*postgres_tls_check(settings.session_url), *_sessions(connection, settings)]
                checks.append(_revision(revision))
                if revision == head_revision():
                    checks += [_role(connection), *_journal(connection), _beat(connection)]
                    checks += _operators_decisions(connection, settings)
                    checks += duty_checks(list_duties(connection))
                checks.append(_postgres_clock(connection))
                return checks
    except CommandError as error:
        return [Check(subject, Verdict.PROBLEM, str(error), "check DATABASE_URL, the server and its pg_hba.conf")]


def _postgres_version(connection: Connection, url: str) -> Check:
    version = connection.scalar(text("SHOW server_version"))
    number = int(connection.scalar(text("SHOW server_version_num")) or 0)
    seen = f"version {version} at {place(url)}"
    if number // 10_000 < MINIMUM_POSTGRES:
        return Check("PostgreSQL", Verdict.PROBLEM, seen, f"upgrade it to {MINIMUM_POSTGRES} or later")
    return Check("PostgreSQL", Verdict.OK, seen)


def postgres_tls_check(url: str) -> list[Check]:
    """Judge whether a server on another host is verified before it gets the password."""
    mode = postgres_tls(url) or "prefer"
    if mode.startswith("verify-") or not is_elsewhere(url):
        return []
    mend = "put sslmode=verify-full into DATABASE_URL, unless the network to that host is yours alone"
    return [Check("PostgreSQL", Verdict.WARNING, f"sslmode={mode}: its certificate is not verified", mend)]


def _sessions(connection: Connection, settings: Settings) -> list[Check]:
    """Whether runs get a session of their own, and whether calls and reads get through the pooler."""
    checks = []
    try:
        require_session(driver_connection(connection))
    except NoSessionError as error:
        seen = "no run can take place: it gets no session of its own"
        checks.append(Check("PostgreSQL", Verdict.PROBLEM, seen, str(error)))
    if settings.pooled:
        pooled = plain_engine(settings.database_url, "panel-sync command")
        try:
            with pooled.connect() as through:
                through.execute(text("SELECT 1"))
            checks.append(Check("pooler", Verdict.OK, f"answers at {place(settings.database_url)}"))
        except DBAPIError as error:
            seen = f"{database_fault(error, settings.database_url)}, at {place(settings.database_url)}"
            checks.append(Check("pooler", Verdict.PROBLEM, seen, "check DATABASE_URL and the pooler's configuration"))
        finally:
            pooled.dispose()
    return checks


DURABLE = ("fsync", "full_page_writes", "synchronous_commit")
SETTING = text("SELECT current_setting(:name, true)")


def _durability(connection: Connection) -> Check:
    off = [name for name in DURABLE if connection.scalar(SETTING, {"name": name}) == "off"]
    return durability_check(off, throwaway=connection.scalar(SETTING, {"name": THROWAWAY}) == "on")


def durability_check(off: list[str], *, throwaway: bool) -> Check:
    """Judge whether a commit survives a crash of the machine. ``off``: the settings that are off."""
    if not off:
        return Check("PostgreSQL", Verdict.OK, "what is committed is on the disk")
    seen = f"{', '.join(off)} {'is' if len(off) == 1 else 'are'} off"
    if throwaway:
        return Check("PostgreSQL", Verdict.NOTE, f"{seen}: a server for the demo or tests, whose data may be lost")
    mend = "turn it on: without it, accepted calls are lost when the machine crashes"
    return Check("PostgreSQL", Verdict.PROBLEM, seen, mend if len(off) == 1 else mend.replace(" it", " them"))


def _revision(current: str | None) -> Check:
    needed = head_revision()
    if current != needed:
        return Check(
            "tables", Verdict.PROBLEM, f"revision {current or 'none'}, needed {needed}", "run: panel-sync migrate"
        )
    return Check("tables", Verdict.OK, f"revision {current}")


ROLE = text(
    "SELECT r.rolsuper OR r.rolbypassrls AS above_rows, pg_has_role(r.oid, 'panel_app', 'USAGE') AS writes,"
    " pg_has_role(r.oid, 'panel_client', 'MEMBER') AS steps_down,"
    " pg_has_role(r.oid, c.relowner, 'USAGE') AS owns"
    " FROM pg_roles r, pg_class c WHERE r.rolname = current_user AND c.oid = 'vps'::regclass"
)


def _role(connection: Connection) -> Check:
    role = connection.execute(ROLE).one()
    if not (role.writes or role.owns) or not role.steps_down:
        missing = "panel_app" if not (role.writes or role.owns) else "panel_client"
        return Check(
            "database role", Verdict.PROBLEM, f"the login is not a member of {missing}", "run: panel-sync migrate"
        )
    if role.above_rows or role.owns:
        kind = "is a superuser" if role.above_rows else "owns the tables"
        return Check(
            "database role",
            Verdict.WARNING,
            f"the login {kind}",
            "let DATABASE_URL name another login and DATABASE_OWNER_URL this one, then run: panel-sync migrate",
        )
    return Check("database role", Verdict.OK, "writes rows only, and takes the client's role for client reads")


QUEUE = text(
    "SELECT count(*) AS queued, extract(epoch FROM clock_timestamp() - min(accepted_at)) AS oldest_s"
    " FROM operations WHERE state = 'queued'"
)
DEAD = text("SELECT count(*) FROM operations WHERE state = 'dead'")


def _journal(connection: Connection) -> list[Check]:
    queue = connection.execute(QUEUE).one()
    seen = f"{queue.queued} operations wait to be applied"
    late = queue.oldest_s is not None and queue.oldest_s > QUEUED_WARNING_S
    checks = [
        Check("journal", Verdict.WARNING, f"{seen}, the oldest for {queue.oldest_s:.0f} s", "look at the workers below")
        if late
        else Check("journal", Verdict.OK, seen)
    ]
    if dead := connection.scalar(DEAD):
        mend = "see why: panel-sync operations --state dead"
        checks.append(Check("journal", Verdict.WARNING, f"{dead} operations are dead", mend))
    return checks


BEAT = text(
    "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1"
    " AND classid = 0 AND objid = :key AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)


def _beat(connection: Connection) -> Check:
    if connection.scalar(BEAT, {"key": BEAT_LOCK}):
        return Check("beat", Verdict.OK, "one scheduler holds the lock")
    return Check("beat", Verdict.PROBLEM, "no scheduler is running", "start: panel-sync beat")


def duty_checks(duties: list[Duty]) -> list[Check]:
    """Judge whether the periodic duties are done and whether the relay publishes."""
    checks = []
    for duty in duties:
        subject = "relay" if duty.name == RELAY else f"lane {duty.lane}"
        seen = duty.last_outcome if duty.every_s is None else f"{duty.last_outcome}, due every {duty.every_s:g} s"
        if duty.late:
            checks.append(Check(subject, Verdict.PROBLEM, seen, duty.cause))
        elif duty.failing:
            mend = "look at Redis above" if duty.name == RELAY else "see: panel-sync runs, and the worker's log"
            verdict = Verdict.PROBLEM if duty.name == RELAY else Verdict.WARNING
            checks.append(Check(subject, verdict, seen, mend))
        elif duty.name == RELAY or duty.lane in SHOWN_LANES:
            checks.append(Check(subject, Verdict.OK, seen))
    return checks


SHOWN_LANES = ("fast", "full", "users")
SHOWN = 3
"""How many names one line of the table shows. Other commands list the rest."""


def _operators_decisions(connection: Connection, settings: Settings) -> list[Check]:
    """What operators decided or should decide: pauses in force, held sets, quarantine."""
    checks = [
        Check(
            "pauses",
            Verdict.NOTE,
            f"{target} is {pause}",
            f"to go on: panel-sync resume {target.removeprefix('proxmox:')}",
        )
        for target, pause in pauses_in_force(connection).items()
    ]
    held = with_approvals(connection, list_holds(connection), settings.second_approval_above)
    if sets := [held_set for held_set in held if not held_set.by_approval]:
        named = _some([f"{held_set.scope} ({len(held_set.items)})" for held_set in sets])
        checks.append(Check("held sets", Verdict.WARNING, f"waiting: {named}", "decide: panel-sync held"))
    checks += second_operator_check(settings, [held_set.scope for held_set in held if held_set.needs_second])
    if cases := list_quarantined(connection):
        named = _some([f"{case.subject} ({case.cause})" for case in cases])
        checks.append(Check("quarantine", Verdict.WARNING, f"failing: {named}", "see: panel-sync quarantined"))
    return checks


def second_operator_check(settings: Settings, waiting: list[str]) -> list[Check]:
    """Judge whether two operators could approve a set above SECOND_APPROVAL_ABOVE. ``waiting``: the sets that wait for
    that now."""
    above, names = settings.second_approval_above, able_to_approve(settings)
    if above is None or len(names) > 1:
        return []
    who = f"only {names[0]} can" if names else "nobody can"
    mend = "give a second person a key with the role operate (OPS_API_KEYS), or empty SECOND_APPROVAL_ABOVE"
    if waiting:
        seen = f"{_some(waiting)} needs two operators, and {who} approve it"
        return [Check("second operator", Verdict.PROBLEM, seen, mend)]
    seen = f"a held set that takes more than {above} VPS away needs two operators, and {who} approve it"
    return [Check("second operator", Verdict.WARNING, seen, mend)]


def able_to_approve(settings: Settings) -> list[str]:
    """The operators with a key that may decide. Only these count above SECOND_APPROVAL_ABOVE."""
    return sorted({operator.name for operator in settings.operators() if operator.role == "operate"})


def _some(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _postgres_clock(connection: Connection) -> Check:
    before = time.time()
    server_time = float(connection.scalar(text("SELECT extract(epoch FROM clock_timestamp())")) or 0)
    return clock_check("PostgreSQL", server_time - (before + time.time()) / 2)


def check_workers(settings: Settings) -> list[Check]:
    """Whether each queue has a worker. One broadcast asks all workers, and their answers are awaited for one second."""
    app = producer_app(settings.redis_url)
    try:
        answers = app.control.inspect(timeout=WORKER_ANSWER_S).active_queues() or {}
    except Exception as error:  # noqa: BLE001 - of kombu, redis or the socket: each means no broker
        seen = f"the workers can't be asked ({type(error).__name__})"
        return [Check("workers", Verdict.PROBLEM, seen, "repair Redis first")]
    finally:
        app.close()
    taken = {worker: {queue["name"] for queue in queues} for worker, queues in answers.items()}
    return queue_checks(taken, queues_of(settings))


def queue_checks(taken: dict[str, set[str]], queues: Sequence[str] = ("sync", "reconcile")) -> list[Check]:
    """Judge which queues have a worker. ``taken``: the queues of each worker that answered. ``queues``: those in
    use."""
    checks = []
    for queue in queues:
        serving = sorted(worker for worker, queues in taken.items() if queue in queues)
        if serving:
            checks.append(Check("workers", Verdict.OK, f"{queue}: {', '.join(serving)}"))
        else:
            mend = f"start: panel-sync worker --queue {queue}"
            # Without graphs, all else works.
            verdict = Verdict.WARNING if queue == "statistics" else Verdict.PROBLEM
            checks.append(Check("workers", verdict, f"no worker takes the queue {queue}", mend))
    return checks
