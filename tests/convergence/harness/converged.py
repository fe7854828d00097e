"""The end of a story: what still differs from the truth, and whether a finding of an expected class names it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from domain.changes import Finding
from tests.convergence.harness.truth import USERS, Sale, Truth

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Differences:
    """``held``: differences that somebody is told of, as they should; ``unnamed``: those nobody is told of."""

    held: tuple[str, ...]
    unnamed: tuple[str, ...]


def differences(
    truth: Truth, rows: Mapping[int, Row], sale_of: Mapping[int, Sale], findings: Iterable[Finding]
) -> Differences:
    """Compare every sale with its records."""
    open_findings = list(findings)
    held: list[str] = []
    unnamed: list[str] = []
    for sale in truth.sales:
        if (buyer := truth.buyer_of(sale)) is not None:
            own_rows = [r for i, r in rows.items() if sale_of[i] is sale and r["deleted_at"] is None]
            unnamed += [
                f"{_name(sale)}: VPS {r['id']} still has the machine of order {buyer.order_id}"
                for r in own_rows
                if r["fingerprint"] == sale.machine.fingerprint
                and not _at_the_copy(sale, r)
                and not any(f.class_ in _HOLDING | {"sold-on"} and f.vps_id == r["id"] for f in open_findings)
            ]
            continue
        own_rows = [r for i, r in rows.items() if _sale_of(truth, r, sale_of[i]) is sale and r["merged_into"] is None]
        live = [r for r in own_rows if r["deleted_at"] is None]
        classes = {f.class_ for f in _findings_of(sale, own_rows, open_findings)}
        if (expected_class := _situation(sale, own_rows, live)) is not None:
            instead = _INSTEAD | ({"order-vanished"} if sale.muddled else set())
            if sale.state == "cancelled" and not sale.listed:
                instead |= {"ended-but-running"}  # the panel may have seen the end before the order was removed
            if sale.state == "cancelled" and sale.machine.reinstalls:
                instead |= {"unmanaged-guest"}  # made anew, and its order ended before it was taken for its own
            if expected_class not in classes and not classes & instead:
                unnamed.append(f"{_name(sale)}: no finding {expected_class} (found: {sorted(classes)})")
            if not live or expected_class in _NO_MORE:
                continue
        wrong = _difference(sale, live)
        if wrong is None:
            continue
        holding = _HOLDING | _DOUBTED if any(s.machine.forbidden for s in truth.sales) else _HOLDING
        holding = holding | _NAMELESS if sale.going and not sale.placed else holding
        if classes & holding:
            why = {
                f"{f.class_}: {f.reason}" for f in _findings_of(sale, own_rows, open_findings) if f.class_ in holding
            }
            if any(r["protected_until"] is not None for r in live):
                continue  # an operator wanted it so
            held.append(f"{_name(sale)}: {wrong}; held as {sorted(why)}")
        else:
            unnamed.append(f"{_name(sale)}: {wrong} (found: {sorted(classes)})")
    unnamed += [
        f"the copy {s.clone.key} of {s.machine.key} has no finding"
        for s in truth.sales
        if s.clone is not None and not any(f.class_ in _copied(s) and f.vmid == s.clone.key.vmid for f in open_findings)
    ]
    unnamed += [
        f"guest {m.key} that nobody sold has no finding"
        for m in truth.strays
        if not any(
            f.class_ == "unmanaged-guest" and (f.cluster, f.vmid) == (m.key.cluster, m.key.vmid) for f in open_findings
        )
    ]
    return Differences(tuple(held), tuple(unnamed))


def _sale_of(truth: Truth, row: Row, made_for: Sale) -> Sale:
    """Of one customer's equal machines, a record may become that of another."""
    if truth.story.names != "equal":
        return made_for
    alike = (s for s in truth.sales if s.order_id == row["order_id"] and USERS[s.owner] == row["user_id"])
    return next(alike, made_for)


_HOLDING = {
    "ambiguous",
    "delete-held",
    "unlinked-record",
    "order-vanished",
    "held",
    "link-conflict",
    "not-confirmed",
    "guest-unseen",
    "unverified-guest",
    "is-template",
    "sold-on",
}
"""Findings that say: this is not right, and it takes a person."""
_DOUBTED = {"paid-but-missing"}
"""Told, but no client reads "error": while one guest may not be read, it may be any of them that is missed."""
_NAMELESS = {"unmanaged-guest", "paid-but-missing"}
"""Of an order that names no guest, and whose create was lost or wrong, nobody can say which machine is its own."""
_INSTEAD = {"ambiguous", "delete-held", "unlinked-record", "guest-unseen", "duplicate-fingerprint"}
_NO_MORE = {"deleted-but-alive", "guest-without-order", "unmanaged-guest"}


def _copied(sale: Sale) -> set[str]:
    """Of one that may not be read any more its copy is all that is seen: without an order it passes for the machine,
    and once the record has given that up, for nobody's."""
    alone = {"moving", "unmanaged-guest"} | (set() if sale.listed else {"guest-without-order"})
    beside = {"moving"} if sale.machine.template else set()  # a machine and a template: each may be the one that moved
    return {"duplicate-fingerprint"} | beside | (alone if sale.machine.forbidden else set())


def _at_the_copy(sale: Sale, row: Row) -> bool:
    """Whether a record took the copy for a machine that may not be read any more, as anybody would."""
    copy = sale.clone.key if sale.clone is not None and sale.machine.forbidden else None
    return copy is not None and (row["cluster"], row["vmid"]) == (copy.cluster, copy.vmid)


def _name(sale: Sale) -> str:
    return f"order {sale.order_id} ({sale.state}{'' if sale.listed else ', removed'}, guest {sale.machine.key}" + (
        ")" if sale.machine.there else " gone)"
    )


def _findings_of(sale: Sale, own_rows: list[Row], open_findings: list[Finding]) -> list[Finding]:
    ids = {r["id"] for r in own_rows}
    key = (sale.machine.key.cluster, sale.machine.key.vmid)
    return [
        f
        for f in open_findings
        if f.vps_id in ids or f.order_id == sale.order_id or ((f.cluster, f.vmid) == key and f.vps_id is None)
    ]


def _situation(sale: Sale, own_rows: list[Row], live: list[Row]) -> str | None:
    """The finding that the truth itself asks for."""
    there = sale.machine.there
    if there and sale.machine.template and sale.state != "pending" and (sale.going or live):
        return "is-template" if not (sale.going and own_rows and not live) else "deleted-but-alive"
    if there and sale.machine.template and sale.state != "pending":
        return None
    if sale.state == "pending":
        return "stuck-creating" if sale.listed else None
    if sale.machine.hidden and not sale.listed:
        return "order-vanished" if live else None
    if sale.going and own_rows and not live:
        return "deleted-but-alive" if there else None
    if sale.going:
        return None if there else "paid-but-missing"
    if there and sale.listed:
        return "ended-but-running"
    if there:
        return "guest-without-order" if live else "unmanaged-guest"
    return None


def _difference(sale: Sale, live: list[Row]) -> str | None:
    if not live:
        return None if not sale.going or not sale.machine.there else "it has no record"
    if len(live) > 1:
        return f"it has {len(live)} records"
    row = live[0]
    if not sale.going and not sale.machine.there:
        return f"VPS {row['id']} is still there"
    if sale.state == "pending":
        return None
    state = {"active": "active", "suspended": "suspended", "cancelled": "ended"}[sale.state]
    expected = {
        "user_id": USERS[sale.owner],
        "order_id": sale.order_id,
        "order_state": state,
        "cpu": sale.cpu if sale.going else row["cpu"],
        "name": sale.name,
        "ip6_address": (sale.ip6_address if sale.going else None) or row["ip6_address"],
    }
    if not sale.going:
        expected["user_id"] = row["user_id"]
    if sale.machine.hidden:
        expected |= {"power_state": sale.machine.power.value, "missing_since": None} if sale.state == "active" else {}
    elif sale.machine.there and not sale.going and row["fingerprint"] is None:
        pass  # whose identity nobody read while the order went on may be the next one's machine
    elif sale.machine.there:
        expected |= {
            "power_state": sale.machine.power.value, "fingerprint": sale.machine.fingerprint,
            "node": sale.machine.node, "missing_since": None,
        }  # fmt: skip
        if sale.machine.forbidden:
            del expected["fingerprint"]  # nobody can say
    elif row["missing_since"] is None:
        return f"VPS {row['id']} does not read missing"
    wrong = [f"{k} is {row[k]}, not {v}" for k, v in expected.items() if row[k] != v]
    return f"VPS {row['id']}: {', '.join(wrong)}" if wrong else None
