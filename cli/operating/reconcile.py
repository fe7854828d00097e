"""``panel-sync plan`` and ``reconcile``: what a run would do, as a readable difference, and doing it."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator
from typing import Annotated

import typer
from sqlalchemy import Engine

from cli.connect import opened_panel
from cli.environment import command_settings
from cli.errors import CommandError
from cli.operating.acting import operator
from cli.output.console import out
from cli.output.listing import All, Json, OfClass, OfCluster, OfUser, Page, PerPage, View
from cli.output.plan_view import plan_as_json, show_plan, show_releases
from cli.output.progress import Working
from panel.operators.actions import runs
from panel.operators.first_filling import filling_since, first_word_given, waiting_guests
from panel.records.ownership import whose
from panel.settings import Settings
from reconcile.decision.subjects import Subject, SubjectKind
from reconcile.run import RunResult, run_full
from reconcile.users import import_first_users
from worker.wiring import reconciler

BUSY_S = 300.0
"""How long to wait for another run: the first ones of a large fleet read for minutes."""

NAMED = 20
"""Changes that were not written, named one by one; the rest is counted."""


def plan(
    class_: OfClass = None,
    cluster: OfCluster = None,
    user: OfUser = None,
    page: Page = 1,
    limit: PerPage = 50,
    everything: All = False,
    json: Json = False,
) -> None:
    """Read every source and show what a run would change, hold and report. Keeps nothing of what it saw.

    No record changes, and nothing counts for a later run: neither a look at a guest nor a missing order. So a plan does
    not come nearer to a delete by being made again; the runs of `up`, or `reconcile --apply`, do that.

    A large plan is summed up: counts by class and cluster, the customers with most, the ten changes that matter most,
    and what is held with the command that releases it.

    Examples: panel-sync plan; panel-sync plan --class owner-unknown --page 2; panel-sync plan --user 5 --json

    Ends with 0, whatever the plan says; with 2 if it could not be made.
    """
    settings = command_settings()
    view = View(class_, cluster, user, page, limit, everything)
    with opened_panel(_database(settings)) as engine:
        seen = _observed(engine, settings, dry=True)
        _show(engine, seen, view, "panel-sync plan", json=json)


def reconcile(
    apply: Annotated[bool, typer.Option("--apply", help="Apply what the limits allow, after a look at it.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask; for scripts.")] = False,
    vps: Annotated[int | None, typer.Option("--vps", min=1, help="Apply only what concerns this VPS.")] = None,
    user: Annotated[int | None, typer.Option("--user", min=1, help="Only this user (the panel's id).")] = None,
    cluster: Annotated[str | None, typer.Option("--cluster", help="Only this cluster.")] = None,
    class_: OfClass = None,
    page: Page = 1,
    limit: PerPage = 50,
    everything: All = False,
    json: Json = False,
) -> None:
    """Compare and repair now. Without --apply this is `panel-sync plan`.

    Applying everything tells the panel that an operator has seen a plan: until then deletes, and the first filling of
    a new panel, are held. That one word covers all orders known by then, also those whose records the next runs make.
    The limits are those of the whole plan, also for a part of it. --class and --page only say what is shown.

    Examples: panel-sync reconcile --apply; panel-sync reconcile --apply --yes --user 5

    Ends with 0 when it was applied, with 1 if you said no, with 2 if it could not be done.
    """
    settings = command_settings()
    only = _subject(settings, vps, user, cluster)
    if json and apply and not yes:
        raise CommandError("--json with --apply needs --yes: a program cannot be asked")
    view = View(class_, None, None, page, limit, everything)
    with opened_panel(_database(settings)) as engine:
        if apply:
            with _quiet(), Working("looking for users") as moving:
                import_first_users(reconciler(engine, settings, moving))
        seen = _observed(engine, settings, dry=True, only=only)
        _show(engine, seen, view, "panel-sync reconcile", json=json and not apply)
        if not apply:
            return
        if not yes and not typer.confirm("Apply this (what has changed meanwhile is looked at again)?"):
            raise typer.Exit(1)
        with engine.begin() as connection:
            runs.apply_now(connection, operator(), str(only) if only is not None else "")
        result = _observed(engine, settings, dry=False, only=only)
        if json:
            _show(engine, result, view, "", json=True)
            return
        _tell(engine, result)


def _tell(engine: Engine, result: RunResult) -> None:
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
        out.print(f"{waiting} guests are still to be read: the workers make their orders' records in the next runs")


def _database(settings: Settings) -> str:
    settings.require("database_url")
    return settings.session_url


def _subject(settings: Settings, vps: int | None, user: int | None, cluster: str | None) -> Subject | None:
    named = {"vps": vps, "user": user, "cluster": cluster}
    given = [Subject(SubjectKind(kind), str(name)) for kind, name in named.items() if name is not None]
    if len(given) > 1:
        raise CommandError("--vps, --user and --cluster exclude each other")
    if cluster is not None and cluster not in settings.cluster_names:
        raise CommandError(f"{cluster} is not one of PROXMOX_CLUSTERS")
    return given[0] if given else None


def _observed(engine: Engine, settings: Settings, *, dry: bool, only: Subject | None = None) -> RunResult:
    """One run with a moving progress line; waits for one that is under way. Raises CommandError in the end."""
    with _quiet(), Working("beginning") as moving:
        deadline = time.monotonic() + BUSY_S
        trigger = f"operator {only}" if only is not None else "operator"
        made, seen = reconciler(engine, settings, moving, remember=not dry), not dry and only is None
        while (result := run_full(made, trigger=trigger, dry=dry, only=only, plan_seen=seen)).state == "busy":
            if time.monotonic() > deadline:
                raise CommandError(f"{result.summary}; gave up after {BUSY_S:g} s, `panel-sync runs` shows it")
            moving("waiting for another run", 0, None)
            time.sleep(0.5)
    if result.state == "fenced":
        raise CommandError("another run took over, since this one lost its connection to PostgreSQL: nothing is lost")
    if result.state == "paused":
        raise CommandError(f"everything is {result.summary}; to go on: panel-sync resume all")
    return result


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """A line for each repair is for a worker's log: here the result says what was done."""
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
        found = result.customers or whose(connection, result.subjects)
    if json:
        plan_as_json(result, found, view, first=first)
    else:
        show_plan(result, found, view, again, first=first)
        if to_read := result.counts.get("guests_to_read"):
            out.print(f"{to_read} guests are not read yet: what is made of their orders is not in this plan")
