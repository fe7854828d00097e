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


def span(seconds: float) -> str:
    """A duration for people, in its one largest unit."""
    for length, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * length or (seconds >= length and unit == "min"):
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def moment(at: datetime | None) -> str:
    """A time to the second, UTC as everywhere."""
    return "" if at is None else f"{at:%Y-%m-%d %H:%M:%S}"
