"""Where commands print: results to stdout, remarks to stderr."""

from __future__ import annotations

import json
from datetime import datetime

import typer

from panel.terminal import SafeConsole

out = SafeConsole()
err = SafeConsole(stderr=True)


def as_json(value: object) -> None:
    """A result for programs, on stdout, in ASCII; times in ISO 8601."""
    typer.echo(json.dumps(value, default=_plain, indent=1))


def _plain(value: object) -> object:
    return value.isoformat() if isinstance(value, datetime) else str(value)
