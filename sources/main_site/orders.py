"""The ``orders`` feed: the contract that this panel publishes for main sites."""

from __future__ import annotations

from operator import attrgetter

from domain.orders import Order
from domain.source_protocols import Health, Lookup, Sweep, User
from sources.clock import Clock
from sources.config import MainSiteConfig
from sources.json_client import segment
from sources.main_site.client import MainSiteClient, health_of, look_up
from sources.main_site.paging import Listing, envelope_of, read_listing
from sources.main_site.parse import order_row, user_row
from sources.outgoing.client import Transport
from sources.outgoing.faults import Malformed


class OrdersFeed:
    """``/orders`` and ``/users`` with cursors, totals and a pinned ``as_of``."""

    def __init__(
        self,
        config: MainSiteConfig,
        clock: Clock | None = None,
        transport: Transport | None = None,
    ) -> None:
        self._clock = clock or Clock()
        self._limit = str(config.page_limit)
        self._max_pages = config.max_pages
        self._client = MainSiteClient(config, self._clock, transport)

    @property
    def name(self) -> str:
        return "orders"

    @property
    def names_are_authoritative(self) -> bool:
        return True

    def users(self) -> Sweep[User]:
        """All users."""
        return read_listing(
            Listing(
                noun="users",
                get=lambda params: self._client.get("/users", params),
                parse=user_row,
                identify=attrgetter("main_site_user_id"),
                params={"limit": self._limit},
                pinned=True,
                whole=True,
                max_pages=self._max_pages,
            ),
            self._clock,
        )

    def orders(
        self, updated_since: str | None = None, suspects: tuple[str, ...] = (), rolled_to: str | None = None
    ) -> Sweep[Order]:
        """All orders in id order, or those changed since. One sweep shows all orders, so suspects need no
        precedence."""
        del suspects, rolled_to
        params = {"limit": self._limit}
        if updated_since is not None:
            params["updated_since"] = updated_since
        return read_listing(
            Listing(
                noun="orders",
                get=lambda params: self._client.get("/orders", params),
                parse=order_row,
                identify=attrgetter("order_id"),
                params=params,
                pinned=True,
                whole=updated_since is None,
                max_pages=self._max_pages,
            ),
            self._clock,
        )

    def order(self, order_id: str, control_id: str | None) -> Lookup[Order]:
        """One order, now."""
        return look_up(self._get, order_id, control_id)

    def health(self) -> Health:
        """One page with one row: reachability, key, shape and clock."""

        def probe() -> float | None:
            answer = self._client.get("/orders", {"limit": "1"})
            envelope_of(answer.document)
            return answer.skew_s

        return health_of("orders", probe)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _get(self, order_id: str) -> Order | None:
        answer = self._client.find(f"/orders/{segment(order_id)}")
        if answer is None:
            return None
        if not isinstance(answer.document, dict) or not isinstance(answer.document.get("data"), dict):
            raise Malformed("answered 200 without an order")
        return order_row(answer.document["data"])
