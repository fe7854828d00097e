"""The panel as its callers see it: clients by token, the main site by key. It makes real HTTP calls only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

import httpx

Record = Mapping[str, Any]
"""One VPS as GET /api/vps shows it."""


class PanelClient:
    """Calls to one panel. Methods raise httpx.HTTPError when it does not answer.

    `token_for` makes a client's token from the panel's user id.
    """

    def __init__(self, url: str, sync_key: str, token_for: Callable[[int], str]) -> None:
        self.url = url
        self._token_for = token_for
        self._sync_key = sync_key
        self._client = httpx.Client(base_url=url, timeout=60, trust_env=False)

    def list_vps(self, user_id: int) -> list[Record]:
        """GET /api/vps with that user's token."""
        answer = self._client.get("/api/vps", headers=self._bearer(user_id)).raise_for_status()
        records: list[Record] = answer.json()["data"]
        return records

    def get_vps(self, user_id: int, vps_id: int) -> httpx.Response:
        """GET /api/vps/{id} with that user's token, whatever the answer."""
        return self._client.get(f"/api/vps/{vps_id}", headers=self._bearer(user_id))

    def named(self, user_id: int, name: str) -> list[Record]:
        """The user's records of that name."""
        return [record for record in self.list_vps(user_id) if record["name"] == name]

    def sync(self, action: str, vps: Mapping[str, Any], *, idempotency_key: str | None = None) -> httpx.Response:
        """POST /api/vps/sync as the main site does, whatever the answer."""
        headers = {"X-API-Key": self._sync_key}
        if idempotency_key is not None:
            headers["Idempotency-Key"] = idempotency_key
        return self._client.post("/api/vps/sync", json={"action": action, "vps": dict(vps)}, headers=headers)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _bearer(self, user_id: int) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._token_for(user_id)}"}
