"""Cursor paging that fails closed.

A sweep is complete only if every page arrived and all pages agree. A page that does not agree stops the read, becomes
one sentence, and leaves no scope complete. What arrived before is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

from domain.record_columns import MAX_ID
from domain.source_protocols import Page, Sweep
from sources.clock import Clock, rfc3339, staleness_s
from sources.json_client import Answer
from sources.main_site.parse import RowRefused
from sources.outgoing.faults import Malformed, SourceFault

T = TypeVar("T")
_CURSOR_MAX = 2_000  # characters


@dataclass(frozen=True, slots=True)
class Envelope:
    """One page as it came, its rows not parsed yet."""

    rows: list[object] = field(repr=False)
    next_cursor: str | None
    total: int | None
    as_of: str | None


@dataclass(frozen=True, slots=True)
class Listing(Generic[T]):
    """What to read and how. ``pinned``: the contract promises ``total`` and ``as_of`` on every page.

    ``get`` takes query parameters and returns a page's answer or raises a ``SourceFault``. ``whole``: the complete
    listing proves absence (a delta does not). ``ascending``: the contract promises id order; without it a set of ids
    finds repetitions.
    """

    noun: str
    get: Callable[[dict[str, str]], Answer]
    parse: Callable[[object], T]
    identify: Callable[[T], str]
    params: dict[str, str]
    pinned: bool
    whole: bool
    max_pages: int
    ascending: bool = True


def read_listing(listing: Listing[T], clock: Clock) -> Sweep[T]:
    """Stream the listing page by page. Nothing is asked before the caller takes the first page."""
    sweep: Sweep[T] = Sweep(pages=iter(()))
    sweep.pages = _Reading(listing, clock, sweep).pages()
    return sweep


class _Reading(Generic[T]):
    def __init__(self, listing: Listing[T], clock: Clock, sweep: Sweep[T]) -> None:
        self._listing = listing
        self._clock = clock
        self._sweep = sweep
        self._page = 1
        self._arrived = 0
        self._ids: IdOrder | IdSet = IdOrder() if listing.ascending else IdSet()
        self._first: Envelope | None = None
        self._cursors: set[str] = set()
        self._first_refusal = ""
        self._undated = False

    def pages(self) -> Iterator[Page[T]]:
        listing = self._listing
        started = self._clock.monotonic()
        params = dict(listing.params)
        while True:
            try:
                answer = listing.get(params)
                envelope = envelope_of(answer.document)
            except SourceFault as fault:
                self._stop(str(fault))
                return
            # What a disagreeing page shows is still true. It only proves nothing absent.
            items, id_problem = self._items(envelope)
            problem = self._envelope_problem(envelope) or id_problem
            self._sweep.count += len(items)
            yield Page(items, began_s=answer.began - started, staleness_s=self._age(answer, envelope))
            if problem is not None:
                self._stop(problem)
                return
            if envelope.next_cursor is None:
                self._finish()
                return
            self._cursors.add(envelope.next_cursor)
            self._page += 1
            params = {**listing.params, "cursor": envelope.next_cursor}

    def _envelope_problem(self, envelope: Envelope) -> str | None:
        """What in this page contradicts earlier pages or the contract, as the end of a sentence."""
        first = self._first = self._first or replace(envelope, rows=[])
        if self._listing.pinned and envelope.total is None:
            return "carries no total"
        if envelope.as_of != first.as_of:
            return "has another as_of than page 1"
        if envelope.total != first.total:
            return f"says total {envelope.total} where page 1 said {first.total}"
        return None if envelope.next_cursor is None else self._cursor_problem(envelope, envelope.next_cursor)

    def _cursor_problem(self, envelope: Envelope, cursor: str) -> str | None:
        """Why the page's cursor must not be followed."""
        if not envelope.rows:
            return "is empty but has a next_cursor"
        if cursor in self._cursors:
            return "repeats a next_cursor"
        if self._page >= self._listing.max_pages:
            return f"is not the last, and no more than {self._listing.max_pages} pages are read"
        return None

    def _items(self, envelope: Envelope) -> tuple[tuple[T, ...], str | None]:
        """The readable rows up to the first one out of order, and what is wrong with that one."""
        items: list[T] = []
        for number, row in enumerate(envelope.rows, 1):
            self._arrived += 1
            try:
                item = self._listing.parse(row)
            except RowRefused as refused:
                self._sweep.refused += 1
                self._first_refusal = self._first_refusal or f"page {self._page}, row {number}: {refused}"
                continue
            identity = self._listing.identify(item)
            id_problem = self._ids.problem_with(identity)
            if id_problem is not None:
                return tuple(items), id_problem
            items.append(item)
        return tuple(items), None

    def _age(self, answer: Answer, envelope: Envelope) -> float | None:
        if not self._listing.pinned:
            return 0.0
        as_of = None if envelope.as_of is None else rfc3339(envelope.as_of)
        age = staleness_s(answer.date, as_of)
        self._undated = self._undated or age is None
        return age

    def _finish(self) -> None:
        total = None if self._first is None else self._first.total
        if total is not None and total != self._arrived:
            self._sweep.problem = (
                f"{self._listing.noun}: {self._arrived} rows arrived on {self._page} page(s) where total says {total}"
            )
        elif self._sweep.refused:
            self._sweep.problem = (
                f"{self._listing.noun}: {self._sweep.refused} row(s) could not be read ({self._first_refusal})"
            )
        elif self._undated:
            self._sweep.problem = (
                f"{self._listing.noun}: as_of or Date is missing, unreadable or as_of lies in the future: "
                "nothing of it counts as fresh"
            )
        elif self._listing.whole:
            self._sweep.complete_scopes.add("all")

    def _stop(self, sentence: str) -> None:
        self._sweep.problem = f"page {self._page} of {self._listing.noun}: {sentence}"


class IdOrder:
    """Checks that ids ascend strictly, so that none repeats. Constant memory.

    Some feeds sort ids as numbers, some as text, and some write numbers as text. So both orders are checked, and the
    ids must keep at least one of them from the first row to the last.
    """

    def __init__(self) -> None:
        self._previous: str | None = None
        self._as_text = True
        self._as_number = True

    def problem_with(self, identity: str) -> str | None:
        """Take the next id. Returns a sentence if it repeats or breaks the order."""
        previous, self._previous = self._previous, identity
        if previous is None:
            return None
        self._as_text = self._as_text and previous < identity
        self._as_number = self._as_number and _less_as_number(previous, identity)
        if self._as_text or self._as_number:
            return None
        return f"id {identity} came after id {previous} (repeated or out of order)"


class IdSet:
    """Checks that no id repeats. Memory grows with the listing."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def problem_with(self, identity: str) -> str | None:
        """Take the next id. Returns a sentence if it came before."""
        if identity in self._seen:
            return f"id {identity} came twice"
        self._seen.add(identity)
        return None


def _less_as_number(one: str, other: str) -> bool:
    digits = one.isascii() and one.isdigit() and other.isascii() and other.isdigit()
    return digits and int(one) < int(other)


def envelope_of(document: object) -> Envelope:
    """Read a page's envelope; raises ``Malformed``."""
    if not isinstance(document, dict):
        raise Malformed("is not an object")
    if document.get("status", "success") != "success":
        raise Malformed("does not say success")
    rows = document.get("data")
    if not isinstance(rows, list):
        raise Malformed("carries no list of data")
    cursor = document.get("next_cursor")
    if cursor is not None and not (isinstance(cursor, str) and 0 < len(cursor) <= _CURSOR_MAX):
        raise Malformed("carries a next_cursor that is not a text")
    total = document.get("total")
    if total is not None and (isinstance(total, bool) or not isinstance(total, int) or not 0 <= total <= MAX_ID):
        raise Malformed("carries a total that is not a whole number")
    as_of = document.get("as_of")
    return Envelope(rows, cursor, total, as_of if isinstance(as_of, str) else None)
