"""What a journaled call does to a record, as long as nothing stands against it. Pure.

Both ways of applying calls use this: call by call (:mod:`panel.journal.writer`) and in sets.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Protocol

from panel.records.projection import Row, new_row, updated_row

Address = tuple[str, int]
"""A guest's cluster and vmid."""


class QueuedCall(Protocol):
    """A row of ``operations``."""

    @property
    def id(self) -> int: ...
    @property
    def vps_id(self) -> int: ...
    @property
    def seq(self) -> int: ...
    @property
    def action(self) -> str: ...
    @property
    def payload(self) -> Mapping[str, Any]: ...
    @property
    def accepted_at(self) -> datetime: ...


def created(call: QueuedCall) -> Row:
    """The record that a create makes."""
    return new_row(call.vps_id, call.payload, call.accepted_at) | {"applied_seq": call.seq}


def updated(row: Row, call: QueuedCall, payload: Mapping[str, Any]) -> Row:
    """The record after an update. ``payload``: as much of the call's as may be written."""
    return updated_row(row, payload, call.accepted_at) | {"applied_seq": call.seq}


def deleted(row: Row, call: QueuedCall) -> Row:
    """The record after a delete: a tombstone."""
    at = call.accepted_at
    gone = {"deleted_at": at, "deleted_reason": "sync", "updated_at": at, "last_sync_at": at}
    return row | gone | {"applied_seq": call.seq}


def superseded(row: Row | None) -> tuple[str, str]:
    """The state, and the reason, of a call that finds no record that it may change. None: there is no record."""
    if row is None:
        return "rejected", "its create was never applied"
    if row["deleted_at"] is not None:
        return "superseded", "the VPS is deleted; a late call does not change a tombstone"
    return "superseded", "the record exists already"


def newly_named_guests(payload: Mapping[str, Any], before: Row | None) -> list[Address]:
    """If a call names another guest than its record has, that guest and the record's own one. Both are in doubt then:
    a run reads the configuration at both addresses again before any record takes something from them."""
    cluster, vmid = payload.get("cluster"), payload.get("vmid")
    if cluster is None or vmid is None:
        return []
    if before is None or before["vmid"] is None:
        return [(cluster, vmid)]
    own = (before["cluster"], before["vmid"])
    return [] if own == (cluster, vmid) else [(cluster, vmid), own]


def claims_guest(row: Row) -> bool:
    """Whether the record has a guest only because a call named it."""
    return row["vmid"] is not None and row["link_state"] == "pushed"
