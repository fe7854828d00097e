"""When a held set needs two operators, and what follows from all that operators said about one item. Pure.

Every approval and rejection is a :class:`Word` on each item of the set that was decided. So a set that changed between
two approvals needs no rule of its own: an item that changed has another hash and no word at all, and an item that was
added has only the words of those who saw it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from domain.changes import FACTS, Kind

APPROVED_FOR = timedelta(hours=24)
"""For how long an approval counts, a first one too."""

TAKES_NOTHING = frozenset({*(kind.value for kind in FACTS), Kind.CREATE.value})
"""Classes that take no VPS from anybody: facts, which every run observes again, and new records. A class that is not
here counts against the number: deletes, merges, other owners, guests that a record gives up."""

BY_KEY = "api:"
"""How the names of operators begin who showed a key, on a page or by HTTP. What a command says is not proven: who has
the shell can type any name."""


def taking(items: Iterable[Mapping[str, Any]]) -> int:
    """How many of a set's items take a VPS from somebody."""
    return sum(item["kind"] not in TAKES_NOTHING for item in items)


def is_above(count: int, above: int | None) -> bool:
    """Whether a set with ``count`` items that take something needs two operators. ``above``: the setting
    SECOND_APPROVAL_ABOVE."""
    return above is not None and count > above


def proven_name(by: str) -> str | None:
    """The operator's name, the same on a page and by HTTP and with both keys of a rotation; None for a command."""
    return by.removeprefix(BY_KEY) if by.startswith(BY_KEY) else None


@dataclass(frozen=True, slots=True)
class Word:
    """What an operator said about an item. ``by``: as the audit names the operator. ``second``: the set that was
    approved needed two operators."""

    by: str
    at: datetime
    approves: bool
    second: bool = False


@dataclass(frozen=True, slots=True)
class Standing:
    """What counts of all words on an item. ``approvals``: those in force, the oldest first. ``second``: one of them was
    for a set that needs two operators, so this item needs two until that approval ends. ``rejected``: an operator
    rejected it, and nothing that was said since has released it, then or now."""

    approvals: tuple[Word, ...] = ()
    second: bool = False
    rejected: bool = False

    @property
    def operators(self) -> frozenset[str]:
        """The operators with a proven name who approve it."""
        return frozenset(name for word in self.approvals if (name := proven_name(word.by)) is not None)

    @property
    def approvers(self) -> tuple[str, ...]:
        """Who approves it, as the audit names them."""
        return tuple(dict.fromkeys(word.by for word in self.approvals))

    @property
    def released(self) -> bool:
        """Whether a run may write it."""
        return len(self.operators) > 1 if self.second else bool(self.approvals)


def standing(words: Iterable[Word], now: datetime) -> Standing:
    """What counts of the words on one item. A rejection ends every approval before it or of the same moment, whoever
    gave it. It is in force itself until the item is released: one approval of two does not lift it."""
    in_order = sorted(words, key=lambda word: (word.at, not word.approves))
    since = max((place for place, word in enumerate(in_order, 1) if not word.approves), default=0)
    found = _approved(in_order[since:], now)
    return replace(found, rejected=since > 0 and not was_released(in_order[since:], now))


def was_released(approvals: Collection[Word], now: datetime) -> bool:
    """Whether a run may write the item by these approvals, or might have at any time before. They may have ended."""
    ends = (word.at + APPROVED_FOR for word in approvals)
    return any(
        _approved([word for word in approvals if word.at <= moment], moment).released
        for moment in {now, *(word.at for word in approvals), *(end for end in ends if end <= now)}
    )


def _approved(approvals: Iterable[Word], moment: datetime) -> Standing:
    in_force = tuple(word for word in approvals if moment - word.at < APPROVED_FOR)
    return Standing(in_force, any(word.second for word in in_force))
