"""The events and the faults of a play, second by second, made from a seed. Pure."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

EVENTS: dict[str, str] = {
    "buy": "a customer buys another machine",
    "power": "sale {n} is switched over by its customer",
    "power-behind": "sale {n}'s guest is switched over on its node, without a call",
    "suspend": "sale {n} is suspended, or resumed",
    "cancel": "sale {n} is cancelled and its guest destroyed",
    "cancel-keep": "sale {n} is cancelled, its guest is kept",
    "destroy": "sale {n}'s guest is destroyed, the order is not touched",
    "vanish": "sale {n} is removed from the main site and its guest destroyed",
    "migrate": "sale {n}'s guest moves to another node",
    "reuse": "sale {n} is cancelled, and its VMID given to a machine sold just now",
    "transfer": "sale {n} is transferred to another customer",
    "resize": "sale {n} gets more cores",
    "repeat": "sale {n}'s create is sent once more",
    "stray": "an administrator makes a guest by hand",
    "terse": "from now on calls have only the documented fields",
    "explicit": "from now on calls name the order and the guest",
}
"""What happens to sale ``n`` of a world (modulo the number of sales)."""

_OFTEN = ("buy", "power", "power-behind", "suspend", "cancel", "migrate", "reuse", "resize")
_LAST_CALM_S = 0.5


@dataclass(frozen=True, slots=True)
class Kind:
    """What the schedule must know of a fault. ``place``: where it strikes; two faults never strike one place at once.
    ``lasts_s``: for how long, at least and at most. ``heals_s``: for how long afterwards the panel may still be blind.
    ``places``: how many such places there are."""

    name: str
    place: str
    sentence: str
    lasts_s: tuple[float, float] = (0.0, 0.0)
    heals_s: float = 0.0
    places: int = 1

    @property
    def outside(self) -> bool:
        """Whether it strikes the systems that the panel watches, not the panel itself."""
        return self.place in ("calls", "feed", "proxmox")


@dataclass(frozen=True, slots=True)
class Event:
    """One event in a world, ``at_s`` seconds after the start."""

    at_s: float
    world: int
    kind: str
    subject: int

    def __str__(self) -> str:
        return EVENTS[self.kind].format(n=self.subject)


@dataclass(frozen=True, slots=True)
class Trouble:
    """One fault, from ``at_s`` on, for ``lasts_s`` seconds. ``choice``: which of several targets it hits."""

    at_s: float
    kind: Kind
    lasts_s: float
    choice: int

    @property
    def where(self) -> str:
        """The place that the fault strikes."""
        return f"{self.kind.place}-{self.choice % self.kind.places}"

    def __str__(self) -> str:
        length = f", for {self.lasts_s:.1f} s" if self.lasts_s else ""
        return f"{self.kind.name} ({self.choice}): {self.kind.sentence}{length}"


@dataclass(frozen=True, slots=True)
class Schedule:
    """All events and faults of ``seconds`` seconds, in order of time."""

    seed: int
    seconds: float
    worlds: int
    events: tuple[Event, ...]
    troubles: tuple[Trouble, ...]

    def __str__(self) -> str:
        head = f"seed {self.seed}: {self.worlds} world(s), {self.seconds:g} s"
        lines = [(e.at_s, f"world {e.world}: {e}") for e in self.events] + [(t.at_s, f"! {t}") for t in self.troubles]
        return "\n".join([head, *(f"{at_s:7.1f} s  {line}" for at_s, line in sorted(lines))])


def schedule_of(
    seed: int,
    seconds: float,
    kinds: tuple[Kind, ...],
    *,
    worlds: int = 1,
    events_every_s: float = 1.0,
    troubles_every_s: float = 1.3,
) -> Schedule:
    """The schedule of a seed. The same arguments give the same schedule. ``events_every_s`` is for each world."""
    dice = random.Random(seed)
    events = [event for world in range(worlds) for event in _events(dice, world, seconds, events_every_s)]
    troubles = tuple(_troubles(dice, seconds, kinds, troubles_every_s))
    return Schedule(seed, seconds, worlds, tuple(sorted(events, key=lambda event: (event.at_s, event.world))), troubles)


def _events(dice: random.Random, world: int, seconds: float, every_s: float) -> Iterator[Event]:
    # One sale gets about a third of the events, because guards break where several events meet.
    focus, at_s = dice.randrange(8), dice.uniform(0, every_s)
    while at_s < seconds - _LAST_CALM_S:
        kind = dice.choice(_OFTEN if dice.random() < 0.6 else tuple(EVENTS))
        yield Event(at_s, world, kind, focus if dice.random() < 0.3 else dice.randrange(1000))
        at_s += dice.uniform(0.3, 1.7) * every_s


def _troubles(dice: random.Random, seconds: float, kinds: tuple[Kind, ...], every_s: float) -> Iterator[Trouble]:
    """Faults of the outside and of the panel in turns. Each of the two has a deck, so every fault comes once before any
    comes again."""
    decks = [[k for k in kinds if k.outside is outside and _fits(k, 0, seconds)] for outside in (True, False)]
    dealt: list[list[Kind]] = [[], []]
    taken: dict[str, float] = {}
    at_s, turn = dice.uniform(0.5, 1) * every_s, 0
    while at_s < seconds:
        turn = 1 - turn if decks[1 - turn] else turn
        if not dealt[turn]:
            dealt[turn] = dice.sample(decks[turn], len(decks[turn]))
        for kind in dealt[turn]:
            lasts_s = dice.uniform(*kind.lasts_s)
            trouble = Trouble(at_s, kind, lasts_s, dice.randrange(1000))
            if taken.get(trouble.where, 0.0) <= at_s and _fits(kind, at_s + lasts_s, seconds):
                dealt[turn].remove(kind)
                taken[trouble.where] = at_s + lasts_s + _LAST_CALM_S
                yield trouble
                break
        at_s += dice.uniform(0.6, 1.4) * every_s


def _fits(kind: Kind, ends_s: float, seconds: float) -> bool:
    return max(ends_s, kind.lasts_s[1]) + kind.heals_s <= seconds
