"""``panel-sync quarantined`` and ``release``: the subjects at which runs keep failing."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from cli.operating.operator_transaction import act, transaction
from cli.output.console import as_json, out
from cli.output.listing import Json
from panel.operators.actions import quarantine
from panel.operators.quarantine import list_quarantined
from panel.records.told import moment
from panel.terminal import table


def quarantined(json: Json = False) -> None:
    """List the subjects at which runs keep failing: why, and when each is tried again.

    Example: panel-sync quarantined --json

    Ends with 0, also if nothing is quarantined.
    """
    with transaction() as connection:
        cases = list_quarantined(connection)
    if json:
        as_json([asdict(case) for case in cases])
        return
    rows = table("subject", "failed", "at", "cause", "not before (UTC)")
    for case in cases:
        rows.add_row(case.subject, f"{case.failures} times", case.stage, case.cause, moment(case.next_try_at))
    out.print(rows)


def release(
    subject: Annotated[str, typer.Argument(metavar="SUBJECT|all", help="As `panel-sync quarantined` shows it.")],
) -> None:
    """End a quarantine before its time. The next run tries the subject at once.

    Examples: panel-sync release vps:17; panel-sync release all

    Ends with 0; with 2 if nothing of that name is quarantined.
    """
    out.print(act(quarantine.release, subject).message)
