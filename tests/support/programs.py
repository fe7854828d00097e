"""Which programs run below a process."""

from __future__ import annotations

from pathlib import Path

from runtime.processes.children import descendants


def programs_below(pid: int) -> list[str]:
    """The program of each process below ``pid``; those that end meanwhile are left out."""
    found = []
    for each in descendants(pid):
        try:
            found.append(Path(f"/proc/{each}/exe").readlink().name)
        except FileNotFoundError:
            continue
    return found
