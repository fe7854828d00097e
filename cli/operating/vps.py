"""``panel-sync vps``: what is done with one VPS."""

from __future__ import annotations

import typer

from cli.operating.decisions import restore
from cli.operating.journal import history

app = typer.Typer(help="One VPS.", no_args_is_help=True)
app.command()(history)
app.command()(restore)
