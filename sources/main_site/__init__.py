"""The main site's two interfaces behind ``reconcile.ports.OrderFeed``."""

from __future__ import annotations

from reconcile.ports import OrderFeed
from sources.config import FeedKind, MainSiteConfig
from sources.main_site.orders import OrdersFeed
from sources.main_site.panel_api import PanelApiFeed

__all__ = ["OrdersFeed", "PanelApiFeed", "make_feed"]


def make_feed(config: MainSiteConfig) -> OrderFeed:
    """The feed that ``config.feed`` names."""
    return OrdersFeed(config) if config.feed is FeedKind.ORDERS else PanelApiFeed(config)
