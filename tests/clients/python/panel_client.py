"""A main site's way to the panel, in Python: the same requests as its TypeScript sibling's."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import httpx

MB_PER_GB = 1024


class PanelError(Exception):
    """The panel refused, or it is not known where it is; the text is for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SoldVps:
    """What was sold: ``cpu`` in cores, ``ram`` and ``disk`` in GB; ``user_id`` is the panel's."""

    user_id: int
    name: str
    cpu: int
    ram: float
    disk: int
    os: str | None
    hypervisor: str = "proxmox"


def announce_vps(sold: SoldVps) -> dict[str, Any]:
    """The new record; its ``id`` is final."""
    response = _post(
        "create",
        {
            "user_id": sold.user_id,
            "name": sold.name,
            "status": "creating",
            "cpu": sold.cpu,
            "ram": sold.ram * MB_PER_GB,
            "disk": sold.disk,
            "os": sold.os,
            "hypervisor": sold.hypervisor,
        },
    )
    answer = _json(response)
    if not response.is_success:
        raise PanelError(f"Sync failed: {answer['message']}")
    record: dict[str, Any] = answer["vps"]
    return record


def report_status(vps_id: int, status: str) -> dict[str, Any]:
    """The record with its new status."""
    record: dict[str, Any] = _accepted(_post("update", {"id": vps_id, "status": status}))["vps"]
    return record


def withdraw_vps(vps_id: int) -> dict[str, Any]:
    """The panel's whole answer."""
    return _accepted(_post("delete", {"id": vps_id}))


def _post(action: str, vps: dict[str, Any]) -> httpx.Response:
    url, key = os.environ.get("OSPAB_PANEL_URL"), os.environ.get("VPS_SYNC_API_KEY")
    if not url or not key:
        raise PanelError("OSPAB_PANEL_URL and VPS_SYNC_API_KEY must be set")
    return httpx.post(
        f"{url}/api/vps/sync", json={"action": action, "vps": vps}, headers={"X-API-Key": key}, trust_env=False
    )


def _accepted(response: httpx.Response) -> dict[str, Any]:
    answer = _json(response)
    if not response.is_success:
        raise PanelError(answer["message"])
    return answer


def _json(response: httpx.Response) -> dict[str, Any]:
    answer: dict[str, Any] = response.json()
    return answer
