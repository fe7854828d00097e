"""Waiting for what another process does: asked again and again, with a deadline and a name for the failure.

A test tells what must be true, never how fast this machine is. So the deadline only ends a test whose event never
comes, and is far longer than a busy machine takes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

POLL_S, LONGEST_POLL_S = 0.02, 0.2
PATIENCE_S = 120.0

PATIENT_API_S = 60.0
"""``ANSWER_WITHIN_S`` of an API whose deadlines are not what a test is about: a busy machine is no outage."""


def wait_until(look: Callable[[], T], what: str, timeout_s: float = PATIENCE_S) -> T:
    """Return the first true answer of ``look``; AssertionError naming ``what`` after ``timeout_s`` seconds."""
    deadline, poll_s = time.monotonic() + timeout_s, POLL_S
    while not (seen := look()):
        if time.monotonic() >= deadline:
            raise AssertionError(f"not within {timeout_s:g} s: {what} (last seen: {seen!r})")
        time.sleep(poll_s)
        poll_s = min(1.2 * poll_s, LONGEST_POLL_S)  # one who waits long takes the machine from what is waited for
    return seen
