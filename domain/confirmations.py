"""The questions that a run asks the sources just before it writes a change: one class for each question.

The decision names a change's questions. ``reconcile.confirming`` asks them. The run writes the change only if every
answer is yes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from domain.guests import Guest, GuestKey
from domain.orders import Order
from domain.records import Record


@dataclass(frozen=True, slots=True)
class Confirmation:
    """A question to a source. ``word``: the journal keeps the answer as ``confirmed_<word>``."""

    word: ClassVar[str]


# --- to the main site


@dataclass(frozen=True, slots=True)
class OrderConfirmation(Confirmation):
    """A question about one order. ``order_id`` None: there is no order to ask about, so the answer is no."""

    word: ClassVar[str] = "order"
    order_id: str | None


@dataclass(frozen=True, slots=True)
class OrderIsOver(OrderConfirmation):
    """Did the order end, or is it gone? Asked before a delete, and before a record gives up a machine that was sold
    on."""


@dataclass(frozen=True, slots=True)
class OrderGoesOn(OrderConfirmation):
    """Is the order active or suspended, and still the same customer's? ``planned_by``: the order as the plan saw it;
    None: the owner is not compared."""

    planned_by: Order | None


@dataclass(frozen=True, slots=True)
class OrderNamesGuest(OrderGoesOn):
    """Does the order go on, and does it name this guest? ``or_none``: an order that names no guest is a yes, too."""

    guest_key: GuestKey
    or_none: bool


@dataclass(frozen=True, slots=True)
class OrderNamesOwner(OrderConfirmation):
    """Does the order name this owner (a user id of the main site)?"""

    owner: str | None


@dataclass(frozen=True, slots=True)
class OrderNamesSurvivor(OrderConfirmation):
    """Is the order there, still the same customer's, and does it name the same record as before? A merge cannot be
    undone. ``planned_by`` None: nothing is compared."""

    planned_by: Order | None


@dataclass(frozen=True, slots=True)
class NextOrderNamesGuest(OrderConfirmation):
    """Does the order that gets a record's guest go on, and does it name that guest?"""

    word: ClassVar[str] = "claimant"
    guest_key: GuestKey


# --- to Proxmox


@dataclass(frozen=True, slots=True)
class GuestIsGone(Confirmation):
    """Before a delete: is the record's guest gone from its address, and from ``elsewhere``, the other addresses where
    it was seen? ``order_ended``: the order is known to have ended; if not, every cluster must have been read completely
    in this run."""

    word: ClassVar[str] = "guest"
    record: Record
    guest_key: GuestKey
    elsewhere: tuple[GuestKey, ...]
    order_ended: bool


@dataclass(frozen=True, slots=True)
class PaidGuestIsMissing(Confirmation):
    """Is there no guest at all at the address that is paid for, and is the record's own guest gone from ``elsewhere``,
    the other addresses where it was seen?"""

    word: ClassVar[str] = "guest"
    record: Record
    guest_key: GuestKey
    elsewhere: tuple[GuestKey, ...]


@dataclass(frozen=True, slots=True)
class GuestLeftItsAddress(Confirmation):
    """Is the record's guest gone from this address? Asked before a record follows its guest to another address, where
    that would be a copy, and before it gives up an address that is another machine's by now."""

    word: ClassVar[str] = "left"
    record: Record
    guest_key: GuestKey


@dataclass(frozen=True, slots=True)
class OneGuestIsGone(Confirmation):
    """Before a merge: is the guest of one of these records gone from its address and from ``elsewhere``? They are the
    one of the two whose guest the merge drops. If its guest is not gone, the records are two machines."""

    word: ClassVar[str] = "either"
    records: tuple[Record, ...]
    elsewhere: tuple[GuestKey, ...]


@dataclass(frozen=True, slots=True)
class GuestIsTheSameMachine(Confirmation):
    """Does the guest's configuration, read now, show this fingerprint? ``known``: whose it is, and where it was seen
    last: the record's, or that of the guest which an operator adopted."""

    word: ClassVar[str] = "same"
    known: Record | Guest
    guest_key: GuestKey
