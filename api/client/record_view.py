"""What a client sees of a record: the public record and how fresh it is. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from api.http.problems import ProblemError
from domain.record_columns import MAX_ID
from panel.records.public import public_record

LINKED = frozenset({"verified", "unverified", "pushed"})


def client_view(row: Mapping[str, Any]) -> dict[str, Any]:
    """The record as the API answers it, of a row of ``panel.records.client_records``: with ``power_detail``, ``as_of``
    (when its power state was last confirmed), ``source`` (by what) and ``stale``."""
    view = public_record(row)
    view["power_detail"] = row["power_detail"]
    view["as_of"] = row["as_of"].isoformat()
    view["source"] = row["source"]
    view["stale"] = row["stale"]
    return view


CURSOR_PATTERN = r"^v1-[1-9][0-9]{0,18}$"


def cursor_after(vps_id: int) -> str:
    """A cursor: the next page begins below this id."""
    return f"v1-{vps_id}"


def id_before(cursor: str) -> int:
    """The id in a cursor. Raises ProblemError 422."""
    if not re.fullmatch(CURSOR_PATTERN, cursor, re.ASCII):
        message = "cursor must be a next_cursor of an earlier answer"
        raise ProblemError(422, "invalid_parameter", message, field="cursor")
    return min(int(cursor.removeprefix("v1-")), MAX_ID)
