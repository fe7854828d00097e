"""A sign of life for health checks that costs next to nothing: a file touched every few seconds.

``PANEL_HEARTBEAT_FILE`` names it; without it nothing is written. ``python -m worker.heartbeat`` ends with 1 when the
file is old. A process that waits for a broker or database that is away still beats: restarting it would not help.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

INTERVAL_S = 5.0
OLD_S = 30.0
VARIABLE = "PANEL_HEARTBEAT_FILE"


def start_heartbeat() -> None:
    """Touch the file from a daemon thread for as long as this process lives."""
    name = os.environ.get(VARIABLE)
    if name:
        threading.Thread(target=_beat, args=(Path(name),), name="heartbeat", daemon=True).start()


def _beat(path: Path) -> None:
    while True:
        path.touch()
        time.sleep(INTERVAL_S)


def main() -> int:
    """0 while the heartbeat is fresh."""
    name = os.environ.get(VARIABLE)
    if not name:
        sys.stderr.write(f"{VARIABLE} is not set\n")
        return 2
    try:
        age = time.time() - Path(name).stat().st_mtime
    except FileNotFoundError:
        sys.stderr.write(f"no heartbeat yet in {name}\n")
        return 1
    if age > OLD_S:
        sys.stderr.write(f"the last heartbeat is {age:.0f} s old\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
