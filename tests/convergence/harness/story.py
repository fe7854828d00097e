"""A story as data: who is there at first, and what happens in each round. Made from a seed, cut down when it fails."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

EVENTS: dict[str, str] = {
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
    "lock-forgotten": "sale {n}'s guest is locked, and the lock is never taken away",
    "twin": "sale {n}'s customer buys another machine; the create's answer is lost, and it is called once more",
    "clone": "sale {n}'s guest is copied with its uuid, or the copy is thrown away",
    "move": "sale {n}'s guest moves to the other cluster, and is seen in both for two rounds",
    "reinstall": "sale {n}'s guest is made anew at its address, for the same order",
    "provision": "sale {n} was pending, and is set up",
}
"""What truly happens, and what the main site calls the panel for."""

RARE: dict[str, str] = {
    "late-create": "sale {n}'s customer buys a machine; before its create arrives the order is removed, and its VMID "
    "is the next machine's, whose own create is lost",
    "resold": "sale {n}'s guest is destroyed and its VMID sold to another customer; both orders name it from then on, "
    "and the create is lost",
    "takeover": "sale {n} is removed, and its machine sold on to another customer, whose create is lost",
    "forbid": "the configuration of sale {n}'s guest may not be read any more, or again",
    "misaddress": "a call gives sale {n} the address of another machine",
    "renumber": "sale {n}'s guest gets another VMID, and its order names that",
}
"""What happens in one story of ten."""

IDENTITY_EVENTS: dict[str, str] = {
    "swap": "sale {n}'s guest is destroyed, and its VMID given at once to another customer's machine of the same name "
    "and size; its create names that address",
    "swap-paused": "the same, while an operator has paused that cluster; the create is lost",
    "swap-unread": "the same, while that cluster answers 401; the create is lost",
    "switch-there": "the guest at sale {n}'s address is switched over, and the fast lane runs twice",
    "conflict": "another customer's create names sale {n}'s guest, which is not his",
    "sold-on": "sale {n} is cancelled, and its machine sold on to another customer, whose create is lost",
    "template": "sale {n}'s guest is turned into a template",
}
"""Whose machine it is: in another story of ten, and then it is switched over in each of the next rounds."""

LATER_IDENTITY_EVENTS: dict[str, str] = {
    "swap-own": "sale {n}'s guest is destroyed, and its VMID given at once to the same customer's own new machine of "
    "the same name and size; the create is lost",
    "migrate-paused": "sale {n}'s guest moves to the other node while an operator has paused that cluster",
    "conflict-over": "another customer's create names sale {n}'s guest, and that order is cancelled at once",
    "claimed": "sale {n} is cancelled without a call, and its VMID is another customer's machine, whose order never "
    "names it, but whose create does",
    "swap-over": "sale {n} is cancelled, its VMID given at once to another customer's machine of the same name and "
    "size, whose create is lost; then an operator restores the record",
    "misnamed": "another customer's create names sale {n}'s guest, and his order none; then the VMID is a third one's",
    "template-moved": "sale {n}'s guest is turned into a template, under another VMID; then it is cancelled, and kept",
}
"""The same once more, as other people's reports have it: in a fourth story of ten."""

FIRST_SIGHT_EVENTS: dict[str, str] = {
    "unmade": "sale {n}'s customer buys another machine; its create is lost, and it is destroyed before anybody saw it",
    "unmade-vmid": "the VMID of the machine that was destroyed before anybody saw it is another customer's new "
    "machine; its create is lost",
    "feed-ends-early": "the order feed breaks off before the newest order",
}
"""A machine that is first seen long after an order named its address: in a fifth story of ten, one after the other."""

THEN = {"swap-over": "restore", "misnamed": "reuse", "template-moved": "cancel-keep"}
"""What follows in one of the next two rounds."""

UNDECIDABLE_EVENTS: dict[str, str] = {
    "odd-state": "sale {n}'s guest is listed in a state that says neither that it runs nor that it stands",
    "move-unread": "sale {n}'s guest moves to the other cluster, where its configuration may not be read",
}
"""What nobody can say: in a third story of ten. An odd state lasts some rounds; who moved is cancelled and kept later.
"""

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
    "feed-delta": "the order feed is asked only for what changed",
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
    "cut-off": "the worker dies after a run's write {n}",
    "fast-lane": "the fast lane runs twice before the full run",
    "pause-feed": "an operator has paused the main site",
    "pause-cluster": "an operator has paused cluster {c}",
}
SENTENCES = (
    EVENTS
    | RARE
    | IDENTITY_EVENTS
    | LATER_IDENTITY_EVENTS
    | FIRST_SIGHT_EVENTS
    | UNDECIDABLE_EVENTS
    | POSTS
    | FEED
    | PROXMOX
    | BLINKS
    | RUNS
)

LASTING = (
    "feed-hides", "feed-owner", "feed-status", "feed-empty", "feed-shrunk", "feed-delta", "pve-hides", "pve-moves",
    "pause-feed", "pause-cluster",
)  # fmt: skip
"""What lasts some rounds: lies long enough to look like a proof."""

SALES: dict[str, str] = {
    "linked": "its calls name order and guest",
    "loose": "its calls name neither order nor guest",
    "missed": "its create was never made",
    "pending": "its guest is not made yet",
    "vmware": "it runs where nothing can be seen of it",
}
NAMES: dict[str, str] = {
    "own": "every machine has a name of its own",
    "plans": "all machines of a customer have one name, but plans of their own",
    "equal": "all machines of a customer have one name and plan",
}

KINDS = (
    ("Sales at first", SALES), ("Names", NAMES), ("Events", EVENTS), ("In one story of ten", RARE),
    ("In another one of ten, whose machine it is", IDENTITY_EVENTS),
    ("In a third one of ten, what cannot be known", UNDECIDABLE_EVENTS),
    ("In a fourth one of ten, whose machine it is by now", LATER_IDENTITY_EVENTS),
    ("In a fifth one of ten, whose machine is seen first", FIRST_SIGHT_EVENTS),
    ("Calls", POSTS), ("The order feed", FEED), ("Proxmox", PROXMOX), ("Mistakes, soon mended", BLINKS), ("Runs", RUNS),
)  # fmt: skip
"""All that may happen, under a title."""

CUSTOMERS = 3
FIRST_SALES = (*("linked",) * 5, *("loose",) * 3, "missed", "missed", "pending", "vmware")
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
    """``sales``: one of SALES per sale at first. ``names``: one of NAMES. ``skew_s``: the main site's clock against
    ours. ``tells_ids``: whether the order feed names the panel's ids.
    """

    seed: int
    sales: tuple[str, ...]
    rounds: tuple[Round, ...]
    skew_s: int = 0
    names: str = "own"
    tells_ids: bool = True

    def __str__(self) -> str:
        lines = [f"seed {self.seed}: sales {', '.join(f'{n} {kind}' for n, kind in enumerate(self.sales))}"]
        if self.names != "own":
            lines.append(f"  {NAMES[self.names]}")
        if not self.tells_ids:
            lines.append("  the order feed names no panel ids")
        if self.skew_s:
            lines.append(f"  the main site's clock is {self.skew_s} s off")
        for number, round_ in enumerate(self.rounds, 1):
            events = "; ".join(map(str, round_.happenings)) or "nothing happens"
            lines.append(f"  round {number}, {round_.minutes:g} min later: {events}")
        return "\n".join([*lines, "  then everything is well again, and stays so"])


def story_of(seed: int) -> Story:
    """The story of a seed: two to five sales, three to seven rounds of mischief."""
    dice = random.Random(seed)
    sales = tuple(dice.choice(FIRST_SALES) for _ in range(dice.randint(2, 5)))
    happenings: list[list[Happening]] = [[] for _ in range(dice.randint(3, 7))]
    # One sale has most of the trouble: what meets in one place is what breaks guards.
    focus = dice.randrange(len(sales))
    for number, here in enumerate(happenings):
        for _ in range(dice.choice((0, 1, 1, 2))):
            here.append(_random_happening(dice, EVENTS, focus, len(sales)))
        if dice.random() < 0.35:
            here.append(_random_happening(dice, POSTS, focus, len(sales)))
        if dice.random() < 0.5:
            trouble = _random_happening(dice, dice.choice((FEED, PROXMOX, BLINKS, RUNS)), focus, len(sales))
            lasts = dice.randint(1, 5) if trouble.kind in LASTING else dice.randint(1, 2)
            for later in happenings[number : number + lasts]:
                later.append(trouble)
    minutes = [dice.choice(STEPS_MIN) for _ in happenings]
    skew_s, (names,), tells_ids = (
        dice.choice((0, 0, -4000, 90)),
        dice.choices(tuple(NAMES), (6, 3, 1)),
        dice.random() < 0.7,
    )
    if dice.random() < 0.1:
        happenings[dice.randrange(len(happenings))].append(_random_happening(dice, RARE, focus, len(sales)))
    # By dice of their own: other stories stay as they were.
    identity_events = [kind for kind in IDENTITY_EVENTS if kind != "switch-there"]
    _add_identity_event(random.Random(f"whose {seed}"), identity_events, happenings, focus)
    _add_identity_event(random.Random(f"again {seed}"), list(LATER_IDENTITY_EVENTS), happenings, focus)
    _add_undecidable_event(random.Random(f"unsaid {seed}"), happenings, focus)
    _add_first_sight(random.Random(f"first {seed}"), happenings, minutes, focus)
    rounds = tuple(Round(length, tuple(here)) for length, here in zip(minutes, happenings, strict=True))
    return Story(seed, sales, rounds, skew_s, names, tells_ids)


def _add_identity_event(dice: random.Random, kinds: list[str], happenings: list[list[Happening]], focus: int) -> None:
    if dice.random() >= 0.1:
        return
    at = dice.randrange(len(happenings) - 1)
    kind = dice.choice(kinds)
    happenings[at].append(Happening(kind, focus))
    if kind in THEN:
        dice.choice(happenings[at + 1 : at + 3]).append(Happening(THEN[kind], focus))
    for later in happenings[at + 1 :]:
        later.append(Happening("switch-there", focus))


def _add_undecidable_event(dice: random.Random, happenings: list[list[Happening]], focus: int) -> None:
    if dice.random() >= 0.1:
        return
    at = dice.randrange(len(happenings) - 1)
    if dice.random() < 0.5:
        for here in happenings[at : at + dice.randint(2, 4)]:
            here.append(Happening("odd-state", focus))
    else:
        happenings[at].append(Happening("move-unread", focus))
        happenings[dice.randrange(at + 1, len(happenings))].append(Happening("cancel-keep", focus))


def _add_first_sight(dice: random.Random, happenings: list[list[Happening]], minutes: list[float], focus: int) -> None:
    if dice.random() >= 0.1:
        return
    at = dice.randrange(len(happenings) - 1)
    happenings[at].append(Happening("unmade", focus))
    happenings[at + 1].insert(0, Happening("unmade-vmid", focus))
    minutes[at + 1] = max(minutes[at + 1], 5)
    for here in happenings[at:]:  # a feed that lies twice besides leaves nothing to go by
        here[:] = [h for h in here if h.kind not in FEED and h.kind != "two-runs"]
    for later in happenings[at + 1 : at + 1 + dice.randint(1, 3)]:
        later.append(Happening("feed-ends-early", focus))


def _random_happening(dice: random.Random, kinds: dict[str, str], focus: int, sales: int) -> Happening:
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
    for n, round_ in enumerate(story.rounds):
        for m in range(len(round_.happenings)):
            fewer = replace(round_, happenings=round_.happenings[:m] + round_.happenings[m + 1 :])
            yield replace(story, rounds=(*story.rounds[:n], fewer, *story.rounds[n + 1 :]))
    if story.skew_s:
        yield replace(story, skew_s=0)
    if story.names != "own":
        yield replace(story, names="own")
    if not story.tells_ids:
        yield replace(story, tells_ids=True)
    for n, kind in enumerate(story.sales):
        if kind != "linked":
            yield replace(story, sales=(*story.sales[:n], "linked", *story.sales[n + 1 :]))
