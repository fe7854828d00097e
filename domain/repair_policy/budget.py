"""How each class of drift is handled, and the limits of the gate. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Handling(StrEnum):
    """What an operator wants done with a class of drift."""

    REPAIR = "repair"
    HOLD = "hold"  # each item waits for an approval
    IGNORE = "ignore"


BY_APPROVAL = "by-approval"
"""How the scope of a change begins that nothing proves; its subject follows (``by-approval:vps:12``). Each such change
is a held set of its own, because an operator has to judge each by itself."""


@dataclass(frozen=True, slots=True)
class Budget:
    """How many changes of a class may happen; shares are fractions of the records concerned."""

    deletes_run: int = 20
    deletes_hour: int = 40
    deletes_day: int = 100
    deletes_node_min: int = 3
    deletes_node_share: float = 0.20
    deletes_user_min: int = 1
    deletes_user_share: float = 0.20
    creates_min: int = 25
    creates_share: float = 0.05
    flips_min: int = 5
    flips_share: float = 0.30
    owners_run: int = 3
    owners_day: int = 10
    merges_run: int = 10
    merges_day: int = 40
    pushed_deletes_hour: int = 20  # by calls of the main site: more than that is a finding, never held
