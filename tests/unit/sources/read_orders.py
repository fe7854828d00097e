"""Reads of the ``orders`` feed from canned answers."""

from __future__ import annotations

import httpx

from domain.orders import Order
from domain.source_protocols import Page, Sweep
from sources.main_site import OrdersFeed
from tests.unit.sources.canned import StillClock, main_site


def feed_of(transport: httpx.BaseTransport, still: StillClock | None = None, **changes: object) -> OrdersFeed:
    return OrdersFeed(main_site(**changes), (still or StillClock()).clock(), transport)


def read(transport: httpx.BaseTransport, **changes: object) -> tuple[list[Page[Order]], Sweep[Order]]:
    sweep = feed_of(transport, None, **changes).orders()
    return list(sweep.pages), sweep


def ids(pages: list[Page[Order]]) -> list[str]:
    return [item.order_id for shown in pages for item in shown.items]
