"""Why the demo failed."""

from __future__ import annotations


class DemoError(Exception):
    """Something was not as told: what was expected, what was seen, and which logs may say why."""

    def __init__(self, expected: str, seen: str, logs: tuple[str, ...] = ("worker-reconcile", "api")) -> None:
        super().__init__(f"expected: {expected}; seen: {seen}")
        self.expected = expected
        self.seen = seen
        self.logs = logs
