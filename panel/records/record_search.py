"""Finds records for operators, by whatever an operator has in hand: an id, a name, an order, a customer, an address, a
guest."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, text

from domain.record_columns import MAX_ID, MAX_INT

OPERATIONS = 500
"""How far back the journal is looked through for records that changed lately."""
SHORTEST_PART = 3
"""A name is also found by a part of it that is at least this long. Shorter ones must be the whole name."""


def find_records(connection: Connection, wanted: str, *, limit: int) -> Sequence[Row[Any]]:
    """The records that fit, live ones first, then the newest. ``wanted``: the id of a record or a customer, an order
    id, a name or a part of it, a customer's name, an IP address, a guest as ``cluster/vmid`` or its VMID alone."""
    number = int(wanted) if re.fullmatch(r"[0-9]{1,18}", wanted) else None
    cluster, _, vmid = wanted.rpartition("/")
    guest = re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}/[0-9]{1,9}", wanted) is not None
    values = {
        "wanted": wanted,
        "part": wanted if len(wanted) >= SHORTEST_PART else None,
        "number": number if number is not None and number <= MAX_ID else None,
        "vmid": int(vmid) if guest else number if number is not None and number <= MAX_INT else None,
        "cluster": cluster if guest else None,
        "limit": limit,
    }
    return connection.execute(FIND, values).all()


def changed_lately(connection: Connection, *, limit: int) -> Sequence[Row[Any]]:
    """The records that changed last, the latest first, among those of the last OPERATIONS operations."""
    return connection.execute(LATELY, {"operations": OPERATIONS, "limit": limit}).all()


_FOUND = (
    "SELECT r.id, r.name, r.status, r.order_id, r.user_id, u.username, r.ip_address, r.ip6_address, r.cluster, r.vmid,"
    " r.deleted_at, r.merged_into FROM vps r JOIN users u ON u.id = r.user_id"
)
FIND = text(
    f"{_FOUND} WHERE r.id = CAST(:number AS bigint) OR r.user_id = CAST(:number AS bigint) OR r.order_id = :wanted"
    " OR lower(r.name) = lower(:wanted) OR lower(u.username) = lower(:wanted)"
    " OR strpos(lower(r.name), lower(CAST(:part AS text))) > 0"
    " OR r.ip_address = lower(:wanted) OR r.ip6_address = lower(:wanted)"
    " OR (r.vmid = CAST(:vmid AS int) AND r.cluster = coalesce(CAST(:cluster AS text), r.cluster))"
    " ORDER BY r.deleted_at IS NOT NULL, r.id DESC LIMIT :limit"
)
_LATEST = (
    "WITH tail AS (SELECT id, vps_id, state, before FROM operations ORDER BY id DESC LIMIT :operations),"
    " latest AS (SELECT vps_id, max(id) AS operation FROM tail"
    " WHERE state = 'applied'"
    " AND CASE jsonb_typeof(before) WHEN 'object' THEN before - 'version' <> CAST('{}' AS jsonb) ELSE true END"
    " GROUP BY vps_id ORDER BY 2 DESC LIMIT :limit)"
)
LATELY = text(f"{_LATEST} {_FOUND} JOIN latest ON latest.vps_id = r.id ORDER BY latest.operation DESC")
