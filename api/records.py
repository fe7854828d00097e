"""How a client sees a record: the public record, and how fresh what it shows is. Pure."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from api.problems import ProblemError
from panel.public import public_record

STALE_AFTER = timedelta(minutes=10)
"""Twice what Proxmox itself may cache a status for; a healthy panel confirms every two minutes."""

MAX_ID = 2**63 - 1

LINKED = frozenset({"verified", "unverified", "pushed"})


def client_view(row: Mapping[str, Any]) -> dict[str, Any]:
    """The record with ``power_detail``, ``as_of`` (when its power state was last confirmed), ``source`` (by
    whom) and ``stale``.

    A record that is linked to a guest is confirmed by every complete read of its node, unless the guest did
    not bear it out. One that is not linked speaks of what the main site said last; nobody is late to confirm
    that, so it is never stale.
    """
    as_of, source = row["power_as_of"], row["power_source"]
    linked = row["link_state"] in LINKED
    node_read = row["scope_began_at"]
    if linked and row["unconfirmed_since"] is None and node_read is not None and node_read > as_of:
        as_of, source = node_read, "proxmox"
    return public_record(row) | {
        "power_detail": row["power_detail"],
        "as_of": as_of.isoformat(),
        "source": source,
        "stale": linked and row["read_at"] - as_of > STALE_AFTER,
    }


def cursor_after(vps_id: int) -> str:
    """An opaque cursor: the next page begins below this id."""
    return base64.urlsafe_b64encode(f"v1:{vps_id}".encode()).decode().rstrip("=")


def id_before(cursor: str) -> int:
    """The id that a cursor stands for. Raises ProblemError 422."""
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
    except ValueError:
        text = b""
    found = re.fullmatch(rb"v1:([1-9][0-9]{0,18})", text)
    if not found or int(found[1]) > MAX_ID:
        message = "cursor must be a next_cursor of an earlier answer"
        raise ProblemError(422, "invalid_parameter", message, field="cursor")
    return int(found[1])
