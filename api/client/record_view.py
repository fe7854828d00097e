"""What a client sees of a record: the public record and how fresh it is. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from api.http.problems import ProblemError
from domain.record_columns import MAX_ID
from domain.records import STALE_AFTER
from panel.records.public import public_record

LINKED = frozenset({"verified", "unverified", "pushed"})


def client_view(row: Mapping[str, Any]) -> dict[str, Any]:
    """The record with ``power_detail``, ``as_of`` (when its power state was last confirmed), ``source`` (by what) and
    ``stale``.

    Every complete read of its node confirms a linked record, unless the guest showed something else. An unlinked record
    shows what the main site said last. Nothing ever confirms that again, so it is never stale.
    """
    as_of, source = row["power_as_of"], row["power_source"]
    linked = row["link_state"] in LINKED
    node_read = row["scope_began_at"]
    if linked and row["power_unconfirmed_since"] is None and node_read is not None and node_read > as_of:
        as_of, source = node_read, "proxmox"
    return public_record(row) | {
        "power_detail": row["power_detail"],
        "as_of": as_of.isoformat(),
        "source": source,
        "stale": linked and row["read_at"] - as_of > STALE_AFTER,
    }


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
