"""What a sync call makes of a record: a pure function of the stored row and the call's payload.

The worker applies calls with it and the API answers with it, so that the first answer shows what will be written. Rows
are mappings of ``vps`` columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from domain.guests import PowerState
from domain.orders import OrderState
from domain.record_columns import COLUMNS, Facts, Kind, ValueSource, given_by, in_group, names
from domain.records import status_of

Row = dict[str, Any]

PUSHED: dict[str, tuple[OrderState, PowerState | None]] = {
    "creating": (OrderState.PENDING, PowerState.UNKNOWN),
    "running": (OrderState.ACTIVE, PowerState.RUNNING),
    "stopped": (OrderState.ACTIVE, PowerState.STOPPED),
    "error": (OrderState.ACTIVE, PowerState.ERROR),
    "suspended": (OrderState.SUSPENDED, None),  # says nothing about the guest, so the power state stays
}
"""The order state and the power state that each pushed status means."""

COPIED = tuple(
    column
    for column in given_by(ValueSource.CALL)
    if column.group is not Facts.LINK and column.name not in ("user_id", "status", "order_id")
)
"""The columns that a call writes unchanged. Owner, status, order and guest have their own rules below."""

EMPTY = names(column for column in COLUMNS if not column.required)
TIMES = names(column for column in COLUMNS if column.required and column.kind is Kind.TIME)


def with_status(row: Row) -> Row:
    """The row with its status computed from its facts."""
    status = status_of(OrderState(row["order_state"]), PowerState(row["power_state"]), row["missing_since"] is not None)
    return {**row, "status": status}


def new_row(vps_id: int, payload: Mapping[str, Any], at: datetime) -> Row:
    """The record that a create call makes. ``at``: when the call was accepted."""
    order_state, power = PUSHED[payload["status"]]
    row = _empty_row(vps_id, at, "sync") | {
        "user_id": payload["user_id"],
        "order_state": order_state.value,
        "power_state": (power or PowerState.UNKNOWN).value,
        "last_sync_at": at,
    }
    row |= {column.name: payload.get(column.json_name) for column in COPIED}
    if payload.get("order_id") is not None:
        row |= {"order_id": payload["order_id"], "order_linked_once": True}
    return with_status(_linked(row, payload, at))


def repaired_row(vps_id: int, values: Mapping[str, Any], at: datetime, source: str) -> Row:
    """The record that a run makes for an order when its create never came. ``values``: its columns, with those of its
    link if it has one."""
    row = _empty_row(vps_id, at, source) | dict(values) | {"order_linked_once": True}
    if row["vmid"] is not None:
        row |= {"link_source": source, "guest_linked_once": True}
    return with_status(row)


def _empty_row(vps_id: int, at: datetime, source: str) -> Row:
    return {
        **dict.fromkeys(EMPTY),
        **dict.fromkeys(TIMES, at),
        "id": vps_id,
        "order_source": source,
        "power_source": source,
        "link_state": "unlinked",
        "order_linked_once": False,
        "guest_linked_once": False,
        "last_sync_at": None,
        "applied_seq": 1,
        "version": 1,
    }


def updated_row(row: Row, payload: Mapping[str, Any], at: datetime) -> Row:
    """The record after an update call that was accepted ``at``. The call never changes the owner, because a mistake
    there gives a machine to a stranger. Only a run does, after it has seen the new owner twice and confirmed it."""
    new = dict(row)
    if (status := payload.get("status")) is not None:
        order_state, power = PUSHED[status]
        new |= {
            "order_state": order_state.value,
            "order_source": "sync",
            "order_as_of": at,
            "order_changed_at": at,
        }
        if power is not None:
            new |= {
                "power_state": power.value,
                "power_source": "sync",
                "power_detail": None,
                "power_as_of": at,
                "power_changed_at": at,
                "missing_since": None,
            }
    for column in COPIED:
        value = payload.get(column.json_name)
        if value is not None and value != row[column.name]:
            new[column.name] = value
            if column.group is not None:
                new[f"{column.group}_changed_at"] = at
    if payload.get("order_id") is not None and row["order_id"] is None:
        new |= {"order_id": payload["order_id"], "order_linked_once": True}
    new = _linked(new, payload, at)
    new |= {"last_sync_at": at, "last_update_at": at, "updated_at": at}
    return with_status(new)


def _linked(row: Row, payload: Mapping[str, Any], at: datetime) -> Row:
    """Take a pushed (cluster, vmid). A call that names the guest the record already has changes nothing."""
    vmid, cluster = payload.get("vmid"), payload.get("cluster")
    if vmid is None or cluster is None:
        return row
    if (row["cluster"], row["vmid"]) == (cluster, vmid):
        # Until Proxmox was read, only calls know the guest's node and type, and a later call corrects an earlier one.
        pushed = {key: payload[key] for key in ("node", "guest_type") if payload.get(key) is not None}
        if row["link_state"] != "pushed" or all(row[key] == value for key, value in pushed.items()):
            return row
        return row | pushed | {"link_changed_at": at}
    return row | {
        "cluster": cluster,
        "node": payload.get("node"),
        "vmid": vmid,
        "guest_type": payload.get("guest_type"),
        "fingerprint": None,
        "link_state": "pushed",
        "link_source": "sync",
        "link_changed_at": at,
        "guest_linked_once": True,
        "claimed_cluster": None,
        "claimed_vmid": None,
    }


LINK_COLUMNS = names(in_group(Facts.LINK))


def in_conflict(row: Row, before: Row | None) -> Row:
    """The record after a call that named a guest of another live record. ``before``: the record before the call.

    A read identity counts more than a call: a record whose own machine was identified keeps it. Any other record has no
    guest until a run decides, and the call's claim is kept for that run.
    """
    if before is not None and before["link_state"] == "verified":
        return row | {column: before[column] for column in LINK_COLUMNS}
    claimed = {"claimed_cluster": row["cluster"], "claimed_vmid": row["vmid"]}
    return unlinked(row, row["link_changed_at"], "conflict") | claimed | {"guest_linked_once": False}


def release_address(row: Row, at: datetime) -> Row:
    """The record after another guest took its address. A record whose machine was never identified, or is not verified
    any more, goes into dispute: nothing shows that its machine was replaced, so an operator must approve its end."""
    known = row["fingerprint"] is not None and row["link_state"] == "verified"
    return unlinked(row, at, "unlinked" if known else "conflict")


def unlinked(row: Row, at: datetime, link_state: str = "unlinked") -> Row:
    """The record without a guest. Its power state stays as last seen."""
    return row | {
        "cluster": None,
        "node": None,
        "vmid": None,
        "guest_type": None,
        "fingerprint": None,
        "link_state": link_state,
        "link_changed_at": at,
        "claimed_cluster": None,
        "claimed_vmid": None,
    }


def project(row: Row | None, pending: Iterable[Mapping[str, Any]]) -> Row | None:
    """The row after the queued operations (oldest first); None before the first create."""
    for operation in pending:
        action, at, payload = operation["action"], operation["accepted_at"], operation["payload"]
        if action == "create":
            row = row or new_row(operation["vps_id"], payload, at)
        elif row is not None and action == "update":
            row = updated_row(row, payload, at)
        elif row is not None and action == "delete":
            row = {**row, "deleted_at": at, "deleted_reason": "sync", "updated_at": at}
    return row
