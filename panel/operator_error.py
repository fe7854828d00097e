"""The error for an operator's request that cannot be met, on the command line or by HTTP."""

from __future__ import annotations

from typing import Literal

Fault = Literal["unknown", "conflict", "invalid", "forbidden"]


class OperatorError(Exception):
    """One sentence that says why a request cannot be met. ``fault``: the named object does not exist ("unknown"), the
    request does not fit the present state ("conflict"), its values are wrong ("invalid"), or it needs another role
    ("forbidden")."""

    def __init__(self, fault: Fault, message: str) -> None:
        super().__init__(message)
        self.fault: Fault = fault
