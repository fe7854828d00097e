"""Machines that came after an order or a call named their address. Pure.

The machine that was meant may be gone, and the one that stands there now may be the next buyer's, whose order is not
read yet.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from domain.guests import Guest
from reconcile.decision.cases import Policy, World


@dataclass(frozen=True, slots=True)
class Newcomers:
    """Asked before a record is linked to a machine by its address alone."""

    world: World
    policy: Policy

    def may_be_sold_to_another(self, guest: Guest, named_at: datetime | None) -> bool:
        """Whether the machine came after ``named_at``, and the orders were not read twice since it came. Then the order
        that it was sold for must be known. A panel without a feed knows no orders, and goes by calls alone."""
        came, read = guest.first_seen_at, self.world.orders_read_before
        if not self.world.has_feed or named_at is None or came is None or came <= named_at + self.policy.read_gap:
            return False
        return read is None or read < came + self.policy.link_grace

    def doubt(self, guest: Guest, named_at: datetime | None) -> str | None:
        """The same as a sentence."""
        if not self.may_be_sold_to_another(guest, named_at):
            return None
        return f"the machine at {guest.key} came after its address was named: the orders must be read twice first"
