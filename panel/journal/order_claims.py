"""Whose an order is.

A claim leads from an order id to a VPS. The application may not delete claims, so a VPS that a run gave to another
order keeps the claim of its former one. Such a claim leads nowhere: a claim counts only while the VPS is live and has
this order, or has none yet while calls wait for it. :mod:`panel.journal.journal_state` follows the same rule for calls.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, select, text

from domain.orders import Order
from panel.records.projection import Row
from panel.schema import tables


class NotYetError(Exception):
    """The operation must wait for another VPS's queue. It stays queued and is published again."""


class OrderTakenError(Exception):
    """The order of a create has another live record, and no delete of that record is queued."""

    def __init__(self, order_id: str, vps_id: int) -> None:
        super().__init__(f"order {order_id} belongs to vps={vps_id}: the delete of that VPS failed")
        self.order_id = order_id
        self.vps_id = vps_id


class ForeignDeleteError(Exception):
    """A delete names an order, and the record belongs to another one."""


def check_delete(row: Row, order_id: str | None) -> None:
    """Raise ForeignDeleteError if a delete of this order must not end the record."""
    if order_id is not None and row["order_id"] not in (None, order_id):
        raise ForeignDeleteError(
            f"VPS {row['id']} belongs to order {row['order_id']}, but the delete is for order {order_id}"
        )


def holder_of(connection: Connection, order_id: str, *, besides: int | None = None) -> int | None:
    """The VPS that an order's claim leads to, and that has the order or is about to get it. ``besides``: not this
    one. The caller has locked the order."""
    holder: int | None = connection.scalar(HOLDER, {"order": order_id, "besides": besides})
    return holder


def awaiting(connection: Connection, order_id: str, *, besides: int) -> int | None:
    """The VPS, other than ``besides``, that a queued call brings this order to. The caller has locked the order."""
    waiting: int | None = connection.scalar(AWAITING, {"order": order_id, "besides": besides})
    return waiting


def may_claim(connection: Connection, order_id: str, vps_id: int) -> bool:
    """Whether an update may link this order with the VPS."""
    return (
        holder_of(connection, order_id, besides=vps_id) is None
        and other_record_of_order(connection, order_id, vps_id) is None
    )


def wait_for_older_order(connection: Connection, row: Row) -> None:
    """Let a create wait if its order has an older record and the delete of that record is queued, or if the older
    create itself is still queued, before its delete. Raises NotYetError.

    It waits for nothing else. If no delete is queued, the older record keeps the order. Raises OrderTakenError.
    """
    order_id, vps_id = row["order_id"], row["id"]
    if order_id is None:
        return
    if (older := connection.scalar(OLDER_CREATE, {"order": order_id, "vps": vps_id})) is not None:
        raise NotYetError(f"waiting for the create and the delete of vps={older}, the order's former record")
    if (older := other_record_of_order(connection, order_id, vps_id)) is None:
        return
    operations = tables.operations
    queued_delete = select(operations.c.id).where(
        operations.c.vps_id == older, operations.c.state == "queued", operations.c.action == "delete"
    )
    if connection.scalar(queued_delete.limit(1)) is not None:
        raise NotYetError(f"waiting for the delete of vps={older}, the order's former record")
    # The delete may have been applied between the two reads.
    if other_record_of_order(connection, order_id, vps_id) is not None:
        raise OrderTakenError(order_id, older)


def other_record_of_order(connection: Connection, order_id: str, vps_id: int) -> int | None:
    """The live record of this order that is not this VPS, or None."""
    vps = tables.vps
    other: Any = connection.scalar(
        select(vps.c.id).where(vps.c.order_id == order_id, vps.c.deleted_at.is_(None), vps.c.id != vps_id)
    )
    return None if other is None else int(other)


def needs_no_record(connection: Connection, order: Order) -> str | None:
    """Why an order needs no new record: it has one by now, or one is on its way. None if it needs one. The caller has
    locked the order."""
    vps_queues, vps = tables.vps_queues, tables.vps
    if (holder := holder_of(connection, order.order_id)) is not None:
        return f"order {order.order_id} is claimed by VPS {holder}: its record exists or is on its way"
    linked = select(vps.c.id).where(vps.c.order_id == order.order_id, vps.c.deleted_at.is_(None))
    if connection.scalar(linked) is not None:
        return f"order {order.order_id} has a record by now"
    queued = connection.scalar(
        select(vps_queues.c.vps_id).where(
            vps_queues.c.vps_id == order.panel_vps_id,
            vps_queues.c.queue_state == "live",
            vps_queues.c.applied_seq < vps_queues.c.last_seq,
        )
    )
    if queued is not None:
        return f"calls for VPS {queued}, which the main site names for order {order.order_id}, wait to be applied"
    return None


def holder_sql(order: str, besides: str) -> str:
    """SQL of ``holder_of``. ``order``, ``besides``: SQL of the order's id and of the VPS that does not count."""
    return f"{_claiming(order, besides)} (r.order_id = c.order_id OR {_AWAITING})"


def _claiming(order: str, besides: str) -> str:
    return (
        "SELECT q.vps_id FROM order_claims c JOIN vps_queues q ON q.vps_id = c.vps_id"  # noqa: S608 - own text
        " LEFT JOIN vps r ON r.id = q.vps_id"
        f" WHERE c.order_id = {order} AND c.vps_id IS DISTINCT FROM {besides} AND q.queue_state = 'live' AND "
    )


_AWAITING = "(r.order_id IS NULL AND q.applied_seq < q.last_seq)"
OLDER_CREATE = text(
    "SELECT vps_id FROM vps_queues WHERE order_id = :order AND vps_id < :vps AND applied_seq = 0"
    " AND queue_state = 'deleted' LIMIT 1"
)
"""A VPS whose create and delete were accepted before this VPS's create, and are not applied yet."""
HOLDER = text(holder_sql(":order", "CAST(:besides AS bigint)"))
AWAITING = text(_claiming(":order", "CAST(:besides AS bigint)") + _AWAITING)
