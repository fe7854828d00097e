"""Both feeds of the main site over one ledger: lists in pages, single rows, and the switches that change them."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from lab.simulators.main_site.answers import Answer, ListFeed, concerns, refusal, spoil
from lab.simulators.main_site.faults import FaultBook, FeedFault, FeedFaultKind
from lab.simulators.main_site.model import CANCELLED, Ledger, Order, SiteUser
from lab.simulators.main_site.rows import (
    ROOT_PASSWORD_CANARY,
    Row,
    flat_server_row,
    nested_server_row,
    order_row,
    timestamp,
    user_row,
)
from lab.simulators.main_site.verbs import Shape


@dataclass(frozen=True, slots=True, kw_only=True)
class FrozenFeed:
    """The orders and users that both feeds show while they are frozen."""

    as_of: datetime
    orders: dict[int, Order]
    users: list[SiteUser]


class Feeds:
    """Answers the feeds `orders` and `panel-api`. It takes no lock; its owner does. `now` is the site's own clock."""

    def __init__(self, ledger: Ledger, now: Callable[[], datetime], shape: Shape) -> None:
        self._ledger = ledger
        self._now = now
        self._shape: Shape = shape
        self._invented_names = True
        self._hidden: set[int] = set()
        self._frozen: FrozenFeed | None = None
        self._canary = f"{ROOT_PASSWORD_CANARY}{secrets.token_hex(6)}"
        self.faults: FaultBook[FeedFault] = FaultBook()
        self._orders_list: ListFeed[Order] = ListFeed("/orders", self.faults)
        self._users_list: ListFeed[SiteUser] = ListFeed("/users", self.faults)

    def clear(self) -> None:
        """Remove all faults, show hidden rows again, and end a freeze."""
        self.faults.clear()
        self._hidden.clear()
        self._frozen = None

    def hide(self, order_id: int, *, hidden: bool) -> None:
        """Leave a row out, or show it again."""
        (self._hidden.add if hidden else self._hidden.discard)(order_id)

    def freeze(self, *, frozen: bool) -> None:
        """Keep showing this moment, or show the present again."""
        self._frozen = (
            FrozenFeed(
                as_of=self._now(),
                orders={order.id: order for order in self._ledger.orders()},
                users=self._ledger.users(),
            )
            if frozen
            else None
        )

    def set_shape(self, shape: Shape, *, invented_names: bool) -> None:
        """Set how `panel-api` lists servers."""
        self._shape, self._invented_names = shape, invented_names

    def orders_page(self, *, cursor: str | None, limit: int, updated_since: datetime | None) -> Answer:
        """A page of `/orders`, in order of id; `limit` rows at most."""
        return self._orders_list.answer(
            cursor=cursor,
            limit=limit,
            rows=lambda: self._visible_orders(updated_since),
            as_of=self._as_of(),
            render=lambda order: order_row(order, self._root_password(order)),
        )

    def users_page(self, *, cursor: str | None, limit: int) -> Answer:
        """A page of `/users`, in order of id; `limit` rows at most."""
        return self._users_list.answer(
            cursor=cursor,
            limit=limit,
            rows=self._visible_users,
            as_of=self._as_of(),
            render=user_row,
        )

    def single_order(self, order_id: int) -> Answer:
        """`/orders/{id}`: the row, cancelled or not."""
        order = self._visible_order(order_id)
        row = order_row(order, self._root_password(order)) if order else None
        return self._single(f"/orders/{order_id}", row, "Order not found")

    def servers_of(self, user_id: int) -> Answer:
        """`/users/{userId}/vps`: the user's servers in the shape that is set, without cancelled ones."""
        path = f"/users/{user_id}/vps"
        try:
            user = self._ledger.user(user_id)
        except KeyError:
            return self._single(path, None, "User not found")
        orders = [order for order in self._orders_of(user_id) if order.status != CANCELLED]
        if self._shape == "flat":
            return self._single(path, [self._server(order) for order in orders], "")
        servers = [self._server(order) for order in orders]
        return self._single(path, {"user": user_row(user), "servers": servers, "count": len(servers)}, "")

    def single_server(self, server_id: int, *, status_only: bool = False) -> Answer:
        """`/vps/{serverId}` and `/vps/{serverId}/status`: 404 if cancelled, as that feed has no such row then."""
        order = self._visible_order(server_id)
        row: Row | None = None
        if order is not None and order.status != CANCELLED:
            status_row = {"id": order.id, "status": order.status, "proxmoxId": order.vmid}
            row = status_row if status_only else self._server(order)
        return self._single(f"/vps/{server_id}", row, "VPS not found")

    def health(self) -> Answer:
        """`/health`."""
        return self._single("/health", {"healthy": True}, "")

    def _as_of(self) -> datetime:
        return self._frozen.as_of if self._frozen else self._now()

    def _visible_orders(self, updated_since: datetime | None) -> list[Order]:
        orders = list(self._frozen.orders.values()) if self._frozen else self._ledger.orders()
        if self._hidden:
            orders = [order for order in orders if order.id not in self._hidden]
        if updated_since is not None:
            orders = [order for order in orders if order.updated_at >= updated_since]
        return orders

    def _visible_users(self) -> list[SiteUser]:
        return self._frozen.users if self._frozen else self._ledger.users()

    def _orders_of(self, user_id: int) -> list[Order]:
        if self._frozen:
            orders = [order for order in self._frozen.orders.values() if order.user_id == user_id]
        else:
            orders = self._ledger.orders_of(user_id)
        return [order for order in orders if order.id not in self._hidden]

    def _visible_order(self, order_id: int) -> Order | None:
        if order_id in self._hidden:
            return None
        if self._frozen:
            return self._frozen.orders.get(order_id)
        try:
            return self._ledger.order(order_id)
        except KeyError:
            return None

    def _single(self, path: str, data: Row | list[Row] | None, missing: str) -> Answer:
        as_of = self._as_of()
        faults = self.faults.take(lambda fault: concerns(fault, path, 1))
        for fault in faults:
            if fault.kind is FeedFaultKind.AS_OF_LAG:
                as_of -= timedelta(seconds=fault.value or 0.0)
            if fault.kind is FeedFaultKind.EMPTY and isinstance(data, list):
                data = []
        if data is None:
            return spoil(refusal(404, missing), faults)
        body = {"status": "success", "data": data, "as_of": timestamp(as_of)}
        return spoil(Answer(status=200, body=body), faults)

    def _server(self, order: Order) -> Row:
        name = f"server-{order.id}" if self._invented_names else order.name
        render = flat_server_row if self._shape == "flat" else nested_server_row
        return render(order, name, self._root_password(order))

    def _root_password(self, order: Order) -> str:
        return f"{self._canary}-{order.id}"
