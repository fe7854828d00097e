"""A story as data: who is there at first, and what happens in each round. Made from a seed, cut down when it fails."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

GOINGS_ON: dict[str, str] = {
    "buy": "a customer buys another machine (sale {n}'s plan)",
    "power": "sale {n}'s guest is switched over",
    "suspend": "sale {n} is suspended, or resumed",
    "cancel": "sale {n} is cancelled and its guest destroyed",
    "cancel-keep": "sale {n} is cancelled, its guest is kept",
    "destroy": "sale {n}'s guest is destroyed, the order is not touched",
    "vanish": "sale {n} is removed from the main site, its guest is kept",
    "vanish-both": "sale {n} is removed from the main site and its guest destroyed",
    "migrate": "sale {n}'s guest moves to the other node",
    "reuse": "sale {n} is cancelled, and its VMID given to a machine sold just now",
    "transfer": "sale {n} goes over to another customer",
    "resize": "sale {n} gets more cores",
    "stray": "somebody makes a guest by hand",
    "restore": "an operator restores the record of sale {n}, if it was deleted",
    "backup": "sale {n}'s guest is locked by a backup for this round",
}
"""What truly happens, and what the main site calls the panel for."""

POSTS: dict[str, str] = {
    "post-dropped": "the main site's calls of this round are lost",
    "post-doubled": "the main site's calls of this round arrive twice",
    "post-delayed": "the main site's calls of this round arrive later, in another order",
    "answer-lost": "the answers to the main site's calls of this round are lost",
    "post-in-flight": "the calls of this round are accepted, but applied only after the run",
}
FEED: dict[str, str] = {
    "feed-5xx": "the order feed answers 5xx",
    "feed-truncated": "the order feed breaks off half way",
    "feed-repeated": "the order feed repeats a page",
    "feed-empty": "the order feed is empty, and says it is whole",
    "feed-shrunk": "the order feed shows half of the orders, and says it is whole",
    "feed-hides": "the order feed leaves sale {n} out, and says it is whole",
    "feed-slow": "the order feed takes minutes",
    "feed-stale": "the order feed is answered from an old copy",
    "feed-undated": "the order feed has no as_of",
    "feed-owner": "the order feed shows a wrong owner of sale {n}",
    "feed-status": "the order feed shows sale {n} cancelled, which it is not",
}
PROXMOX: dict[str, str] = {
    "pve-blind": "cluster {c}'s token sees nothing",
    "pve-unknown": "cluster {c} shows every guest as unknown",
    "pve-401": "cluster {c} answers 401",
    "pve-595": "cluster {c} answers 595",
    "pve-no-quorum": "cluster {c} has no quorum and lists the guests as they were",
    "pve-node-offline": "a node of cluster {c} is offline: its guests read unknown",
    "pve-node-hidden": "a node of cluster {c} is offline: its guests are not listed",
    "pve-hides": "the list leaves sale {n}'s guest out; asked for singly, it answers unclearly",
    "pve-moves": "sale {n}'s guest is not listed while it migrates; asked for singly, it is on the other node",
    "pve-stale-status": "sale {n}'s guest is listed in the opposite power state",
}
BLINKS: dict[str, str] = {
    "blink": "sale {n} is cancelled by mistake, and its guest is away for a restore; both are back soon",
    "blink-owner": "sale {n} reads another customer's for a moment",
}
RUNS: dict[str, str] = {
    "two-runs": "a second run starts before the first one has written",
    "call-mid-run": "sale {n} is switched over and the main site calls, between a run's plan and its writes",
}
SENTENCES = GOINGS_ON | POSTS | FEED | PROXMOX | BLINKS | RUNS

LASTING = ("feed-hides", "feed-owner", "feed-status", "feed-empty", "feed-shrunk", "pve-hides", "pve-moves")
"""Lies that last some rounds: long enough to look like a proof."""

CUSTOMERS = 3
STEPS_MIN = (0.4, 2, 2, 5, 15)


@dataclass(frozen=True, slots=True)
class Happening:
    """One thing that happens in a round, to sale ``subject`` (modulo those there are)."""

    kind: str
    subject: int

    def __str__(self) -> str:
        return SENTENCES[self.kind].format(n=self.subject, c=self.subject % 2)


@dataclass(frozen=True, slots=True)
class Round:
    """``minutes`` pass, then all of it happens, then a run."""

    minutes: float
    happenings: tuple[Happening, ...] = ()


@dataclass(frozen=True, slots=True)
class Story:
    """``sales``: one word per sale at first: ``linked`` | ``loose`` (its calls never say order or guest) | ``missed``
    (its create was never made). ``skew_s``: the main site's clock against ours. ``same_names``: ambiguous by design.
    """

    seed: int
    sales: tuple[str, ...]
    rounds: tuple[Round, ...]
    skew_s: int = 0
    same_names: bool = False

    @property
    def ambiguous(self) -> bool:
        """Whether held cases are to be expected: machines that only a name could tell apart."""
        return self.same_names

    def __str__(self) -> str:
        lines = [f"seed {self.seed}: sales {', '.join(f'{n} {kind}' for n, kind in enumerate(self.sales))}"]
        if self.same_names:
            lines.append("  all machines of a customer have one name and plan")
        if self.skew_s:
            lines.append(f"  the main site's clock is {self.skew_s} s off")
        for number, one in enumerate(self.rounds, 1):
            said = "; ".join(map(str, one.happenings)) or "nothing happens"
            lines.append(f"  round {number}, {one.minutes:g} min later: {said}")
        return "\n".join([*lines, "  then everything is well again, and stays so"])


def story_of(seed: int) -> Story:
    """The story of a seed: two to five sales, three to seven rounds of mischief."""
    dice = random.Random(seed)
    sales = tuple(dice.choice(("linked", "linked", "linked", "loose", "missed")) for _ in range(dice.randint(2, 5)))
    happenings: list[list[Happening]] = [[] for _ in range(dice.randint(3, 7))]
    # One sale has most of the trouble: what meets in one place is what breaks guards.
    focus = dice.randrange(len(sales))
    for number, here in enumerate(happenings):
        for _ in range(dice.choice((0, 1, 1, 2))):
            here.append(_some(dice, GOINGS_ON, focus, len(sales)))
        if dice.random() < 0.35:
            here.append(_some(dice, POSTS, focus, len(sales)))
        if dice.random() < 0.5:
            trouble = _some(dice, dice.choice((FEED, PROXMOX, BLINKS, RUNS)), focus, len(sales))
            rounds = dice.randint(1, 5) if trouble.kind in LASTING else dice.randint(1, 2)
            for later in happenings[number : number + rounds]:
                later.append(trouble)
    return Story(
        seed,
        sales,
        tuple(Round(dice.choice(STEPS_MIN), tuple(here)) for here in happenings),
        dice.choice((0, 0, -4000, 90)),
        dice.random() < 0.1,
    )


def _some(dice: random.Random, kinds: dict[str, str], focus: int, sales: int) -> Happening:
    subject = focus if dice.random() < 0.6 else dice.randrange(sales)
    return Happening(dice.choice(tuple(kinds)), subject)


def shrunk(story: Story, fails: Callable[[Story], bool]) -> Story:
    """The smallest story on the greedy way down from ``story`` that still fails."""
    again = True
    while again:
        again = False
        for smaller in _smaller(story):
            if fails(smaller):
                story, again = smaller, True
                break
    return story


def _smaller(story: Story) -> Iterator[Story]:
    for n in range(len(story.rounds)):
        yield replace(story, rounds=story.rounds[:n] + story.rounds[n + 1 :])
    if len(story.sales) > 1:
        yield replace(story, sales=story.sales[:-1])
    for n, one in enumerate(story.rounds):
        for m in range(len(one.happenings)):
            fewer = replace(one, happenings=one.happenings[:m] + one.happenings[m + 1 :])
            yield replace(story, rounds=(*story.rounds[:n], fewer, *story.rounds[n + 1 :]))
    if story.skew_s:
        yield replace(story, skew_s=0)
    if story.same_names:
        yield replace(story, same_names=False)
    for n, kind in enumerate(story.sales):
        if kind != "linked":
            yield replace(story, sales=(*story.sales[:n], "linked", *story.sales[n + 1 :]))
