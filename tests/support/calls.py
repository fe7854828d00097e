"""Sync calls as the HTTP edge hands them over, with only what a test cares about spelt out."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from panel.journal.calls import Action, Call

PLAN: dict[str, Any] = {
    "user_id": 5,
    "name": "test-vps-01",
    "status": "creating",
    "cpu": 4,
    "ram": 8192,
    "disk": 100,
    "os": "Ubuntu 22.04 LTS",
    "hypervisor": "proxmox",
}


def create_call(*, key: str | None = None, **payload: Any) -> Call:
    """A create with every required field; ``key`` is its Idempotency-Key."""
    return _call("create", PLAN | payload, key=key)


def update_call(
    vps_id: int | None,
    status: str = "running",
    *,
    key: str | None = None,
    **payload: Any,
) -> Call:
    """An update by id, or by ``order_id`` where ``vps_id`` is None."""
    return _call("update", {"status": status} | payload, vps_id=vps_id, key=key)


def delete_call(vps_id: int | None, *, key: str | None = None, order_id: str | None = None) -> Call:
    """A delete by id, or by ``order_id`` where ``vps_id`` is None."""
    return _call("delete", {} if order_id is None else {"order_id": order_id}, vps_id=vps_id, key=key)


def _call(action: Action, payload: dict[str, Any], *, vps_id: int | None = None, key: str | None = None) -> Call:
    body = json.dumps([action, vps_id, payload], sort_keys=True).encode()
    return Call(
        action=action,
        payload=payload,
        api_key_label="current",
        vps_id=vps_id,
        order_id=payload.get("order_id"),
        request_id="test",
        idempotency_key=key,
        body_hash=hashlib.sha256(body).hexdigest(),
    )
