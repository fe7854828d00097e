"""``panel-sync plan`` shows what a run would do, as a readable difference; ``reconcile`` shows it and does it."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, TypeVar

import typer
from sqlalchemy import Engine

from cli.connect import opened_panel
from cli.environment import command_settings
from cli.errors import CommandError
from cli.operating.operator_transaction import operator
from cli.output.console import out
from cli.output.listing import All, Json, OfClass, OfCluster, OfUser, Page, PerPage, View
from cli.output.plan_view import plan_as_json, show_plan, show_releases
from cli.output.progress import Working
from cli.output.what_if_view import show_what_if
from panel.operators.actions import runs
from panel.operators.first_filling import filling_since, first_word_given, waiting_guests
from panel.operators.repair_policy.outcome import Outcome
from panel.operators.repair_policy.policies import handling_of, parse_policy, policy_text
from panel.records.labels import labels_of
from panel.settings import Settings
from reconcile.decision.subjects import Subject, SubjectKind
from reconcile.run import RunResult, run_full
from reconcile.users import import_first_users
from reconcile.what_if import try_policy
from sources.outgoing.trace_collector import export_traces
from worker.wiring import reconciler

T = TypeVar("T")

OtherPolicy = Annotated[
    list[str] | None,
    typer.Option(
        "--policy", metavar="CLASS=MODE", help="Only show what this policy would do: orphan=repair, all=hold."
    ),
]

BUSY_S = 300.0
"""How long to wait for another run. The first runs of a large fleet read for minutes."""

NAMED = 20
"""How many changes that were not written are named one by one. The rest is counted."""


def plan(
    class_: OfClass = None,
    cluster: OfCluster = None,
    user: OfUser = None,
    page: Page = 1,
    limit: PerPage = 50,
    everything: All = False,
    json: Json = False,
) -> None:
    """Read every source and show what a run would change, hold and report. Stores nothing of what it read.

    No record changes. A guest or an order that this plan did not see does not count as missing for later runs, so
    repeated plans bring no delete nearer. Only the runs of the workers and of `reconcile --apply` collect that proof.

    A large plan is summed up: counts by class and cluster, the customers with most entries, the ten entries that
    matter most, and each held set with the command that releases it. --all or --json shows every entry.

    Examples: panel-sync plan; panel-sync plan --class owner-unknown --page 2; panel-sync plan --user 5 --json

    Ends with 0, whatever the plan says; with 2 if it could not be made.
    """
    settings = command_settings()
    export_traces(settings.traces_url, "command")
    view = View(class_, cluster, user, page, limit, everything)
    with opened_panel(_database(settings)) as engine:
        planned = _run(engine, settings, dry=True)
        _show(engine, planned, view, "panel-sync plan", json=json)


def reconcile(
    apply: Annotated[
        bool, typer.Option("--apply", help="Show the plan, ask, and apply what the limits allow.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Apply without asking; for scripts.")] = False,
    vps: Annotated[int | None, typer.Option("--vps", min=1, help="Apply only what concerns this VPS.")] = None,
    user: Annotated[int | None, typer.Option("--user", min=1, help="Only this user (the panel's id).")] = None,
    cluster: Annotated[str | None, typer.Option("--cluster", help="Only this cluster.")] = None,
    class_: OfClass = None,
    page: Page = 1,
    limit: PerPage = 50,
    everything: All = False,
    policy: OtherPolicy = None,
    json: Json = False,
) -> None:
    """Compare and repair now. Without --apply this is `panel-sync plan`.

    A new panel holds its deletes and its first filling until an operator has seen a plan. To apply everything (without
    --vps, --user or --cluster) says that you have. It releases the records of all orders known at that moment, also
    those that runs create in the next 24 hours. The limits of the whole plan hold also if you apply a part of it.
    --class and --page choose only what is shown.

    --policy CLASS=MODE shows what the next run would do if that class were handled otherwise than REPAIR_POLICY says,
    and the difference to what it does today. Nothing is applied, and nothing of what was read is kept.

    Examples: panel-sync reconcile --apply --user 5; panel-sync reconcile --policy orphan=repair

    Ends with 0 if it was applied or shown, with 1 if you answered no, with 2 if it could not be done.
    """
    settings = command_settings()
    export_traces(settings.traces_url, "command")
    only = _subject(settings, vps, user, cluster)
    if policy:
        chosen = (apply, yes, only is not None, class_ is not None, page > 1, limit != 50, everything)
        if any(chosen):
            raise CommandError(
                "--policy only shows what a policy would do and applies nothing: it goes with --json alone"
            )
        show_what_if(_tried(settings, parse_policy(policy)), json=json)
        return
    if json and apply and not yes:
        raise CommandError("--json with --apply needs --yes, because --json output leaves no place for the question")
    view = View(class_, None, None, page, limit, everything)
    with opened_panel(_database(settings)) as engine:
        if apply:
            with _quiet(), Working("looking for users") as progress:
                import_first_users(reconciler(engine, settings, progress))
        planned = _run(engine, settings, dry=True, only=only)
        _show(engine, planned, view, "panel-sync reconcile", json=json and not apply)
        if not apply:
            return
        if not yes and not typer.confirm("Apply this? The run reads everything again first."):
            raise typer.Exit(1)
        with engine.begin() as connection:
            runs.apply_now(connection, operator(), str(only) if only is not None else "")
        result = _run(engine, settings, dry=False, only=only)
        if json:
            _show(engine, result, view, "", json=True)
            return
        _show_outcome(engine, result)


def _tried(settings: Settings, policy: Mapping[str, str]) -> Outcome:
    """What the next run would do under another policy. Raises CommandError."""
    handling = handling_of(settings, policy)
    with opened_panel(_database(settings)) as engine, _quiet(), Working("beginning") as progress:
        needs = reconciler(engine, settings, progress, remember=False)
        tried = _at_its_turn(progress, lambda: try_policy(needs, policy_text(policy), handling), lambda one: one.result)
    if tried.outcome is None:
        raise CommandError(f"there is no plan: {tried.result.summary}")
    return tried.outcome


def _show_outcome(engine: Engine, result: RunResult) -> None:
    out.print(f"run {result.run_id}: {result.summary}")
    not_written = list(result.outcome.not_written) if result.outcome else []
    for change, why in not_written[:NAMED]:
        out.print(f"  not written: {change.subject} {change.kind.value}: {why}")
    if len(not_written) > NAMED:
        out.print(f"  not written: {len(not_written) - NAMED} more; the next run looks again")
    with engine.connect() as connection:
        first = not first_word_given(connection)
        filling, waiting = filling_since(connection), waiting_guests(connection)
    if result.gated is not None:
        show_releases(result.gated.held, first=first)
    if filling is not None and waiting:
        out.print(f"{waiting} guests are still to be read: the workers create their orders' records in the next runs")


def _database(settings: Settings) -> str:
    settings.require("database_url")
    return settings.session_url


def _subject(settings: Settings, vps: int | None, user: int | None, cluster: str | None) -> Subject | None:
    options = {"vps": vps, "user": user, "cluster": cluster}
    given = [Subject(SubjectKind(kind), str(name)) for kind, name in options.items() if name is not None]
    if len(given) > 1:
        raise CommandError("--vps, --user and --cluster exclude each other")
    if cluster is not None and cluster not in settings.cluster_names:
        raise CommandError(f"{cluster} is not one of PROXMOX_CLUSTERS")
    return given[0] if given else None


def _run(engine: Engine, settings: Settings, *, dry: bool, only: Subject | None = None) -> RunResult:
    """One run with a moving progress line. Waits for another run for up to BUSY_S, then raises CommandError."""
    with _quiet(), Working("beginning") as progress:
        trigger = f"operator {only}" if only is not None else "operator"
        needs, plan_seen = reconciler(engine, settings, progress, remember=not dry), not dry and only is None
        return _at_its_turn(
            progress, lambda: run_full(needs, trigger=trigger, dry=dry, only=only, plan_seen=plan_seen), lambda run: run
        )


def _at_its_turn(progress: Working, run: Callable[[], T], result_of: Callable[[T], RunResult]) -> T:
    """Do a run, once no other is in the way. Raises CommandError, also if everything is paused."""
    deadline = time.monotonic() + BUSY_S
    while (result := result_of(done := run())).state == "busy":
        if time.monotonic() > deadline:
            raise CommandError(f"{result.summary}; gave up after {BUSY_S:g} s. `panel-sync runs` shows that run")
        progress("waiting for another run", 0, None)
        time.sleep(0.5)
    if result.state == "fenced":
        raise CommandError(
            "another run took over, because this one lost its connection to PostgreSQL. Nothing is lost: "
            "`panel-sync runs` shows the other run"
        )
    if result.state == "paused":
        raise CommandError(f"everything is {result.summary}; to go on: panel-sync resume all")
    return done


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Log warnings only. A worker logs each repair; this command prints the result instead."""
    loggers = [logging.getLogger(name) for name in ("panel", "reconcile")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def _show(engine: Engine, result: RunResult, view: View, again: str, *, json: bool) -> None:
    with engine.connect() as connection:
        first = not first_word_given(connection)
        labels = result.labels or labels_of(connection, result.subjects)
    if json:
        plan_as_json(result, labels, view, first=first)
    else:
        show_plan(result, labels, view, again, first=first)
        if to_read := result.counts.get("guests_to_read"):
            out.print(f"{to_read} guests are not read yet: the records of their orders are not in this plan")
