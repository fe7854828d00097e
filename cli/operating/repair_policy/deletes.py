"""``panel-sync deletes``: what was deleted lately, and what other limits or another policy would have made of it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from cli.connect import opened_panel
from cli.environment import command_settings
from cli.output.console import as_json, out
from cli.output.listing import Json
from panel.operators.repair_policy.past_deletes import OtherLimits, PastDeletes, past_deletes
from panel.operators.repair_policy.policies import DELETE_CLASSES, parse_policy
from panel.records.told import moment
from panel.terminal import styled, table

SHOWN = 50
"""How many deletes are listed, newest first; --json has all of them."""


def deletes(
    days: Annotated[int, typer.Option("--days", help="How far back, at most 90.")] = 30,
    policy: Annotated[
        list[str] | None,
        typer.Option("--policy", metavar="CLASS=MODE", help="Another policy for orphan or missed-delete."),
    ] = None,
    run: Annotated[int | None, typer.Option("--run", help="Another limit of deletes in one run.")] = None,
    hour: Annotated[int | None, typer.Option("--hour", help="Another limit of deletes in one hour.")] = None,
    day: Annotated[int | None, typer.Option("--day", help="Another limit of deletes in one day.")] = None,
    pushed_hour: Annotated[
        int | None, typer.Option("--pushed-hour", help="Another limit for the alarm about deletes by calls.")
    ] = None,
    json: Json = False,
) -> None:
    """Judge the deletes of the last days by the limits and REPAIR_POLICY of the settings, or by others.

    Deletes that runs made are judged: which would have been applied, which held and by which limit. Deletes by calls of
    the main site are counted apart, because no policy holds them. It reads the journal only, and says what that cannot
    tell.

    Examples: panel-sync deletes; panel-sync deletes --policy orphan=repair --run 10 --json

    Ends with 0, whatever was deleted.
    """
    settings = command_settings("database_url")
    other = OtherLimits(run, hour, day, pushed_hour, parse_policy(policy, DELETE_CLASSES) if policy else None)
    with opened_panel(settings.session_url) as engine, engine.begin() as connection:
        found = past_deletes(connection, settings, days, other)
    if json:
        as_json(asdict(found))
    else:
        _show(found)


def _show(found: PastDeletes) -> None:
    policy = ", ".join(f"{kind}={mode}" for kind, mode in found.policy.items())
    limits = ", ".join(f"{name}={limit}" for name, limit in found.limits.items())
    out.print(f"Deletes since {moment(found.since)} UTC, judged by {policy}; {limits}")
    if found.cut:
        out.print(styled("yellow", "there were more"), "deletes than are looked at: the older ones are left out")
    if found.journal_since is not None:
        out.print(f"The journal begins {moment(found.journal_since)} UTC.")
    days = table("day (UTC)", "by runs", "applied", "held", "ignored", "unknown", "by calls")
    for one in found.by_day:
        counts = list(asdict(one.made).values())
        days.add_row(one.day, *(str(count or "") for count in (sum(counts), *counts, one.pushed)))
    if found.by_day:
        out.print(days)
    total = found.total
    out.print(
        f"by runs: {total.applied} applied, {total.held} held, {total.ignored} ignored, {total.unknown} unknown; "
        f"by calls of the main site: {found.pushed}"
    )
    if found.held_by:
        out.print("held by: " + ", ".join(f"{one.by}: {one.count}" for one in found.held_by))
    for storm in found.storms:
        about = f"{storm.count} within an hour, {moment(storm.began)} to {moment(storm.ended)} UTC"
        out.print(styled("bold red", "delete-storm"), about)
    for delete in found.deletes[:SHOWN]:
        approved = "; an operator had approved it" if delete.approved else ""
        about = f"{moment(delete.at)} vps:{delete.vps_id} {delete.kind or '?'} (run {delete.run_id})"
        out.print(f"{delete.verdict}:", about, f"{delete.reason}{approved}")
    if len(found.deletes) > SHOWN:
        out.print(f"and {len(found.deletes) - SHOWN} more: --json has all of them")
    for sentence in found.unknowable:
        out.print(styled("cyan", "note"), sentence)
