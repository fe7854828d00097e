"""What a process of the test's own uses, from /proc."""

from __future__ import annotations

import os
from pathlib import Path

PAGE = os.sysconf("SC_PAGESIZE")


def resident_bytes(pid: int) -> int:
    """The process's resident memory in bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE
