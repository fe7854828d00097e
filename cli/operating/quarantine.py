"""``panel-sync quarantined`` and ``release``: what runs failed at again and again."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from cli.operating.acting import act, transaction
from cli.output.console import as_json, moment, out
from cli.output.listing import Json
from panel.operators.actions import quarantine
from panel.operators.quarantine import list_quarantined
from panel.terminal import table


def quarantined(json: Json = False) -> None:
    """List what runs failed at again and again: why, and when each is tried again.

    Example: panel-sync quarantined --json

    Ends with 0, whether there is anything or not.
    """
    with transaction() as connection:
        found = list_quarantined(connection)
    if json:
        as_json([asdict(one) for one in found])
        return
    shown = table("subject", "failed", "at", "cause", "not before (UTC)")
    for one in found:
        shown.add_row(one.subject, f"{one.failures} times", one.stage, one.cause, moment(one.next_try_at))
    out.print(shown)


def release(subject: Annotated[str, typer.Argument(metavar="SUBJECT|all")]) -> None:
    """End a quarantine before its time, as `panel-sync quarantined` names it; the next run tries at once.

    Examples: panel-sync release vps:17; panel-sync release all

    Ends with 0; with 2 if nothing of that name is quarantined.
    """
    out.print(act(quarantine.release, subject).message)
