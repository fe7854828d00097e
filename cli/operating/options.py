"""Options that several commands of operators take."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated

import typer

UNITS_S = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


def duration(text: str) -> timedelta:
    """Read "90", "90s", "15m", "24h" or "7d"; raises typer.BadParameter."""
    match = re.fullmatch(r"(\d{1,7})([smhd]?)", text)
    if match is None or int(match[1]) == 0:
        raise typer.BadParameter("write a duration such as 90s, 15m, 24h or 7d")
    return timedelta(seconds=int(match[1]) * UNITS_S[match[2]])


Reason = Annotated[str, typer.Option("--reason", help="The reason; it is stored and shown.")]
Length = Annotated[
    timedelta,
    typer.Option("--for", parser=duration, metavar="DURATION", help="For how long: 15m, 2h, 3d; at most 30d."),
]
