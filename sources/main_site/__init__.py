"""The main site's interfaces that the panel can read, each as a ``domain.source_protocols.OrderFeed``."""

from __future__ import annotations

from sources.config import FeedKind, MainSiteConfig
from sources.main_site.orders import OrdersFeed
from sources.main_site.panel_api import PanelApiFeed

__all__ = ["OrdersFeed", "PanelApiFeed", "make_feed"]


def make_feed(config: MainSiteConfig) -> OrdersFeed | PanelApiFeed:
    """The feed that ``config.feed`` names. ``close`` it after use."""
    match config.feed:
        case FeedKind.ORDERS:
            return OrdersFeed(config)
        case FeedKind.PANEL_API:
            return PanelApiFeed(config)
