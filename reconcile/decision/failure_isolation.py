"""One object that cannot be read or decided must not stop the others. It is left out with all that belongs to it. Pure.

A subject names each object: ``vps:12``, ``order:7041``, ``guest:main/101``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

from domain.changes import Change, ChangePlan
from domain.failures import Broken, Failure, Interrupts, Stage, cause_of, guest_ties, order_ties, record_ties
from domain.guests import Guest
from domain.orders import may_be_on_proxmox
from domain.records import LinkState, Record
from reconcile.decision.cases import Case, Policy, World
from reconcile.decision.decide import Decision, assemble, decide, in_order
from reconcile.decision.matching.match import match
from reconcile.decision.matching.order_traits import has_ended
from reconcile.decision.power import power_plan

T = TypeVar("T")


@dataclass(slots=True)
class Planned:
    """A plan, the failures of making it, and the subjects about which it says nothing, or not all there is to say."""

    plan: ChangePlan
    failures: list[Failure] = field(default_factory=list)
    left_out: set[str] = field(default_factory=set)


# --- what belongs together


def parts(world: World) -> list[World]:
    """The world, cut into parts that do not affect each other. Only a guest that no order and no record names, an order
    without a guest and a record in dispute over an address may matter to every part."""
    members: list[tuple[str, Any, frozenset[str]]] = [
        *(("orders", o, order_ties(o)) for o in world.orders),
        *(("missed_orders", o, order_ties(o)) for o in world.missed_orders),
        *(("guests", g, guest_ties(g)) for g in world.guests),
        *(("records", r, record_ties(r)) for r in world.records),
    ]
    groups: dict[int, dict[str, list[Any]]] = {}
    for (kind, value, _), root in zip(members, _roots([ties for *_, ties in members]), strict=True):
        groups.setdefault(root, {kind: [] for kind in _MEMBERS})[kind].append(value)
    return [
        replace(world, **{kind: tuple(values) for kind, values in group.items()})  # type: ignore[arg-type]
        for group in groups.values()
    ]


_MEMBERS = ("orders", "missed_orders", "guests", "records")
"""The fields of a world that hold objects which belong together."""


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
        {f"order:{o.order_id}" for o in world.claiming_orders}
        | {f"guest:{g.key}" for g in world.guests}
        | {f"vps:{r.id}" for r in world.records}
    )


def without(world: World, ties: Iterable[str]) -> tuple[World, list[World]]:
    """(the world without every part that one of the ties reaches, those parts)."""
    reached = set(ties)
    if not reached:
        return world, []
    out: list[World] = []
    left = [(part, _reach(part)) for part in parts(world)]
    while hit := [pair for pair in left if pair[1] & reached]:  # a broken row may have tied two parts together
        for part, reach in hit:
            out.append(part)
            reached |= reach
        hits = {id(pair) for pair in hit}
        left = [pair for pair in left if id(pair) not in hits]
    kept = [part for part, _ in left]
    return replace(
        world,
        orders=tuple(o for part in kept for o in part.orders),
        missed_orders=tuple(o for part in kept for o in part.missed_orders),
        guests=tuple(g for part in kept for g in part.guests),
        records=tuple(r for part in kept for r in part.records),
    ), out


def _reach(part: World) -> frozenset[str]:
    ties = [*map(order_ties, part.claiming_orders), *map(guest_ties, part.guests), *map(record_ties, part.records)]
    return frozenset().union(*ties)


# --- planning


def isolated_plan(
    world: World,
    policy: Policy,
    held_back: Mapping[str, Stage],
    broken: Mapping[str, Broken],
    interrupts: Interrupts = (),
) -> Planned:
    """Match and decide. An object that raises is left out, with all that belongs to it, and is named as a failure.

    ``held_back``: subjects that failed lately and are not due again, and the stage at which each failed. The plan says
    nothing about them. If only the write of one failed, its findings stay in the plan, and its changes are left out.
    ``broken``: rows that could not be parsed, by subject.
    """
    planned = Planned(ChangePlan((), ()))
    planned.failures += [Failure(s, Stage.LOAD, b.cause) for s, b in sorted(broken.items()) if s not in held_back]
    early = {subject for subject, stage in held_back.items() if stage in (Stage.LOAD, Stage.MATCH)}
    world, out = without(world, early.union(*(b.belongs for b in broken.values())))
    world = _unsure_of(world, out, broken)
    try:
        cases = match(world, policy)
    except Exception as error:
        if isinstance(error, interrupts):
            raise
        world, failing = _without_failing(world, policy, planned, interrupts)
        out += failing
        cases = match(_unsure_of(world, failing, broken), policy)
    for part in out:
        planned.left_out |= subjects_in(part)
    planned.left_out |= broken.keys()
    plan = assemble(_decided(cases, world, policy, planned, held_back, interrupts))
    planned.plan = ChangePlan(tuple(c for c in plan.changes if not c.subjects & held_back.keys()), plan.findings)
    return planned


def _unsure_of(world: World, out: Collection[World], broken: Mapping[str, Broken]) -> World:
    """The same world, in which what was left out may be anybody's.

    No record counts as the twin of another if a guest that nothing names was left out: that guest may be the machine of
    the record that looks like a twin. And no machine counts as made anew for its order if an order without a guest, or
    a record in dispute over an address, was left out: the machine may be that one's. ``out``: the parts that were left
    out. ``broken``: rows that could not be parsed, by subject.
    """
    left = world.left_out
    alone = any(part.guests and not part.claiming_orders and not part.records for part in out)
    if alone or any(subject.startswith("guest:") for subject in broken):
        left = replace(left, unnamed=None)
    if any(map(_may_want_a_guest, out)) or any(subject.startswith(("order:", "vps:")) for subject in broken):
        left = replace(left, disputed=True)
    return replace(world, left_out=left) if left is not world.left_out else world


def _may_want_a_guest(part: World) -> bool:
    """Whether an order that has not ended has no guest there, neither named nor linked, or a record is in dispute."""
    identified = [r for r in part.records if r.live and r.fingerprint is not None]
    served = {r.order_id for r in identified} | {f"vps:{r.id}" for r in identified}
    wanting = (o for o in part.claiming_orders if not has_ended(o) and o.guest_key is None and may_be_on_proxmox(o))
    return any(r.live and r.link_state is LinkState.CONFLICT for r in part.records) or any(
        o.order_id not in served and f"vps:{o.panel_vps_id}" not in served for o in wanting
    )


def isolated_power(
    pairs: Iterable[tuple[Record, Guest]],
    world: World,
    policy: Policy,
    held_back: Mapping[str, Stage],
    broken: Mapping[str, Broken],
    interrupts: Interrupts = (),
) -> Planned:
    """The fast lane's plan, pair by pair. A pair that raises is left out and named as a failure."""
    planned, changes = Planned(ChangePlan((), ())), list[Change]()
    planned.failures += [Failure(s, Stage.LOAD, b.cause) for s, b in sorted(broken.items()) if s not in held_back]
    for record, guest in pairs:
        subject = f"vps:{record.id}"
        if subject in held_back:
            continue
        plan = _guarded(partial(power_plan, [(record, guest)], world, policy), subject, planned, interrupts)
        if plan is not None:
            changes += plan.changes
    planned.plan = ChangePlan(in_order(changes), ())
    return planned


def _without_failing(
    world: World, policy: Policy, planned: Planned, interrupts: Interrupts
) -> tuple[World, list[World]]:
    failing: set[str] = set()
    for part in parts(world):
        try:
            match(part, policy)
        except Exception as error:
            if isinstance(error, interrupts):
                raise
            subject = min(subjects_in(part), key=lambda s: (not s.startswith("vps:"), not s.startswith("order:"), s))
            planned.failures.append(Failure(subject, Stage.MATCH, cause_of(error)))
            failing.add(subject)
    return without(world, failing)


def _decided(
    cases: Iterable[Case],
    world: World,
    policy: Policy,
    planned: Planned,
    held_back: Mapping[str, Stage],
    interrupts: Interrupts,
) -> list[Decision]:
    undecided = {subject for subject, stage in held_back.items() if stage is Stage.DECIDE}
    decisions = []
    for case in cases:
        subjects = case_subjects(case)
        if undecided.intersection(subjects):
            planned.left_out |= set(subjects)
            continue
        decision = _guarded(partial(decide, case, world, policy), subjects[0], planned, interrupts)
        if decision is None or decision.waits:
            planned.left_out |= set(subjects)
        if decision is not None:
            decisions.append(decision)
    return decisions


def _guarded(work: Callable[[], T], subject: str, planned: Planned, interrupts: Interrupts) -> T | None:
    """What ``work`` returns. If it raises: None, and a failure of that subject."""
    try:
        return work()
    except Exception as error:
        if isinstance(error, interrupts):
            raise
        planned.failures.append(Failure(subject, Stage.DECIDE, cause_of(error)))
        return None


def case_subjects(case: Case) -> tuple[str, ...]:
    """All that a case is about, the record first."""
    subjects = [f"vps:{r.id}" for r in (case.record, case.duplicate) if r is not None]
    subjects += [f"order:{case.order.order_id}"] if case.order is not None else []
    subjects += [f"guest:{case.guest_key}"] if case.guest_key is not None else []
    return tuple(subjects)
