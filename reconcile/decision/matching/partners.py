"""The unlinked record that an order without one may belong to, without comparing each with each. Pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime, timedelta

from domain.orders import Order, OrderState
from domain.records import Record
from reconcile.decision.matching.order_traits import same_plan


class Partners:
    """Unlinked records by customer and name, and by customer and plan, each in the order in which they were made."""

    def __init__(self, free: Iterable[Record]) -> None:
        self._by_name: dict[tuple[int, str], list[Record]] = defaultdict(list)
        self._by_plan: dict[int, dict[tuple[int, int, int, str], list[Record]]] = defaultdict(lambda: defaultdict(list))
        for record in sorted(free, key=lambda r: (r.created_at, r.id)):
            self._by_name[record.user_id, record.name].append(record)
            self._by_plan[record.user_id][record.cpu, record.ram_mb, record.disk_gb, record.os].append(record)

    def possible(self, order: Order, within: timedelta | None) -> Record | None:
        """Of the records that may be the order's, the one with the greatest id. It has the order's name, or its plan
        and was made ``within`` that time of it (None: any time). A record made after the order ended does not count."""
        if order.user_id is None or order.name is None:
            return None
        ended = order.state_since if order.state is OrderState.ENDED else None
        found = [_newest(self._by_name.get((order.user_id, order.name), []), None, ended)]
        if within is None or order.created_at is not None:
            since, until = None, ended
            if within is not None and order.created_at is not None:
                since, until = order.created_at - within, order.created_at + within
                until = until if ended is None else min(until, ended)
            found += [
                _newest(records, since, until)
                for records in self._by_plan.get(order.user_id, {}).values()
                if same_plan(order, records[0])
            ]
        return max((record for record in found if record is not None), key=lambda r: r.id, default=None)


def _newest(records: list[Record], since: datetime | None, until: datetime | None) -> Record | None:
    """The record made last within these times."""
    first = 0 if since is None else bisect_left(records, since, key=lambda r: r.created_at)
    end = len(records) if until is None else bisect_right(records, until, key=lambda r: r.created_at)
    return records[end - 1] if end > first else None
