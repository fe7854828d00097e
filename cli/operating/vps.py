"""``panel-sync vps``: commands about one VPS. ``panel-sync power``: the power actions of all."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.operating.journal import history
from cli.operating.operator_transaction import act, transaction
from cli.operating.options import Reason
from cli.operating.reports.one_vps import deleted, show
from cli.output.console import as_json, out
from cli.output.listing import Json
from cli.output.power_view import power_lines
from panel.operators.actions import journal
from panel.power.views import list_actions
from panel.records.told import moment
from panel.terminal import table

app = typer.Typer(help="One VPS.", no_args_is_help=True)


def restore(
    vps: Annotated[int, typer.Argument(metavar="ID", min=1, help="The VPS's id in the panel.")], reason: Reason
) -> None:
    """Bring back a record that was deleted in the last 7 days. For the next 7 days no run deletes it again.

    Example: panel-sync vps restore 17 --reason "the customer paid after all"

    Ends with 0; with 2, and why, if it cannot be brought back.
    """
    out.print(act(journal.restore, vps, reason).message)


def power(
    everything: Annotated[bool, typer.Option("--all", help="Also those that were done or refused.")] = False,
    vps: Annotated[int | None, typer.Option("--vps", min=1, help="Only those of this VPS.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many, newest first.")] = 50,
    json: Json = False,
) -> None:
    """List power actions of customers: those that are open, that failed, or of which nobody knows what came.

    Examples: panel-sync power; panel-sync power --all --vps 17

    Ends with 0, whether there are any or not.
    """
    with transaction() as connection:
        actions = list_actions(connection, everything=everything, vps_id=vps, limit=limit)
    if json:
        as_json([dict(row._mapping) for row in actions])
        return
    rows = table("action", "vps", "user", "what", "guest", "state", "asked (UTC)", "what became of it")
    for row in actions:
        what = f"{row.action} (force)" if row.force else row.action
        guest, told = f"{row.cluster}/{row.vmid}", "; ".join(power_lines(row))
        rows.add_row(str(row.id), str(row.vps_id), str(row.user_id), what, guest, row.state, moment(row.asked_at), told)
    out.print(rows)


app.command()(show)
app.command()(history)
app.command()(deleted)
app.command()(restore)
