"""One object that cannot be read or decided must not stop the others: what belongs together is left out together. Pure.

Everything is named by a subject: ``vps:12``, ``order:7041``, ``guest:main/101``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

from domain.changes import Plan
from domain.failures import Broken, Failure, Interrupts, Stage, cause_of, guest_ties, order_ties, record_ties
from domain.guests import Guest
from domain.records import Record
from reconcile.decision.cases import Case, Policy, World
from reconcile.decision.decide import Decision, assemble, decide
from reconcile.decision.matching.match import match
from reconcile.decision.power import power_plan

T = TypeVar("T")


@dataclass(slots=True)
class Planned:
    """A plan, what failed on the way, and the subjects about which it says nothing, or not all there is to say."""

    plan: Plan
    failures: list[Failure] = field(default_factory=list)
    left_out: set[str] = field(default_factory=set)


# --- what belongs together


def parts(world: World) -> list[World]:
    """The world cut into parts of which none can matter to another, but for guests that nobody names."""
    members: list[tuple[str, Any, frozenset[str]]] = [
        *(("orders", o, order_ties(o)) for o in world.orders),
        *(("guests", g, guest_ties(g)) for g in world.guests),
        *(("records", r, record_ties(r)) for r in world.records),
    ]
    groups: dict[int, dict[str, list[Any]]] = {}
    for (kind, value, _), root in zip(members, _roots([ties for *_, ties in members]), strict=True):
        groups.setdefault(root, {"orders": [], "guests": [], "records": []})[kind].append(value)
    return [
        replace(world, orders=tuple(one["orders"]), guests=tuple(one["guests"]), records=tuple(one["records"]))
        for one in groups.values()
    ]


def _roots(members: Sequence[frozenset[str]]) -> list[int]:
    """For each member the number that stands for its connected component."""
    parent = list(range(len(members)))

    def root(number: int) -> int:
        while parent[number] != number:
            parent[number] = parent[parent[number]]
            number = parent[number]
        return number

    first: dict[str, int] = {}
    for number, ties in enumerate(members):
        for tie in ties:
            parent[root(number)] = root(first.setdefault(tie, number))
    return [root(number) for number in range(len(members))]


def subjects_in(world: World) -> set[str]:
    """The subjects of all orders, guests and records of a world."""
    return (
        {f"order:{o.order_id}" for o in world.orders}
        | {f"guest:{g.key}" for g in world.guests}
        | {f"vps:{r.id}" for r in world.records}
    )


def without(world: World, ties: Iterable[str]) -> tuple[World, list[World]]:
    """(the world less every part that one of the ties reaches, those parts)."""
    reached = set(ties)
    if not reached:
        return world, []
    out: list[World] = []
    found = [(part, _reach(part)) for part in parts(world)]
    while hit := [pair for pair in found if pair[1] & reached]:  # a broken row may have been what tied two parts
        for part, reach in hit:
            out.append(part)
            reached |= reach
        hits = {id(pair) for pair in hit}
        found = [pair for pair in found if id(pair) not in hits]
    kept = [part for part, _ in found]
    return replace(
        world,
        orders=tuple(o for part in kept for o in part.orders),
        guests=tuple(g for part in kept for g in part.guests),
        records=tuple(r for part in kept for r in part.records),
    ), out


def _reach(part: World) -> frozenset[str]:
    ties = [*map(order_ties, part.orders), *map(guest_ties, part.guests), *map(record_ties, part.records)]
    return frozenset().union(*ties)


# --- planning


def isolated_plan(
    world: World,
    policy: Policy,
    held_back: Mapping[str, Stage],
    broken: Mapping[str, Broken],
    interrupts: Interrupts = (),
) -> Planned:
    """Match and decide; what raises is left out, with everything it belongs to, and named.

    ``held_back``: what failed lately and is not due again, with where: the plan says nothing of it, or, if only
    writing it failed, changes nothing of it. ``broken``: rows that could not be parsed, by subject.
    """
    made = Planned(Plan((), ()))
    made.failures += [Failure(s, Stage.LOAD, b.cause) for s, b in sorted(broken.items()) if s not in held_back]
    early = {subject for subject, stage in held_back.items() if stage in (Stage.LOAD, Stage.MATCH)}
    world, out = without(world, early.union(*(b.belongs for b in broken.values())))
    world = _unlike_whole(world, out, broken)
    try:
        cases = match(world, policy)
    except Exception as error:
        if isinstance(error, interrupts):
            raise
        world, failing = _without_failing(world, policy, made, interrupts)
        out += failing
        cases = match(_unlike_whole(world, failing, broken), policy)
    for part in out:
        made.left_out |= subjects_in(part)
    made.left_out |= broken.keys()
    plan = assemble(_decided(cases, world, policy, made, held_back, interrupts))
    made.plan = Plan(tuple(c for c in plan.changes if not c.subjects & held_back.keys()), plan.findings)
    return made


def _unlike_whole(world: World, out: Iterable[World], broken: Mapping[str, Broken]) -> World:
    """If a guest that nobody names was left out, it may be any: a record is taken for a twin of another one only if no
    guest could be its own."""
    alone = any(part.guests and not part.orders and not part.records for part in out)
    unread = any(subject.startswith("guest:") for subject in broken)
    return replace(world, left_out=replace(world.left_out, unnamed=None)) if alone or unread else world


def isolated_power(
    pairs: Iterable[tuple[Record, Guest]],
    world: World,
    policy: Policy,
    held_back: Mapping[str, Stage],
    broken: Mapping[str, Broken],
    interrupts: Interrupts = (),
) -> Planned:
    """The fast lane's plan, pair by pair: one that raises is left out and named."""
    made = Planned(Plan((), ()))
    made.failures += [Failure(s, Stage.LOAD, b.cause) for s, b in sorted(broken.items()) if s not in held_back]
    for record, guest in pairs:
        subject = f"vps:{record.id}"
        if subject in held_back:
            continue
        one = _guarded(partial(power_plan, [(record, guest)], world, policy), subject, made, interrupts)
        if one is not None:
            made.plan = Plan(made.plan.changes + one.changes, ())
    return made


def _without_failing(world: World, policy: Policy, made: Planned, interrupts: Interrupts) -> tuple[World, list[World]]:
    failing: set[str] = set()
    for part in parts(world):
        try:
            match(part, policy)
        except Exception as error:
            if isinstance(error, interrupts):
                raise
            subject = min(subjects_in(part), key=lambda s: (not s.startswith("vps:"), not s.startswith("order:"), s))
            made.failures.append(Failure(subject, Stage.MATCH, cause_of(error)))
            failing.add(subject)
    return without(world, failing)


def _decided(
    cases: Iterable[Case],
    world: World,
    policy: Policy,
    made: Planned,
    held_back: Mapping[str, Stage],
    interrupts: Interrupts,
) -> list[Decision]:
    undecided = {subject for subject, stage in held_back.items() if stage is Stage.DECIDE}
    decisions = []
    for case in cases:
        subjects = case_subjects(case)
        if undecided.intersection(subjects):
            made.left_out |= set(subjects)
            continue
        decision = _guarded(partial(decide, case, world, policy), subjects[0], made, interrupts)
        if decision is None or decision.waits:
            made.left_out |= set(subjects)
        if decision is not None:
            decisions.append(decision)
    return decisions


def _guarded(work: Callable[[], T], subject: str, made: Planned, interrupts: Interrupts) -> T | None:
    """What ``work`` returns; None, and a failure of that subject, if it raises."""
    try:
        return work()
    except Exception as error:
        if isinstance(error, interrupts):
            raise
        made.failures.append(Failure(subject, Stage.DECIDE, cause_of(error)))
        return None


def case_subjects(case: Case) -> tuple[str, ...]:
    """All that a case is about, the record first."""
    found = [f"vps:{r.id}" for r in (case.record, case.duplicate) if r is not None]
    found += [f"order:{case.order.order_id}"] if case.order is not None else []
    found += [f"guest:{case.guest_key}"] if case.guest_key is not None else []
    return tuple(found)
