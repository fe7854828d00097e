"""The error that ends the demo."""

from __future__ import annotations


class DemoError(Exception):
    """The story did not come true: what was expected, what was seen, and the logs that may say why."""

    def __init__(self, expected: str, seen: str, logs: tuple[str, ...] = ("worker-reconcile", "api")) -> None:
        super().__init__(f"expected: {expected}; seen: {seen}")
        self.expected = expected
        self.seen = seen
        self.logs = logs
