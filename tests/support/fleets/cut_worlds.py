"""What is said of a part of a world, which a run took and left the rest, against what is said of it in the whole."""

from __future__ import annotations

import json
import re

from domain.changes import ChangePlan
from reconcile.decision.cases import Policy, World
from reconcile.decision.decide import plan
from reconcile.decision.failure_isolation import subjects_in
from reconcile.decision.matching.match import match

MAY_BE = re.compile(r"the unlinked VPS (\d+) of the same customer may be its own")
ANOTHER = "has another fingerprint than"
OF_DELETED = ("deleted-but-alive", "paid-but-missing", "ended-but-running")


def identities(plan_: ChangePlan) -> list[str]:
    """Changes and findings, comparable."""
    changes = [
        json.dumps(c.identity() | {"values": {k: str(v) for k, v in c.values.items()}}, sort_keys=True)
        for c in plan_.changes
    ]
    findings = [json.dumps([f.class_, f.subject, f.reason, f.severity]) for f in plan_.findings]
    return sorted(changes + findings)


def decided_as_in(whole: World, part: World, policy: Policy) -> None:
    """Of the part everything is said that is said in the whole, and nothing else.

    What was left may turn out to be somebody's, and until then it may be anybody's: an order without a record waits
    while an unlinked one may be its own, a rebuilt machine while it may be another order's.
    """
    expected, decided, here = plan(whole, policy), plan(part, policy), subjects_in(part)
    paired = [case for case in match(whole, policy) if case.order is not None]
    taken = {f"vps:{r.id}" for case in paired for r in (case.record, case.duplicate) if r is not None and r.live}
    waits = _waiting(decided, taken - here)
    about_part = _decided(decided, waits)
    assert about_part == _decided(decided, waits, here), "something is said of what was left"
    assert about_part == _decided(expected, waits, here)


def _waiting(plan_: ChangePlan, undecided: set[str]) -> set[str]:
    """The subjects of which nothing is decided before it is known whose these records are."""
    asked = [(f.subject, MAY_BE.search(f.reason)) for f in plan_.findings]
    waits = {subject for subject, record in asked if record and f"vps:{record[1]}" in undecided}
    return waits | {f.subject for f in plan_.findings if undecided and ANOTHER in f.reason}


def _decided(plan_: ChangePlan, waits: set[str], here: set[str] | None = None) -> list[str]:
    """What a plan says, but of those that wait; with ``here`` of those alone. A deleted record is spoken of for its
    order. Of several unlinked records that may be an order's own it is all one which is named."""

    def is_included(subject: str, order_id: str | None) -> bool:
        about = {subject} if order_id is None else {subject, f"order:{order_id}"}
        return not about & waits and (here is None or about <= here)

    changes = [c for c in plan_.changes if is_included(c.subject, c.order.order_id if c.order is not None else None)]
    findings = [f for f in plan_.findings if is_included(f.subject, f.order_id if f.class_ in OF_DELETED else None)]
    return [MAY_BE.sub("MAY BE", text) for text in identities(ChangePlan(tuple(changes), tuple(findings)))]
