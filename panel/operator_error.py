"""A request of an operator that cannot be met, whether it came by command line or by HTTP."""

from __future__ import annotations

from typing import Literal

Fault = Literal["unknown", "conflict", "invalid"]


class OperatorError(Exception):
    """A request that cannot be met, in one sentence. ``fault``: there is no such thing, it does not fit the present
    state, or it is wrong in itself."""

    def __init__(self, fault: Fault, message: str) -> None:
        super().__init__(message)
        self.fault: Fault = fault
