"""The repair policy and the limits of the settings, and others in their place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import get_args

from domain.changes import DELETES, Kind
from domain.repair_policy.budget import Budget, Handling
from panel.operator_error import OperatorError
from panel.setting_values import DriftClass
from panel.settings import Settings

CLASSES: tuple[str, ...] = (*get_args(DriftClass), "all")
"""The classes of ``REPAIR_POLICY``. ``all``: every class that is not named, and links."""

DELETE_CLASSES: tuple[str, ...] = tuple(kind.value for kind in Kind if kind in DELETES)
MODES: tuple[str, ...] = tuple(handling.value for handling in Handling)


def budget_of(settings: Settings) -> Budget:
    """The gate's limits."""
    return Budget(
        deletes_run=settings.budget_deletes_run,
        deletes_hour=settings.budget_deletes_hour,
        deletes_day=settings.budget_deletes_day,
        creates_min=settings.budget_creates_min,
        creates_share=settings.budget_creates_share,
        flips_min=settings.budget_flips_min,
        flips_share=settings.budget_flips_share,
        owners_run=settings.budget_owners_run,
        owners_day=settings.budget_owners_day,
        merges_run=settings.budget_merges_run,
        merges_day=settings.budget_merges_day,
        pushed_deletes_hour=settings.budget_pushed_deletes_hour,
    )


def handling_of(settings: Settings, policy: Mapping[str, str] | None = None) -> dict[Kind, Handling]:
    """How each class of drift is handled. "all" covers the classes that are not named, and links.

    A machine that goes to another customer (``sold-on``) is held, unless the policy names that class or ignores all.
    ``policy``: classes as if they had been written into ``REPAIR_POLICY``, beside what is there.
    """
    written = dict[str, str](settings.repair_policy.items()) | dict(policy or {})
    named = {Kind(name): Handling(how) for name, how in written.items() if name != "all"}
    rest = written.get("all")
    every = dict.fromkeys(Kind, Handling(rest)) if rest is not None else {}
    sold_on = {Kind.SOLD_ON: Handling.HOLD} if rest in (None, "repair") else {}
    return every | sold_on | named


def parse_policy(pairs: Iterable[str], classes: tuple[str, ...] = CLASSES) -> dict[str, str]:
    """The policy that pairs such as ``orphan=repair`` name. Raises OperatorError, which lists the right words."""
    policy: dict[str, str] = {}
    for pair in pairs:
        name, _, mode = pair.partition("=")
        policy[name] = mode
    return checked_policy(policy, classes)


def checked_policy(policy: Mapping[str, str], classes: tuple[str, ...] = CLASSES) -> dict[str, str]:
    """The same policy in the order of the classes. Raises OperatorError, which lists the right words."""
    if not policy:
        raise OperatorError("invalid", f"name a class and what to do with it, such as orphan={Handling.REPAIR}")
    for name, mode in policy.items():
        if name not in classes:
            raise OperatorError("invalid", f"there is no such class; the classes are: {', '.join(classes)}")
        if mode not in MODES:
            raise OperatorError("invalid", f"{name} can be handled in one of these ways: {', '.join(MODES)}")
    return {name: policy[name] for name in classes if name in policy}


def policy_text(policy: Mapping[str, str]) -> str:
    """A policy in one line: "orphan=repair, missed-delete=hold"."""
    return ", ".join(f"{name}={mode}" for name, mode in policy.items())
