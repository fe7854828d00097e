"""What is asked once more just before a change is written: one class for each question, with what it is about.

The decision names the questions; ``reconcile.confirming`` asks the sources, and writes nothing unless all answer yes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from domain.guests import GuestKey
from domain.orders import Order
from domain.records import Record


@dataclass(frozen=True, slots=True)
class Confirmation:
    """A question to a source. ``word``: the journal keeps the answer as ``confirmed_<word>``."""

    word: ClassVar[str]


# --- to the main site


@dataclass(frozen=True, slots=True)
class OrderConfirmation(Confirmation):
    """A question about one order. ``order_id`` None: no order can be asked for, so nothing is confirmed."""

    word: ClassVar[str] = "order"
    order_id: str | None


@dataclass(frozen=True, slots=True)
class OrderIsOver(OrderConfirmation):
    """Did the order end, or is it gone? Before a delete, and before a record lets go of a machine that was sold on."""


@dataclass(frozen=True, slots=True)
class OrderGoesOn(OrderConfirmation):
    """Is the order active or suspended, and not another customer's? ``planned_by``: the order as the plan saw it; None
    compares no owner."""

    planned_by: Order | None


@dataclass(frozen=True, slots=True)
class OrderNamesGuest(OrderGoesOn):
    """Does the order go on, and name this very guest? ``or_none``: an order that names no guest will do."""

    guest_key: GuestKey
    or_none: bool


@dataclass(frozen=True, slots=True)
class OrderNamesOwner(OrderConfirmation):
    """Does the order name this owner (a user id of the main site)?"""

    owner: str | None


@dataclass(frozen=True, slots=True)
class OrderNamesSurvivor(OrderConfirmation):
    """Is the order there, still the same customer's, and does it name the same record as before? A merge cannot be
    undone. ``planned_by`` None compares nothing."""

    planned_by: Order | None


@dataclass(frozen=True, slots=True)
class NextOrderNamesGuest(OrderConfirmation):
    """Does the order to which a record loses its guest go on, and name that guest?"""

    word: ClassVar[str] = "claimant"
    guest_key: GuestKey


# --- to Proxmox


@dataclass(frozen=True, slots=True)
class GuestIsGone(Confirmation):
    """Is the guest of a record that is to be deleted gone from its address, and from ``elsewhere``, where it was seen
    too? ``order_ended``: else every cluster must have been read completely."""

    word: ClassVar[str] = "guest"
    record: Record
    guest_key: GuestKey
    elsewhere: tuple[GuestKey, ...]
    order_ended: bool


@dataclass(frozen=True, slots=True)
class PaidGuestIsMissing(Confirmation):
    """Does no guest at all stand at the address that is paid for, and is the record's own not ``elsewhere``, where it
    was seen too?"""

    word: ClassVar[str] = "guest"
    record: Record
    guest_key: GuestKey
    elsewhere: tuple[GuestKey, ...]


@dataclass(frozen=True, slots=True)
class GuestLeftItsAddress(Confirmation):
    """Is the record's guest gone from where the record has it? Else what was found elsewhere is a copy."""

    word: ClassVar[str] = "left"
    record: Record
    guest_key: GuestKey


@dataclass(frozen=True, slots=True)
class OneGuestIsGone(Confirmation):
    """Has one of two records lost its guest, at its address and ``elsewhere``? Else they are two machines."""

    word: ClassVar[str] = "either"
    records: tuple[Record, Record]
    elsewhere: tuple[GuestKey, ...]


@dataclass(frozen=True, slots=True)
class GuestIsTheSameMachine(Confirmation):
    """Does the guest have the record's fingerprint, by its configuration of just now?"""

    word: ClassVar[str] = "same"
    record: Record
    guest_key: GuestKey
