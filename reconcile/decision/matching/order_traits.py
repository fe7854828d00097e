"""Whether an order and a record, or two orders, fit together by what they say. Pure."""

from __future__ import annotations

from datetime import timedelta

from domain.orders import Order, OrderState
from domain.records import Record


def has_ended(order: Order) -> bool:
    """Whether its service ended. An order that waits, or whose word the panel does not know, has not ended."""
    return order.state is OrderState.ENDED


def had_an_owner(order: Order) -> bool:
    """Whether the feed has named another owner of it, or an owner where it names none now."""
    since, seen = order.owner_since, order.first_seen_at
    return since is not None and seen is not None and since > seen


def later(order: Order, other: Order) -> bool:
    """Whether it was made after the other one."""
    return order.created_at is not None and other.created_at is not None and order.created_at > other.created_at


def maybe_later(order: Order, other: Order) -> bool:
    """Whether it may have been made after the other one: it was, or nobody knows when one of them was made."""
    return order.created_at is None or other.created_at is None or order.created_at > other.created_at


def ended_before(order: Order, record: Record) -> bool:
    """Whether an order had ended when a record was made."""
    return order.state is OrderState.ENDED and order.state_since is not None and order.state_since < record.created_at


def same_plan(order: Order, record: Record) -> bool:
    """Whether nothing that both say of cores, memory, disk and system differs."""
    pairs = (
        (order.cpu, record.cpu),
        (order.ram_mb, record.ram_mb),
        (order.disk_gb, record.disk_gb),
        (order.os, record.os),
    )
    return all(sold is None or sold == kept for sold, kept in pairs)


def time_apart(order: Order, record: Record) -> timedelta:
    """How far apart the two were made; ``timedelta.max`` if the order does not say."""
    if order.created_at is None:
        return timedelta.max
    return abs(order.created_at - record.created_at)
