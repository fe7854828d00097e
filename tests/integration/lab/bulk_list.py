"""What Proxmox' bulk list of guests says."""

from __future__ import annotations

from typing import Any

import httpx

BULK = "/cluster/resources?type=vm"


def bulk(pve: httpx.Client) -> list[dict[str, Any]]:
    response = pve.get(BULK)
    assert response.status_code == 200
    return list(response.json()["data"])


def statuses(pve: httpx.Client) -> dict[int, str]:
    return {entry["vmid"]: entry["status"] for entry in bulk(pve)}
