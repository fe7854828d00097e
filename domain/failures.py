"""What failed for one object of a run, and the names that tie it to other objects. Standard library only.

A subject names each object: ``vps:12``, ``order:7041``, ``guest:main/101``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from traceback import extract_tb
from typing import Any

from domain.guests import identity_tags


class Stage(StrEnum):
    """Where it failed: when its row was parsed, matched with others, decided, or confirmed and written."""

    LOAD = "load"
    MATCH = "match"
    DECIDE = "decide"
    WRITE = "write"


@dataclass(frozen=True, slots=True)
class Failure:
    """One object that failed. ``cause`` names classes, codes and places, never values. ``patience``: how many failures
    in a row it takes to hold the object back."""

    subject: str
    stage: Stage
    cause: str
    patience: int = 1


@dataclass(frozen=True, slots=True)
class Broken:
    """A row that could not be parsed. Only its ties are known."""

    cause: str
    belongs: frozenset[str]


Interrupts = tuple[type[BaseException], ...]
"""Exceptions that are not the object's fault, for example that the run's time is over."""


def cause_of(error: BaseException) -> str:
    """The error's class and where it was raised; not its text, which may quote a customer."""
    frames = extract_tb(error.__traceback__)
    place = f" in {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{place}"


def led_to(error: BaseException) -> Iterator[BaseException]:
    """The error, then those that led to it: the cause of each, or its context."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__


def caused_by(error: BaseException, kind: type[BaseException]) -> bool:
    """Whether the error, or an error that led to it, is of that kind."""
    return any(isinstance(seen, kind) for seen in led_to(error))


def record_ties(row: Any) -> frozenset[str]:  # noqa: ANN401 - a Record, or a Row with its columns
    """All names that may tie a record to other objects; its own subject is among them."""
    guest = f"guest:{row.cluster}/{row.vmid}" if row.vmid is not None else None
    merged = f"vps:{row.merged_into}" if row.merged_into is not None else None
    claimed = f"guest:{row.claimed_cluster}/{row.claimed_vmid}" if row.claimed_vmid is not None else None
    return _ties(f"vps:{row.id}", merged, guest, claimed, _tie("order", row.order_id),
                 _tie("print", row.fingerprint), _tie("user", row.user_id))  # fmt: skip


def order_ties(row: Any) -> frozenset[str]:  # noqa: ANN401 - an Order, or a Row with its columns
    """All names that may tie an order to other objects."""
    guest = f"guest:{row.cluster}/{row.vmid}" if row.cluster is not None and row.vmid is not None else None
    return _ties(f"order:{row.order_id}", guest, _tie("vps", row.panel_vps_id), _tie("user", row.user_id))


def guest_ties(row: Any) -> frozenset[str]:  # noqa: ANN401 - a Guest, or a Row with its columns
    """All names that may tie a guest to other objects."""
    marks = (f"tag:{row.cluster}/{mark}" for mark in identity_tags(row.tags or ()))
    return _ties(f"guest:{row.cluster}/{row.vmid}", _tie("print", row.fingerprint), *marks)


def _tie(kind: str, value: object) -> str | None:
    return None if value is None else f"{kind}:{value}"


def _ties(*ties: str | None) -> frozenset[str]:
    return frozenset(tie for tie in ties if tie is not None)
