"""Looks one order up, so that "not found" differs from "not answering"."""

from __future__ import annotations

from collections.abc import Callable

from domain.orders import Order
from domain.source_protocols import Found, Gone, Lookup, Unclear
from sources.faults import SourceFault
from sources.main_site.parse import RowRefused

GetOrder = Callable[[str], Order | None]


def look_up(get: GetOrder, order_id: str, control_id: str | None) -> Lookup[Order]:
    """``get`` returns an order, or ``None`` for a 404, and raises for everything else.

    A 404 alone proves nothing: a misrouted or half-started site answers 404 to everything. So an order that is known to
    exist must be found in between, and the 404 must repeat.
    """
    try:
        return _concluded(get, order_id, control_id)
    except SourceFault as fault:
        return Unclear(f"order {order_id}: the main site {fault}")
    except RowRefused as refused:
        return Unclear(f"order {order_id}: the main site's row cannot be read ({refused})")


def _concluded(get: GetOrder, order_id: str, control_id: str | None) -> Lookup[Order]:
    found = get(order_id)
    if found is not None:
        return _checked(found, order_id)
    if control_id is None or control_id == order_id:
        return Unclear(f"order {order_id} is answered 404, and no other order is known to check the site by")
    control = get(control_id)
    if control is None or control.order_id != control_id:
        return Unclear(f"order {order_id} is answered 404, but order {control_id}, which exists, is not found")
    again = get(order_id)
    if again is not None:
        return _checked(again, order_id)
    return Gone(f"404 twice while order {control_id} was answered in between")


def _checked(order: Order, order_id: str) -> Lookup[Order]:
    if order.order_id != order_id:
        return Unclear(f"order {order_id} was asked for and order {order.order_id} answered")
    return Found(order)
