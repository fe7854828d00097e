"""The main site's users and orders. Pure: no clock, no network."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Any

CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteUser:
    """A customer. `id` is the main site's id, `panel_user_id` is the panel's id. The two differ."""

    id: int
    username: str
    email: str
    email_verified: bool
    panel_user_id: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One sold VPS. `user_id` is the main site's id; `ram_mb` is in MiB, `disk_gb` in GiB, `cpu` in cores.

    `status` is creating, running, stopped, suspended, error or cancelled. Any other text is accepted too, because the
    next release of a real site may send one.
    """

    id: int
    user_id: int
    name: str
    status: str
    cpu: int
    ram_mb: int
    disk_gb: int
    os: str
    hypervisor: str
    created_at: datetime
    updated_at: datetime
    cluster: str | None = None
    node: str | None = None
    vmid: int | None = None
    guest_type: str | None = None
    ip_address: str | None = None
    ip6_address: str | None = None
    panel_vps_id: int | None = None


def changed_order(order: Order, changes: Mapping[str, Any]) -> Order:
    """The order with other values.

    Raises:
        ValueError: an order has no such field.
    """
    if unknown := changes.keys() - {field.name for field in fields(Order)}:
        raise ValueError(f"An order has no {', '.join(sorted(unknown))}")
    return replace(order, **changes)


class Ledger:
    """Users and orders by id. A change replaces the frozen row, so that snapshots keep the row as it was."""

    def __init__(self, *, first_order_id: int = 1) -> None:
        self._users: dict[int, SiteUser] = {}
        self._orders: dict[int, Order] = {}
        self._orders_by_user: dict[int, dict[int, None]] = {}
        self._last_user_id = 0
        self._last_order_id = first_order_id - 1

    @property
    def next_user_id(self) -> int:
        return self._last_user_id + 1

    @property
    def next_order_id(self) -> int:
        return self._last_order_id + 1

    def users(self) -> list[SiteUser]:
        """All users in order of id."""
        return list(self._users.values())

    def orders(self) -> list[Order]:
        """All orders in order of id, cancelled ones included."""
        return list(self._orders.values())

    def orders_of(self, user_id: int) -> list[Order]:
        """The user's orders in order of id."""
        return [self._orders[order_id] for order_id in self._orders_by_user.get(user_id, ())]

    def user(self, user_id: int) -> SiteUser:
        """The user.

        Raises:
            KeyError: there is none.
        """
        if user_id not in self._users:
            raise KeyError(f"User {user_id} does not exist")
        return self._users[user_id]

    def has_order(self, order_id: int) -> bool:
        """Whether there is such an order."""
        return order_id in self._orders

    def order(self, order_id: int) -> Order:
        """The order.

        Raises:
            KeyError: there is none.
        """
        if order_id not in self._orders:
            raise KeyError(f"Order {order_id} does not exist")
        return self._orders[order_id]

    def add_user(self, user: SiteUser) -> SiteUser:
        """Add a user whose id is above all earlier ones, so that the list stays ordered.

        Raises:
            ValueError: the id is not above all earlier ones.
        """
        if user.id <= self._last_user_id:
            raise ValueError(f"User ids grow: {user.id} is not above {self._last_user_id}")
        self._users[user.id] = user
        self._last_user_id = user.id
        return user

    def link_user(self, user_id: int, panel_user_id: int | None) -> SiteUser:
        """Set or remove the panel's id of the user."""
        self._users[user_id] = changed = replace(self.user(user_id), panel_user_id=panel_user_id)
        return changed

    def add_orders(self, orders: Iterable[Order]) -> int:
        """Add orders in growing order of id. Returns how many.

        Raises:
            ValueError: an id is not above all earlier ones.
            KeyError: a user does not exist.
        """
        count = 0
        for order in orders:
            if order.id <= self._last_order_id:
                raise ValueError(f"Order ids grow: {order.id} is not above {self._last_order_id}")
            self.user(order.user_id)
            self._orders[order.id] = order
            self._orders_by_user.setdefault(order.user_id, {})[order.id] = None
            self._last_order_id = order.id
            count += 1
        return count

    def change_order(self, order_id: int, now: datetime, changes: Mapping[str, Any]) -> Order:
        """Replace the row with a changed one, updated at `now`. Raises what `changed_order` raises."""
        self._orders[order_id] = changed = changed_order(self.order(order_id), {**changes, "updated_at": now})
        return changed

    def give_order(self, order_id: int, user_id: int) -> None:
        """Give the order to another user."""
        order, _ = self.order(order_id), self.user(user_id)
        self._orders[order_id] = replace(order, user_id=user_id)
        del self._orders_by_user[order.user_id][order_id]
        self._orders_by_user.setdefault(user_id, {})[order_id] = None

    def remove_order(self, order_id: int) -> None:
        """Remove the row for good. A correct main site keeps it as cancelled."""
        order = self.order(order_id)
        del self._orders[order_id]
        del self._orders_by_user[order.user_id][order_id]
