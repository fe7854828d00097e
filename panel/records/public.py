"""What the main site and clients see of a record, in the contract's words and units. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from operator import itemgetter
from typing import Any

from domain.record_columns import Kind, Reader, seen_by

SHOWN = seen_by(Reader.MAIN_SITE)

BY_OPERATOR = "An operator decided it"
"""In place of an operator's own words and name, which are nobody's business outside."""


class Place:
    """Where callers reach this process. ``root``: the path that a reverse proxy puts before every address."""

    root = ""


def operation_url(operation_id: int) -> str:
    """The path at which a caller looks the operation up."""
    return f"{Place.root}/api/vps/sync/operations/{operation_id}"


_NAMES = tuple(column.json_name for column in SHOWN)
_VALUES = itemgetter(*(column.name for column in SHOWN))
_TIMES = tuple(column.json_name for column in SHOWN if column.kind is Kind.TIME)


def public_record(row: Mapping[str, Any]) -> dict[str, Any]:
    """The ``vps`` object of an answer: ``ram`` in MB, ``disk`` in GB, ``cpu`` in cores; times RFC 3339."""
    shown: dict[str, Any] = dict(zip(_NAMES, _VALUES(row)))  # noqa: B905 - a list of records needs it fast
    for name in _TIMES:
        shown[name] = shown[name].isoformat()
    return shown


def success_body(message: str, record: dict[str, Any], operation_id: int, state: str) -> dict[str, Any]:
    """The envelope of every successful sync call."""
    return {
        "status": "success",
        "message": message,
        "vps": record,
        "operation": {
            "id": operation_id,
            "state": state,
            "url": operation_url(operation_id),
        },
    }
