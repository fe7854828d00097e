"""``panel-sync webhooks``: what the main site was told, what it did not take, and how to send that again."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated

import typer

from cli.operating.operator_transaction import act, transaction
from cli.output.console import as_json, out
from cli.output.listing import Json
from panel.operators.actions import webhooks
from panel.records.told import moment, span
from panel.terminal import table
from panel.webhooks.views import EndpointView, Wanted, endpoint, list_events

app = typer.Typer(help="The events for the main site.", no_args_is_help=True)


class State(StrEnum):
    """The state of an event."""

    WAITING = "waiting"
    DELIVERED = "delivered"
    DEAD = "dead"


def _time(given: str) -> datetime:
    """Read "2026-03-01T12:00:00Z"; a time without an offset is UTC."""
    try:
        at = datetime.fromisoformat(given)
    except ValueError:
        raise typer.BadParameter("write a time such as 2026-03-01T12:00:00Z") from None
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)


@app.command("list")
def list_all(
    state: Annotated[State | None, typer.Option("--state", help="Only those in this state.")] = None,
    vps: Annotated[int | None, typer.Option("--vps", min=1, help="Only those of this VPS.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many, newest first.")] = 50,
    json: Json = False,
) -> None:
    """Show how the main site takes events, and the latest of them: which wait, which were given up, and why.

    Examples: panel-sync webhooks list; panel-sync webhooks list --state dead

    Ends with 0, whether there are any or not.
    """
    with transaction() as connection:
        told = endpoint(connection)
        events = list_events(connection, None if state is None else state.value, vps_id=vps, limit=limit)
    if json:
        as_json({"endpoint": asdict(told), "events": [asdict(event) for event in events]})
        return
    out.print(_headline(told))
    rows = table("event", "vps", "type", "state", "noted (UTC)", "tries", "next try (UTC)", "why it was not taken")
    for event in events:
        rows.add_row(
            str(event.id),
            str(event.vps_id),
            event.type,
            event.state,
            moment(event.created_at),
            str(event.attempts),
            moment(event.due_at),
            event.last_error or "",
        )
    out.print(rows)


@app.command()
def enable() -> None:
    """Send the main site events again, after it answered 410 Gone. What waited is sent now.

    Example: panel-sync webhooks enable

    Ends with 0; with 2, and why, if nothing was disabled.
    """
    out.print(act(webhooks.enable).message)


@app.command()
def replay(
    event: Annotated[
        int | None, typer.Argument(metavar="[EVENT]", min=1, help="One event, as `webhooks list` shows it.")
    ] = None,
    dead: Annotated[bool, typer.Option("--dead", help="All that were given up.")] = False,
    since: Annotated[
        datetime | None,
        typer.Option("--since", parser=_time, metavar="TIME", help="All that were noted since then."),
    ] = None,
) -> None:
    """Send events again: one, all that were given up, or all since a time. Each keeps its message id, by which a main
    site that has it already knows it.

    Examples: panel-sync webhooks replay 31; panel-sync webhooks replay --dead; panel-sync webhooks replay --since
    2026-03-01T12:00:00Z

    Ends with 0; with 2, and nothing done, if there is no such event or the webhook is off.
    """
    out.print(act(webhooks.replay, Wanted(event, dead, since)).message)


def _headline(told: EndpointView) -> str:
    if not told.wanted:
        return "The main site is told nothing: MAIN_SITE_WEBHOOK_URL is not set"
    age = f", the oldest for {span(told.oldest_waiting_s)}" if told.oldest_waiting_s is not None else ""
    numbers = f"{told.waiting} events wait{age}; {told.dead} were given up"
    if told.disabled_at is not None:
        return f"Nothing is sent since {moment(told.disabled_at)}: the main site answered 410 Gone. {numbers}"
    if told.failing_since is not None:
        return f"The main site has taken nothing since {moment(told.failing_since)}. {numbers}"
    return numbers
