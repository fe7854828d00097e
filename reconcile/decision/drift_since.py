"""Since when a difference that is being repaired has stood, as far as the panel can know. Pure."""

from __future__ import annotations

from datetime import datetime

from domain.changes import Change, ChangeOwner, Create, Delete, Link, Merge, SetStatus


def drift_since(change: Change) -> datetime | None:
    """The latest of the events that made record and sources differ (database clock); None if the panel did not see it
    happen.

    The main site's own times come from another clock, and no source says when a plan was changed.
    """
    moments = [moment for moment in _moments(change) if moment is not None]
    return max(moments) if moments else None


Moments = list[datetime | None]


def _moments(change: Change) -> Moments:
    match change:
        case Create():
            return [change.order.first_seen_at, change.order.state_since]
        case SetStatus():
            return _status(change)
        case ChangeOwner():
            return _owner(change)
        case Link():
            return _link(change)
        case Merge():
            return [record.created_at for record in change.records]
        case Delete():
            return _gone(change)
    return []


def _status(change: SetStatus) -> Moments:
    record, order, guest = change.record, change.order, change.guest
    if "order_state" in change.values and order is not None:
        return [order.state_since, record.order_changed_at] if order.state_since is not None else []
    if change.values.get("missing_since") is not None:
        return [change.values["missing_since"]]
    if change.source == "proxmox" and guest is not None and guest.power_since is not None:
        return [guest.power_since, record.power_changed_at]
    return []


def _owner(change: ChangeOwner) -> Moments:
    order = change.order
    return [order.owner_since, change.record.owner_changed_at] if order is not None and order.owner_since else []


def _link(change: Link) -> Moments:
    order, guest, record = change.order, change.guest, change.record
    if change.source == "proxmox":
        return [guest.changed_at, record.link_changed_at] if guest is not None and guest.changed_at is not None else []
    return [order.first_seen_at, record.created_at] if order is not None and order.first_seen_at is not None else []


def _gone(change: Delete) -> Moments:
    """The order's end or its first absence, and the guest's first absence: the later of both."""
    order = change.order.state_since if change.order is not None else None
    absences = [change.evidence.get(f"{what}_absent_since") for what in ("order", "guest")]
    return [order, *(datetime.fromisoformat(since) for since in absences if since is not None)]
