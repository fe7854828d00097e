"""``panel-sync plan`` and ``reconcile``: what a run would do, as a readable difference, and doing it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Annotated, Any

import typer
from sqlalchemy import Engine

from cli.acting import note
from cli.connect import opened_panel
from cli.console import err, out
from cli.environment import command_settings
from cli.errors import CommandError
from panel.settings import Settings
from panel.terminal import Piece, progress, styled
from reconcile.changes import Change
from reconcile.gate import Held
from reconcile.run import RunResult, acknowledge_first_plan, run_full
from reconcile.subjects import Subject, SubjectKind
from worker.wiring import reconciler

BUSY_S = 60.0
"""How long to wait for another run: a full one of a large fleet takes less."""

SHOWN_AS = {"ram_mb": "ram (MB)", "disk_gb": "disk (GB)", "user_id": "owner"}
"""How columns read; those that end in ``_at`` or ``_source`` say nothing to an operator and are left out."""


def plan() -> None:
    """Read every source and show what a run would change, hold and report. Changes no record."""
    settings = command_settings()
    with opened_panel(_database(settings)) as engine:
        _show(_observed(engine, settings, dry=True))


def reconcile(
    apply: Annotated[bool, typer.Option("--apply", help="Apply what the limits allow, after a look at it.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask; for scripts.")] = False,
    vps: Annotated[int | None, typer.Option("--vps", min=1, help="Apply only what concerns this VPS.")] = None,
    user: Annotated[int | None, typer.Option("--user", min=1, help="Only this user (the panel's id).")] = None,
    cluster: Annotated[str | None, typer.Option("--cluster", help="Only this cluster.")] = None,
) -> None:
    """Compare and repair now. Without --apply this is `panel-sync plan`.

    Applying everything tells the panel that an operator has seen a plan: until then deletes, and the bulk creation of
    a new panel's records, are held. The limits are those of the whole plan, also for a part of it.
    """
    settings = command_settings()
    only = _subject(settings, vps, user, cluster)
    with opened_panel(_database(settings)) as engine:
        seen = _observed(engine, settings, dry=True, only=only)
        _show(seen)
        if not apply:
            return
        if not yes and not typer.confirm("Apply this (what has changed meanwhile is looked at again)?"):
            raise typer.Exit(1)
        if only is None:
            acknowledge_first_plan(engine)
        with engine.begin() as connection:
            note(connection, "reconcile", str(only) if only is not None else "everything")
        result = _observed(engine, settings, dry=False, only=only)
        out.print(f"run {result.run_id}: {result.summary}")
        for change, why in result.outcome.not_written if result.outcome else ():
            out.print(f"  not written: {change.subject} {change.kind.value}: {why}")
        if result.gated is not None:
            _show_held(result.gated.held)


def _database(settings: Settings) -> str:
    settings.require("database_url")
    return settings.database_url


def _subject(settings: Settings, vps: int | None, user: int | None, cluster: str | None) -> Subject | None:
    named = {"vps": vps, "user": user, "cluster": cluster}
    given = [Subject(SubjectKind(kind), str(name)) for kind, name in named.items() if name is not None]
    if len(given) > 1:
        raise CommandError("--vps, --user and --cluster exclude each other")
    if cluster is not None and cluster not in {c.name for c in settings.proxmox_clusters}:
        raise CommandError(f"{cluster} is not one of PROXMOX_CLUSTERS")
    return given[0] if given else None


def _observed(engine: Engine, settings: Settings, *, dry: bool, only: Subject | None = None) -> RunResult:
    """One run with a moving progress line; waits for one that is under way. Raises CommandError in the end."""
    with progress(err) as line:
        line.add_task("reading the main site and Proxmox" if dry else "applying", total=None)
        deadline = time.monotonic() + BUSY_S
        trigger = f"operator {only}" if only is not None else "operator"
        while (result := run_full(reconciler(engine, settings), trigger=trigger, dry=dry, only=only)).state == "busy":
            if time.monotonic() > deadline:
                raise CommandError(f"{result.summary}; gave up after {BUSY_S:g} s, `panel-sync runs` shows it")
            time.sleep(0.5)
    if result.state == "fenced":
        raise CommandError("another run took over, since this one lost its connection to PostgreSQL: nothing is lost")
    if result.state == "paused":
        raise CommandError(f"everything is {result.summary}; to go on: panel-sync resume all")
    return result


def _show(result: RunResult) -> None:
    for problem in result.problems:
        out.print(styled("yellow", "source"), problem)
    if result.plan is None or result.gated is None:
        return
    for change in result.gated.allowed:
        for line in _lines(change):
            out.print(*line)
    _show_held(result.gated.held)
    for finding in result.plan.findings:
        out.print(styled("cyan", "finding"), f"{finding.class_} {finding.subject}: {finding.reason}")
    held = sum(len(h.changes) for h in result.gated.held)
    found = len(result.plan.findings)
    out.print(f"{len(result.gated.allowed)} to apply, {held} held, {found} findings; plan {result.plan.hash[:12]}")


def _show_held(held: tuple[Held, ...]) -> None:
    for one in held:
        out.print(styled("bold red", "held"), f"{one.scope}: {one.reason} ({one.hash[:12]})")
        for change in one.changes:
            for line in _lines(change):
                out.print(" ", *line)


SIGNS = {"create": ("green", "+"), "delete": ("red", "-"), "merge": ("red", "-")}


def _lines(change: Change) -> Iterator[tuple[Piece, ...]]:
    """What one change says, each line in parts."""
    sign = styled(*SIGNS.get(change.action, ("yellow", "~")))
    yield sign, change.subject, styled("bold", f"{change.kind.value}:"), change.reason
    for name, value in change.values.items():
        if name.endswith(("_at", "_source", "_as_of", "_since", "_once")) or value is None:
            continue
        old = getattr(change.record, name, None) if change.record is not None else None
        said = f"{_plain(old)} -> {_plain(value)}" if change.record is not None else _plain(value)
        yield (f"    {SHOWN_AS.get(name, name)}: {said}",)


def _plain(value: Any) -> str:  # noqa: ANN401 - any column
    return "nothing" if value is None else str(getattr(value, "value", value))
