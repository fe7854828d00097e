"""Where commands print: results to stdout, remarks to stderr."""

from __future__ import annotations

from datetime import datetime

from panel.terminal import SafeConsole

out = SafeConsole()
err = SafeConsole(stderr=True)


def moment(at: datetime | None) -> str:
    """A time to the second, UTC as everywhere."""
    return "" if at is None else f"{at:%Y-%m-%d %H:%M:%S}"
