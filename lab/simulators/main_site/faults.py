"""What can be made to go wrong at the main site: in its feeds and in its calls to the panel."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Generic, Literal, TypeVar

Action = Literal["create", "update", "delete"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Good for `times` occasions; None: for every one, until cleared."""

    times: int | None = None


class FeedFaultKind(StrEnum):
    """How a feed's answer is spoilt."""

    CUT_BODY = "cut-body"  # the connection closes in mid body
    STATUS = "status"  # the answer's status is `value`, with the site's error envelope
    UNAUTHORIZED = "unauthorized"  # 401, as after a key change without the panel's knowledge
    HTML = "html"  # 200 with a page of a proxy
    SLOW = "slow"  # the answer comes `value` seconds later
    EMPTY = "empty"  # a complete list of nothing
    SHRINK = "shrink"  # only `value` of the rows are there (0.1: 90 % gone), and the total agrees
    TOTAL_CHANGES = "total-changes"  # the total differs from the other pages' under one as_of
    REPEAT_ID = "repeat-id"  # the page starts with a row that was already given
    EMPTY_PAGE = "empty-page"  # no rows, and yet a cursor
    AS_OF_LAG = "as-of-lag"  # as_of is `value` seconds old (negative: in the future)
    NO_AS_OF = "no-as-of"  # as_of is null


# Faults of the whole list: decided with its first page and then pinned with its rows.
LIST_FAULTS = frozenset({FeedFaultKind.EMPTY, FeedFaultKind.SHRINK, FeedFaultKind.AS_OF_LAG})


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedFault(Fault):
    """Spoil the next `times` answers (None: every one, until cleared) on `page` (from 1; None: any page).

    `path` limits it to paths that start with it, counted from `/api/panel`: "/orders", "/users", "/vps".
    """

    kind: FeedFaultKind
    page: int | None = None
    value: float | None = None
    path: str = ""


class CallFaultKind(StrEnum):
    """What happens to a call to the panel."""

    DROP = "drop"  # never sent
    LOSE_ANSWER = "lose-answer"  # sent and carried out, but the answer is lost
    DELAY = "delay"  # sent `delay_s` seconds later
    DUPLICATE = "duplicate"  # sent twice
    REORDER = "reorder"  # sent after the call that follows it


@dataclass(frozen=True, slots=True, kw_only=True)
class CallFault(Fault):
    """Spoil the next `times` calls (None: every one, until cleared) of that action (None: any)."""

    kind: CallFaultKind
    action: Action | None = None
    times: int | None = 1
    delay_s: float = 0.0


F = TypeVar("F", bound=Fault)


class FaultBook(Generic[F]):
    """Faults in force, each used up after its `times`."""

    def __init__(self) -> None:
        self._faults: list[F] = []

    def add(self, fault: F) -> None:
        """Put a fault in force, after those already there."""
        self._faults.append(fault)

    def clear(self) -> None:
        """Remove all faults."""
        self._faults.clear()

    def in_force(self) -> list[F]:
        """The faults left, with the times they still apply."""
        return list(self._faults)

    def take(self, applies: Callable[[F], bool]) -> list[F]:
        """The faults that apply to this occasion; each is used once."""
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
