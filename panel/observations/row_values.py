"""Turns database rows into domain values. A row that cannot be parsed is noted, not raised."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import fields
from datetime import datetime
from typing import Any, TypeVar

from domain.failures import Broken, cause_of, guest_ties, order_ties, record_ties
from domain.guests import FingerprintState, Guest, PowerState
from domain.orders import Order, OrderState
from domain.record_columns import COLUMNS
from domain.records import Record

T = TypeVar("T")


def parsed_orders(rows: Iterable[Any], broken: dict[str, Broken] | None) -> tuple[Order, ...]:
    """Rows of ``orders_seen`` with ``user_id``, ``mapped_at`` and ``staged_at``.

    Here and below: a row that cannot be parsed goes into ``broken`` by its subject, or is raised if that is None.
    """
    return _parsed(rows, order_of, lambda row: f"order:{row.order_id}", order_ties, broken)


def parsed_records(rows: Iterable[Any], broken: dict[str, Broken] | None) -> tuple[Record, ...]:
    """Rows of ``vps`` with ``in_flight``."""
    return _parsed(rows, record_of, lambda row: f"vps:{row.id}", record_ties, broken)


def parsed_guests(
    rows: Iterable[Any],
    previous: dict[str, datetime | None],
    began: dict[str, datetime],
    broken: dict[str, Broken] | None,
) -> tuple[Guest, ...]:
    """Rows of ``guests``. By cluster, ``began``: when this trusted read began; ``previous``: the one before it."""
    return _parsed(
        rows, lambda r: guest_of(r, previous, began), lambda row: f"guest:{row.cluster}/{row.vmid}", guest_ties, broken
    )


def _parsed(
    rows: Iterable[Any],
    parse: Callable[[Any], T],
    subject: Callable[[Any], str],
    ties: Callable[[Any], frozenset[str]],
    broken: dict[str, Broken] | None,
) -> tuple[T, ...]:
    found: list[T] = []
    for row in rows:
        try:
            found.append(parse(row))
        except (ValueError, TypeError) as error:  # an enum value that this version does not know
            if broken is None:
                raise
            broken[subject(row)] = Broken(cause_of(error), ties(row))
    return tuple(found)


_RECORD_FIELDS = {f.name for f in fields(Record)}
_ENUMS: dict[str, Any] = {
    **{column.name: column.words for column in COLUMNS if isinstance(column.words, type)},
    "state": OrderState,
    "power": PowerState,
    "fingerprint_state": FingerprintState,
}


def _values(row: Any, names: set[str]) -> dict[str, Any]:  # noqa: ANN401 - a Row
    found = {k: v for k, v in row._mapping.items() if k in names}
    return {k: _ENUMS[k](v) if k in _ENUMS and v is not None else v for k, v in found.items()}


def record_of(row: Any) -> Record:  # noqa: ANN401 - a Row
    """One row of ``vps``."""
    return Record(**_values(row, _RECORD_FIELDS))


_ORDER_FIELDS = {f.name for f in fields(Order)}


def order_of(row: Any) -> Order:  # noqa: ANN401 - a Row
    """One row of ``orders_seen``."""
    values = _values(row, _ORDER_FIELDS)
    # An order that says nothing new is not written. This run's stage alone has the time at which it was repeated.
    moments = [moment for moment in (values["effective_at"], row.staged_at) if moment is not None]
    return Order(**values | {"effective_at": max(moments, default=None)})


_GUEST_FIELDS = {f.name for f in fields(Guest)}


def guest_of(row: Any, previous: dict[str, datetime | None], began: dict[str, datetime]) -> Guest:  # noqa: ANN401 - a Row
    """One row of ``guests``."""
    values = _values(row, _GUEST_FIELDS) | {"tags": tuple(row.tags), "read_at": began.get(row.cluster)}
    before = previous.get(row.cluster)
    if before is not None and row.power_since <= before:
        values["previous_read_at"] = before
    return Guest(**values)
