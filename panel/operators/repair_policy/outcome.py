"""What a run would do under another repair policy, as it is stored and answered: counts and the changes that matter."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from panel.api_answer import api_answer

Fate = Literal["applied", "held", "ignored", "rejected"]
"""What becomes of a change of a plan: it is written; it waits for an operator; the policy leaves it alone; an operator
refused it before."""


@api_answer
@dataclass(frozen=True, slots=True)
class Fates:
    """How many changes have which fate. ``applied``: these pass the gate, and the run would ask the sources once more
    before it writes each."""

    applied: int = 0
    held: int = 0
    ignored: int = 0
    rejected: int = 0


@api_answer
@dataclass(frozen=True, slots=True)
class ClassFates:
    """The changes of one class: under that policy, and under the present one."""

    kind: Annotated[str, Field(description="The class of drift")]
    then: Fates
    now: Fates


@api_answer
@dataclass(frozen=True, slots=True)
class HeldThen:
    """Changes that would be held for one reason. ``count_now``: how many are held for it under the present policy."""

    scope: Annotated[str, Field(description="What its limit counts together, or the class that is held")]
    reason: str
    count: int
    count_now: int


@api_answer
@dataclass(frozen=True, slots=True)
class Moved:
    """Changes whose fate differs."""

    kind: str
    now: Fate
    then: Fate
    count: int


@api_answer
@dataclass(frozen=True, slots=True)
class ShownChange:
    """One change of the plan. ``held_by``: the scope that holds it then."""

    kind: str
    action: str
    subject: Annotated[str, Field(description="vps:12, order:7041 or guest:fra1/101")]
    now: Fate
    then: Fate
    held_by: str | None
    reason: str
    name: str | None
    user_id: int | None
    username: str | None
    clusters: list[str]


@api_answer
@dataclass(frozen=True, slots=True)
class Most:
    """How many changes of the plan are of one cluster, or of one customer."""

    name: str
    count: int


@api_answer
@dataclass(frozen=True, slots=True)
class Outcome:
    """What the next run would do under a policy with what the sources show now, beside what it does under the present
    one. ``matter``: at most ten changes, those with another fate first. ``held_more``: how many reasons are not listed.
    ``guests_to_read``: the records of their orders are not in this plan."""

    policy: dict[str, str]
    policy_now: dict[str, str]
    plan: str
    problems: list[str]
    guests_to_read: int
    total: ClassFates
    classes: list[ClassFates]
    moved: list[Moved]
    held: list[HeldThen]
    held_more: int
    matter: list[ShownChange]
    clusters: list[Most]
    customers: list[Most]


_ADAPTER = TypeAdapter(Outcome)


def stored(outcome: Outcome) -> dict[str, Any]:
    """The outcome for a JSON column."""
    return asdict(outcome)


def loaded(plain: dict[str, Any]) -> Outcome:
    """The outcome of a JSON column."""
    return _ADAPTER.validate_python(plain)
