"""The operator of a chaos run, who looks at held sets and approves those that are right."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

import httpx
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from lab.chaos.rig import Rig
from lab.chaos.world import Sale, World


def approve_right_deletes(rig: Rig, worlds: Iterable[World]) -> int:
    """Approve held sets of deletes if all their orders have ended and all their guests are destroyed. How many."""
    approved = 0
    by_name = {sale.name: sale for world in worlds for sale in world.sales}
    key = rig.settings.ops_api_key.get_secret_value()
    # The API may be starting, or the set may have changed. Then the next call of this function tries again.
    with (
        suppress(httpx.HTTPError, DBAPIError),
        httpx.Client(base_url=rig.url, headers={"X-API-Key": key}, timeout=10, trust_env=False) as client,
    ):
        with rig.database.connect() as connection:
            names = {f"vps:{row.id}": row.name for row in connection.execute(text("SELECT id, name FROM vps"))}
        for held in client.get("/api/ops/held").raise_for_status().json()["data"]:
            subjects = [by_name.get(names.get(item["subject"], "")) for item in held["items"]]
            if held["scope"].split(":")[0] == "deletes" and all(map(_is_over, subjects)):
                approved += client.post(f"/api/ops/held/{held['hash']}/approve").is_success
    return approved


def _is_over(sale: Sale | None) -> bool:
    return sale is not None and not sale.going and not sale.there
