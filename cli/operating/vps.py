"""``panel-sync vps``: commands about one VPS."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.operating.journal import history
from cli.operating.operator_transaction import act
from cli.operating.options import Reason
from cli.output.console import out
from panel.operators.actions import journal

app = typer.Typer(help="One VPS.", no_args_is_help=True)


def restore(
    vps: Annotated[int, typer.Argument(metavar="ID", min=1, help="The VPS's id in the panel.")], reason: Reason
) -> None:
    """Bring back a record that was deleted in the last 7 days. For the next 7 days no run deletes it again.

    Example: panel-sync vps restore 17 --reason "the customer paid after all"

    Ends with 0; with 2, and why, if it cannot be brought back.
    """
    out.print(act(journal.restore, vps, reason).message)


app.command()(history)
app.command()(restore)
