"""Waiting for what another process does: asked again and again, with a deadline and a name for the failure."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

POLL_S = 0.02


def wait_until(look: Callable[[], T], what: str, timeout_s: float = 10.0) -> T:
    """Return the first true answer of ``look``; AssertionError naming ``what`` after ``timeout_s`` seconds."""
    deadline = time.monotonic() + timeout_s
    while not (seen := look()):
        if time.monotonic() >= deadline:
            raise AssertionError(f"not within {timeout_s:g} s: {what} (last seen: {seen!r})")
        time.sleep(POLL_S)
    return seen
