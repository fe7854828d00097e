"""What the matching makes of a world: its cases, which of them are pairs, and which are in doubt."""

from __future__ import annotations

from reconcile.decision.cases import Case, World
from reconcile.decision.matching.match import match
from tests.unit.reconcile.worlds import POLICY


def cases(seen: World) -> list[Case]:
    return match(seen, POLICY)


def pairs(seen: World) -> set[tuple[str | None, int | None]]:
    """(order id, record id) of every case that is not in doubt."""
    return {
        (c.order.order_id if c.order else None, c.record.id if c.record else None)
        for c in cases(seen)
        if c.doubt is None and (c.order or c.record)
    }


def doubts(seen: World) -> list[str]:
    return [c.doubt for c in cases(seen) if c.doubt is not None]
