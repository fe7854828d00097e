"""The page of a what-if that is being made: how long it looks again by itself."""

from __future__ import annotations

import httpx
import pytest
from sqlalchemy import Engine, text

from tests.integration.api.operator_pages.conftest import sent


@pytest.mark.parametrize(
    ("asked", "again"),
    [
        pytest.param("0 seconds", "30", id="just asked"),
        pytest.param("2 minutes", "30", id="a run takes minutes"),
        pytest.param("3 minutes", None, id="nobody waits before it for so long"),
    ],
)
async def test_it_looks_again_rarely_and_not_for_long(
    olga: httpx.AsyncClient, owner: Engine, asked: str, again: str | None
) -> None:
    answer = await sent(olga, "/ops/what-if", **{"class": "orphan", "mode": "hold"})
    with owner.begin() as connection:
        connection.execute(text("UPDATE what_ifs SET asked_at = asked_at - CAST(:ago AS interval)"), {"ago": asked})
    page = await olga.get(answer.headers["Location"])
    assert page.headers.get("Refresh") == again
    assert "Look again" in page.text, "by hand as ever"
