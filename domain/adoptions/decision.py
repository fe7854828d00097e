"""An operator's word that a guest is an order's, and what a run makes of it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from domain.adoptions.permission import Around, names_another, why_never, why_not_yet
from domain.guests import FingerprintState, Guest, GuestKey, GuestType
from domain.orders import Order

KEPT_FOR = timedelta(days=7)
"""How long an adoption waits for a run that can follow it. What the operator saw may not be true for longer."""


@dataclass(frozen=True, slots=True)
class Adoption:
    """Guest ``key``, of this type and with this fingerprint, belongs to order ``order_id``, says ``adopted_by``.

    ``owner``: whose the order was when the operator looked, by the main site's id; ``user_id``: by the panel's.
    """

    id: int
    key: GuestKey
    guest_type: GuestType
    fingerprint: str
    order_id: str
    owner: str
    user_id: int
    adopted_by: str
    adopted_at: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class Stands:
    """The run takes the operator's word: it counts as if the order named the guest."""


@dataclass(frozen=True, slots=True)
class Waits:
    """The run cannot follow it now; the next one may. ``why`` is a sentence."""

    why: str


@dataclass(frozen=True, slots=True)
class Lapses:
    """What the operator decided on is not true any more, so it is over. ``why`` is a sentence."""

    why: str


Judgement = Stands | Waits | Lapses


def judge(adoption: Adoption, guest: Guest | None, order: Order | None, around: Around, now: datetime) -> Judgement:
    """What a run makes of an adoption. ``guest``, ``order``: as the run sees them; None if it does not list them."""
    if now - adoption.adopted_at >= KEPT_FOR:
        return Lapses(f"no run could follow it within {KEPT_FOR.days} days")
    if guest is not None and (why := _another_machine(adoption, guest)) is not None:
        return Lapses(why)
    if order is not None and (order.owner, order.user_id) != (adoption.owner, adoption.user_id):
        return Lapses(f"order {order.order_id} belongs to another customer than when the guest was adopted")
    if guest is None:
        return Waits(f"guest {adoption.key} is not listed now")
    if order is None:
        return Waits(f"order {adoption.order_id} is not listed now")
    if (why := names_another(guest, order) or why_never(guest, order, around)) is not None:
        return Lapses(why)
    if (why := _not_read_since(adoption, guest) or why_not_yet(guest, order, around)) is not None:
        return Waits(why)
    return Stands()


def _another_machine(adoption: Adoption, guest: Guest) -> str | None:
    if guest.guest_type is not adoption.guest_type:
        return f"guest {guest.key} is {guest.guest_type.value} now, and {adoption.guest_type.value} was adopted"
    if guest.fingerprint_state is FingerprintState.READ and guest.fingerprint != adoption.fingerprint:
        now = guest.fingerprint or "without an identity"
        return f"guest {guest.key} is another machine by now: {adoption.fingerprint} was adopted, and it is {now}"
    return None


def _not_read_since(adoption: Adoption, guest: Guest) -> str | None:
    """The operator saw an identity that may be old. It counts only once a run has read it again."""
    read = guest.fingerprint_read_at
    if guest.fingerprint_state is FingerprintState.READ and read is not None and read >= adoption.adopted_at:
        return None
    return f"the identity of guest {guest.key} must be read again first"
