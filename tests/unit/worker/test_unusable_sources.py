"""A source whose configuration cannot be used is told as a problem of that source; the others are read."""

from __future__ import annotations

from pathlib import Path

import pytest

from domain.source_protocols import Unclear
from panel.settings import Settings
from worker.wiring import UnusableFeed, feed_of

SITE = {"main_site_url": "https://site.test", "user_id_space": "mapped"}


@pytest.mark.parametrize("key", ["with a space", "\u043a\u043b\u044e\u0447", "line\nbreak"])
def test_a_key_that_no_header_can_carry(key: str) -> None:
    feed = feed_of(Settings(_env_file=None, main_site_api_key=key, **SITE))  # type: ignore[arg-type]
    assert isinstance(feed, UnusableFeed)
    for sweep in (feed.orders(), feed.users()):
        assert (list(sweep.pages), sweep.complete) == ([], False)
        assert "MAIN_SITE_API_KEY" in (sweep.problem or "")
        assert key not in (sweep.problem or "")
    assert isinstance(feed.order("1", "2"), Unclear)
    assert not feed.health().ok


def test_an_authority_that_is_none(tmp_path: Path) -> None:
    nonsense = tmp_path / "ca.pem"
    nonsense.write_text("no certificate")
    feed = feed_of(Settings(_env_file=None, main_site_api_key="k", main_site_ca_file=nonsense, **SITE))  # type: ignore[arg-type]
    assert isinstance(feed, UnusableFeed)
    assert "cannot be read as PEM" in (feed.orders().problem or "")
