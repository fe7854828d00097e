"""Millions of refusals, of which nobody needs a line each."""

from __future__ import annotations

import pytest
import structlog

from api import http_protocol


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "log", structlog.wrap_logger(structlog.testing.ReturnLogger(), processors=[]))
