"""Cursor paging over a snapshot: all pages of a cursor have the rows and the `as_of` of the first page. Pure.

A page costs only its own length: 100,000 rows in pages of 1,000 are 100 slices.
"""

import base64
import json
import secrets
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

KEPT_SNAPSHOTS = 32
T = TypeVar("T")


class CursorUnknownError(ValueError):
    """The cursor is not one of this server, or its snapshot is too old."""


@dataclass(frozen=True, slots=True)
class Snapshot(Generic[T]):
    """Rows as they were at one moment."""

    token: str
    as_of: datetime
    rows: Sequence[T]


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page. `number` counts from 1. `previous`: the row before the page. `here`: a cursor to the same rows.
    `total`: the snapshot's length."""

    number: int
    rows: Sequence[T]
    previous: T | None
    next_cursor: str | None
    here: str
    total: int
    as_of: datetime


class Shelf(Generic[T]):
    """The latest snapshots of one list, found again by cursor."""

    def __init__(self) -> None:
        self._snapshots: OrderedDict[str, Snapshot[T]] = OrderedDict()

    def open(self, rows: Sequence[T], as_of: datetime) -> Snapshot[T]:
        """Keep a new snapshot. Only the newest 32 are kept."""
        snapshot = Snapshot(secrets.token_hex(8), as_of, rows)
        self._snapshots[snapshot.token] = snapshot
        while len(self._snapshots) > KEPT_SNAPSHOTS:
            self._snapshots.popitem(last=False)
        return snapshot

    def page(self, snapshot: Snapshot[T], limit: int, offset: int = 0, number: int = 1) -> Page[T]:
        """The page of at most `limit` rows that starts at `offset`."""
        end = offset + limit
        more = end < len(snapshot.rows)
        return Page(
            number=number,
            rows=snapshot.rows[offset:end],
            previous=snapshot.rows[offset - 1] if offset else None,
            next_cursor=_encode(snapshot.token, end, number + 1) if more else None,
            here=_encode(snapshot.token, offset, number + 1),
            total=len(snapshot.rows),
            as_of=snapshot.as_of,
        )

    def follow(self, cursor: str, limit: int) -> Page[T]:
        """The page that the cursor points at.

        Raises:
            CursorUnknownError: it is malformed or its snapshot is gone.
        """
        token, offset, number = _decode(cursor)
        snapshot = self._snapshots.get(token)
        if snapshot is None:
            raise CursorUnknownError("Unknown or expired cursor")
        return self.page(snapshot, limit, offset, number)


def _encode(token: str, offset: int, number: int) -> str:
    return base64.urlsafe_b64encode(json.dumps([token, offset, number]).encode()).decode().rstrip("=")


def _decode(cursor: str) -> tuple[str, int, int]:
    try:
        token, offset, number = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        place = str(token), int(offset), int(number)
    except (ValueError, TypeError) as error:
        raise CursorUnknownError("Unknown or expired cursor") from error
    if place[1] < 0:
        raise CursorUnknownError("Unknown or expired cursor")
    return place
