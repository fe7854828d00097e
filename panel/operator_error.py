"""A request of an operator that cannot be met, by the command line or by HTTP."""

from __future__ import annotations

from typing import Literal

Fault = Literal["unknown", "conflict", "invalid", "forbidden"]


class OperatorError(Exception):
    """One sentence why a request cannot be met. ``fault``: the thing does not exist ("unknown"), the request does not
    fit the present state ("conflict"), it is wrong in itself ("invalid"), or it needs another role ("forbidden")."""

    def __init__(self, fault: Fault, message: str) -> None:
        super().__init__(message)
        self.fault: Fault = fault
