"""``panel-sync vps``: what is done with one VPS."""

from __future__ import annotations

import typer

from cli.journal import history
from cli.operators import restore

app = typer.Typer(help="One VPS.", no_args_is_help=True)
app.command()(history)
app.command()(restore)
