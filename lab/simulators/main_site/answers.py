"""Answers as values, and the faults that spoil them. Pure, except that faults are used up."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from math import ceil
from typing import Any, Generic, TypeVar

from lab.simulators.main_site.faults import LIST_FAULTS, FaultBook, FeedFault, FeedFaultKind
from lab.simulators.main_site.paging import CursorUnknownError, Page, Shelf
from lab.simulators.main_site.rows import Row, timestamp

SHRUNK_TO = 0.1
PROXY_PAGE = "<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>"
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An HTTP answer. `body`: an object for JSON, or text for HTML. `delay_s`: how late it comes. `cut`: whether it
    breaks off after half of its body."""

    status: int
    body: dict[str, Any] | str
    delay_s: float = 0.0
    cut: bool = False


def refusal(status: int, message: str) -> Answer:
    """The site's plain JSON error envelope."""
    return Answer(status=status, body={"status": "error", "message": message})


def spoil(answer: Answer, faults: Sequence[FeedFault]) -> Answer:
    """The answer, spoilt by those faults that can hit any answer."""
    for fault in faults:
        match fault.kind:
            case FeedFaultKind.CUT_BODY:
                answer = replace(answer, cut=True)
            case FeedFaultKind.SLOW:
                answer = replace(answer, delay_s=fault.value or 0.0)
            case FeedFaultKind.HTML:
                answer = replace(answer, status=200, body=PROXY_PAGE)
            case FeedFaultKind.STATUS:
                status = int(fault.value or 500)
                answer = replace(refusal(status, "Internal server error"), delay_s=answer.delay_s, cut=answer.cut)
            case FeedFaultKind.UNAUTHORIZED:
                answer = refusal(401, "Invalid or missing API key")
            case FeedFaultKind.NO_AS_OF if isinstance(answer.body, dict):
                answer = replace(answer, body={**answer.body, "as_of": None})
    return answer


class ListFeed(Generic[T]):
    """One cursor-paged list (`/orders`, `/users`)."""

    def __init__(self, path: str, faults: FaultBook[FeedFault]) -> None:
        self._path = path
        self._faults = faults
        self._shelf: Shelf[T] = Shelf()

    def answer(
        self,
        *,
        cursor: str | None,
        limit: int,
        rows: Callable[[], Sequence[T]],
        as_of: datetime,
        render: Callable[[T], Row],
    ) -> Answer:
        """The page at `cursor`. Without a cursor, the first page of a new snapshot of `rows()`, dated `as_of`."""
        if cursor is None:
            page = self._first_page(rows(), as_of, limit)
        else:
            try:
                page = self._shelf.follow(cursor, limit)
            except CursorUnknownError as error:
                return refusal(400, str(error))
        faults = self._faults.take(
            lambda fault: fault.kind not in LIST_FAULTS and concerns(fault, self._path, page.number)
        )
        return spoil(Answer(status=200, body=_envelope(page, render, {f.kind for f in faults})), faults)

    def _first_page(self, rows: Sequence[T], as_of: datetime, limit: int) -> Page[T]:
        for fault in self._faults.take(lambda f: f.kind in LIST_FAULTS and concerns(f, self._path, 1)):
            match fault.kind:
                case FeedFaultKind.EMPTY:
                    rows = ()
                case FeedFaultKind.SHRINK:
                    rows = rows[: ceil(len(rows) * (SHRUNK_TO if fault.value is None else fault.value))]
                case FeedFaultKind.AS_OF_LAG:
                    as_of -= timedelta(seconds=fault.value or 0.0)
        return self._shelf.page(self._shelf.open(rows, as_of), limit)


def concerns(fault: FeedFault, path: str, page: int) -> bool:
    """Whether the fault hits this page of this path (below `/api/panel`)."""
    return path.startswith(fault.path) and fault.page in (None, page)


def _envelope(page: Page[T], render: Callable[[T], Row], kinds: set[FeedFaultKind]) -> dict[str, Any]:
    rows = [render(row) for row in page.rows]
    next_cursor, total = page.next_cursor, page.total
    if FeedFaultKind.REPEAT_ID in kinds and rows:
        rows.insert(0, rows[-1] if page.previous is None else render(page.previous))
    if FeedFaultKind.EMPTY_PAGE in kinds:
        rows, next_cursor = [], page.here
    if FeedFaultKind.TOTAL_CHANGES in kinds:
        total += 1
    return {
        "status": "success",
        "data": rows,
        "next_cursor": next_cursor,
        "total": total,
        "as_of": timestamp(page.as_of),
    }
