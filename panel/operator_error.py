"""The error for an operator's request that cannot be met, on the command line or by HTTP."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

Fault = Literal["unknown", "conflict", "invalid", "forbidden"]


class OperatorError(Exception):
    """One sentence that says why a request cannot be met. ``fault``: the named object does not exist ("unknown"), the
    request does not fit the present state ("conflict"), its values are wrong ("invalid"), or it needs another role
    ("forbidden")."""

    def __init__(self, fault: Fault, message: str) -> None:
        super().__init__(message)
        self.fault: Fault = fault


def must_be_one_of(name: str, value: str | None, allowed: Iterable[str]) -> None:
    """Refuse the value of a filter that nothing can have: an empty list would say that there is nothing. None: the
    filter is left open. Raises OperatorError."""
    known = list(allowed)
    if value is not None and value not in known:
        raise OperatorError("invalid", f"{name}: must be one of {', '.join(known)}")
