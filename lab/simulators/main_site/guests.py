"""The interface through which the main site creates its guests."""

from dataclasses import dataclass
from typing import Protocol

from lab.simulators.main_site.model import Order


@dataclass(frozen=True, slots=True)
class GuestPlace:
    """Where a guest was placed."""

    cluster: str
    node: str
    vmid: int


class GuestHost(Protocol):
    """Creates, starts, stops and removes the guests of orders."""

    def create(self, order: Order) -> GuestPlace:
        """A stopped guest with the order's plan."""

    def set_power(self, order: Order, status: str) -> None:
        """`running` or `stopped`."""

    def remove(self, order: Order) -> None:
        """Destroy the guest; a missing one is no error."""
