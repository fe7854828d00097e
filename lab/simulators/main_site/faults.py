"""The faults that the main site can have, in its feeds and in its calls to the panel."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Generic, Literal, TypeVar

Action = Literal["create", "update", "delete"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A fault that strikes `times` times; None: every time until it is cleared."""

    times: int | None = None


class FeedFaultKind(StrEnum):
    """How a feed's answer is spoilt."""

    CUT_BODY = "cut-body"  # the connection closes in mid body
    STATUS = "status"  # the answer's status is `value`, with the site's error envelope
    UNAUTHORIZED = "unauthorized"  # 401, as after a change of the key that the panel does not know of
    HTML = "html"  # 200 with a proxy's error page
    SLOW = "slow"  # the answer comes `value` seconds later
    EMPTY = "empty"  # an empty list that claims to be complete
    SHRINK = "shrink"  # only the share `value` of the rows is listed (0.1: 90 % are gone), and the total agrees
    TOTAL_CHANGES = "total-changes"  # the page's total differs from the other pages', with the same as_of
    REPEAT_ID = "repeat-id"  # the page starts with a row that was already listed
    EMPTY_PAGE = "empty-page"  # a page without rows, but with a cursor
    AS_OF_LAG = "as-of-lag"  # as_of is `value` seconds old (negative: in the future)
    NO_AS_OF = "no-as-of"  # as_of is null


# Faults of a whole list. They are applied to its first page, and its cursor keeps them with the rows.
LIST_FAULTS = frozenset({FeedFaultKind.EMPTY, FeedFaultKind.SHRINK, FeedFaultKind.AS_OF_LAG})


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedFault(Fault):
    """Spoils the next `times` answers (None: every one until it is cleared) on `page` (from 1; None: any page).

    `path` limits it to paths that start with it, counted from `/api/panel`: "/orders", "/users", "/vps".
    """

    kind: FeedFaultKind
    page: int | None = None
    value: float | None = None
    path: str = ""


class CallFaultKind(StrEnum):
    """How a call to the panel goes wrong."""

    DROP = "drop"  # never sent
    LOSE_ANSWER = "lose-answer"  # sent and carried out, but the answer is lost
    DELAY = "delay"  # sent `delay_s` seconds later
    DUPLICATE = "duplicate"  # sent twice
    REORDER = "reorder"  # sent after the call that follows it


@dataclass(frozen=True, slots=True, kw_only=True)
class CallFault(Fault):
    """Spoils the next `times` calls (None: every one until it is cleared) of `action` (None: of any action)."""

    kind: CallFaultKind
    action: Action | None = None
    times: int | None = 1
    delay_s: float = 0.0


F = TypeVar("F", bound=Fault)


class FaultBook(Generic[F]):
    """The faults in force. Each is removed after its `times`."""

    def __init__(self) -> None:
        self._faults: list[F] = []

    def add(self, fault: F) -> None:
        """Put a fault in force, after the faults that are in force already."""
        self._faults.append(fault)

    def clear(self) -> None:
        """Remove all faults."""
        self._faults.clear()

    def in_force(self) -> list[F]:
        """The faults in force, with the `times` that are left of each."""
        return list(self._faults)

    def take(self, applies: Callable[[F], bool]) -> list[F]:
        """The faults that apply now. Each is used once."""
        taken: list[F] = []
        left: list[F] = []
        for fault in self._faults:
            if not applies(fault):
                left.append(fault)
                continue
            taken.append(fault)
            if fault.times is None:
                left.append(fault)
            elif fault.times > 1:
                left.append(replace(fault, times=fault.times - 1))
        self._faults = left
        return taken
