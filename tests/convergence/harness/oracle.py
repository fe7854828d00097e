"""What must hold whatever happens: judged from the truth alone, never from the code under test."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from domain.guests import GuestKey, PowerState
from tests.convergence.harness.shown import Shown
from tests.convergence.harness.truth import USERS, Sale, Truth

Row = Mapping[str, Any]
_THE_ORDERS = (
    "id", "user_id", "order_id", "order_state", "name", "cpu", "ram_mb", "disk_gb", "os", "hypervisor", "ip6_address",
    "deleted_at", "merged_into", "missing_since",
)  # fmt: skip
LOCK_PROTECTS = timedelta(hours=2)
_NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(slots=True)
class Oracle:
    """Knows which sale each record was made for, and what was shown. ``wrong``: every violation, as sentences."""

    truth: Truth
    sale_of: dict[int, Sale] = field(default_factory=dict)
    called_at: dict[int, datetime] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def after_run(
        self,
        before: Mapping[int, Row],
        after: Mapping[int, Row],
        shown: Shown,
        now: datetime,
        *,
        approved: bool,
        fast: bool = False,
    ) -> None:
        """Compare the records before and after a run's writes. ``approved``: an operator let held sets through.
        ``fast``: the run was the fast lane's."""
        deleted: list[Row] = []
        for vps_id, row in after.items():
            old = before.get(vps_id)
            if old is row:
                continue
            if (old is None or old["version"] != row["version"]) and (fast or shown.paused.feed):
                self._by_guest_alone(old or {}, row, "the fast lane" if fast else "a run without the main site")
            if old is not None and old["version"] != row["version"] and self.called_at.get(vps_id, _NEVER) > shown.at:
                self.wrong.append(f"VPS {vps_id} was written by a run that had looked before the last call")
            if old is None:
                self._created(row, before)
            elif old["deleted_at"] is None and row["deleted_at"] is not None:
                if row["merged_into"] is None:
                    deleted.append(row)
                    self._deleted(row, now)
                elif not self._one_machine(row, self.sale_of[vps_id], self.sale_of[row["merged_into"]]):
                    self.wrong.append(f"VPS {vps_id} was merged into another machine's VPS {row['merged_into']}")
            elif old["version"] != row["version"]:
                merging = any(r["merged_into"] == vps_id and before.get(i) is not r for i, r in after.items())
                self._changed(old, row, shown, merging=merging)
            if row["deleted_at"] is None and row["status"] != status(row):
                self.wrong.append(f"VPS {vps_id} reads {row['status']}, its facts say {status(row)}")
        if not approved:
            self._counted(deleted, before)

    def _created(self, row: Row, before: Mapping[int, Row]) -> None:
        sale = next((s for s in self.truth.sales if s.order_id == row["order_id"]), None)
        if sale is None or not sale.going or sale.state == "pending":
            self.wrong.append(f"VPS {row['id']} was made for order {row['order_id']}, which does not go on")
            return
        own_records = [r["id"] for i, r in before.items() if self.sale_of[i] is sale and r["deleted_at"] is None]
        if own_records and self.truth.story.names != "equal":
            self.wrong.append(
                f"VPS {row['id']} was made for order {sale.order_id}, whose record is VPS {own_records[0]}"
            )
        self.sale_of[row["id"]] = sale
        self._owner(row, sale)
        self._guest(row, sale)

    def _deleted(self, row: Row, now: datetime) -> None:
        sale = self.sale_of[row["id"]]
        if row["protected_until"] is not None and row["protected_until"] > now:
            self.wrong.append(f"VPS {row['id']} was deleted though an operator had restored it")
        if sale.going:
            self.wrong.append(f"VPS {row['id']} was deleted though order {sale.order_id} goes on")
        elif self.truth.buyer_of(sale) is not None and row["fingerprint"] is None:
            return  # it had given up the machine, which is the buyer's
        elif sale.machine.there and row["fingerprint"] in (None, sale.machine.fingerprint):
            self.wrong.append(f"VPS {row['id']} was deleted though its guest {sale.machine.key} exists")

    def _changed(self, old: Row, row: Row, shown: Shown, *, merging: bool) -> None:
        sale = self.sale_of[row["id"]]
        if old["user_id"] != row["user_id"]:
            self._owner(row, sale)
            if not _shown_earlier(shown, sale):
                self.wrong.append(f"VPS {row['id']} changed its owner on a single sight")
        if row["order_id"] not in (old["order_id"], sale.order_id) and not self._alike(row["order_id"], row):
            self.wrong.append(f"VPS {row['id']} was linked to order {row['order_id']}, it is {sale.order_id}'s")
        if (old["cluster"], old["vmid"], old["fingerprint"]) != (row["cluster"], row["vmid"], row["fingerprint"]):
            self._guest(row, sale)
        if merging:
            return
        if old["power_state"] != row["power_state"]:
            self._power(old, row, sale, shown)
            self._buyers_own(row, sale)
        if old["order_state"] != row["order_state"]:
            self._order_state(row, sale, shown)
        there = sale.machine.there and not sale.misnamed  # whose call named another guest is missed where that was
        if old["missing_since"] is None and row["missing_since"] is not None and (there or not sale.going):
            self.wrong.append(f"VPS {row['id']} reads error: missing, yet its guest is there or nobody pays for it")

    def _by_guest_alone(self, old: Row, row: Row, name: str) -> None:
        """Only what the guest itself shows may be written where no order was asked."""
        columns = {c for c, value in row.items() if old.get(c) != value} & set(_THE_ORDERS)
        if columns:
            self.wrong.append(f"VPS {row['id']}: {name} changed {', '.join(sorted(columns))}")

    def _one_machine(self, row: Row, lost: Sale, kept: Sale) -> bool:
        return lost is kept or (lost.twin and self._alike(kept.order_id, row))

    def _alike(self, order_id: str | None, row: Row) -> bool:
        """Of one customer's machines with one name nobody can say which is which: only its owner must be right."""
        other = next((s for s in self.truth.sales if s.order_id == order_id), None)
        return self.truth.story.names == "equal" and other is not None and USERS[other.owner] == row["user_id"]

    def _owner(self, row: Row, sale: Sale) -> None:
        if row["user_id"] != USERS[sale.owner]:
            self.wrong.append(f"VPS {row['id']} was given to user {row['user_id']}, it is user {USERS[sale.owner]}'s")

    def _guest(self, row: Row, sale: Sale) -> None:
        if row["fingerprint"] is None or row["fingerprint"] == sale.machine.fingerprint:
            return
        other = next((s for s in self.truth.sales if s.machine.fingerprint == row["fingerprint"]), None)
        if other is None or not self._alike(other.order_id, row):
            self.wrong.append(f"VPS {row['id']} was linked to {row['fingerprint']}, it is {sale.machine.fingerprint}")

    def _power(self, old: Row, row: Row, sale: Sale, shown: Shown) -> None:
        key, new = sale.machine.key, PowerState(row["power_state"])
        where = GuestKey(row["cluster"], row["vmid"]) if row["vmid"] is not None else key
        if self.truth.story.names == "equal" or where == sale.machine.left:
            key = where
        locked_at = sale.machine.locked_at
        if key in sale.machine.keys and locked_at is not None and shown.at - locked_at < LOCK_PROTECTS:
            self.wrong.append(f"VPS {row['id']} was made {new.value} while {key} is locked")
        order = shown.orders.get(sale.order_id)
        alike = self.truth.story.names == "equal"
        if new is shown.powers.get(key) and (alike or shown.stood[key] is sale.machine):
            if old["power_state"] == "running" and not _seen_earlier(shown, key, new):
                self.wrong.append(f"VPS {row['id']} reads {new.value} after a single sight of it")
        elif row["vmid"] is not None or order is None or order[0].status != new.value:
            self.wrong.append(f"VPS {row['id']} was made {new.value}, which nothing trusted showed of {key}")

    def _buyers_own(self, row: Row, sale: Sale) -> None:
        """What a machine does after it was sold on is the buyer's, once the record says that its order ended."""
        buyer = self.truth.buyer_of(sale)
        if buyer is not None and row["order_state"] == "ended":
            self.wrong.append(f"VPS {row['id']} shows what {sale.machine.key} does, which is order {buyer.order_id}'s")

    def _order_state(self, row: Row, sale: Sale, shown: Shown) -> None:
        last = shown.last_order(sale.order_id)
        if self.truth.story.names == "equal":
            return
        if last is None or last[0].state.value != row["order_state"]:
            self.wrong.append(f"VPS {row['id']}'s order became {row['order_state']}, which the feed did not show")
        elif last[1] is None or last[2] - timedelta(seconds=last[1]) <= self.called_at.get(row["id"], _NEVER):
            self.wrong.append(f"VPS {row['id']}'s order became {row['order_state']} by a read older than a call")

    def _counted(self, deleted: Iterable[Row], before: Mapping[int, Row]) -> None:
        """More than a share of what one customer has, in one run: only where an operator looked."""
        by_user: dict[int, int] = {}
        for row in deleted:
            by_user[row["user_id"]] = by_user.get(row["user_id"], 0) + 1
        for user, count in by_user.items():
            has = sum(r["user_id"] == user and r["deleted_at"] is None for r in before.values())
            if count > max(1, has * 0.2):
                self.wrong.append(f"{count} of user {user}'s {has} machines were deleted in one run")


def _seen_earlier(shown: Shown, key: GuestKey, power: PowerState) -> bool:
    """Whether the trusted list of that cluster before this one showed the same."""
    before = shown.earlier
    while before is not None and not any(k.cluster == key.cluster for k in before.powers):
        before = before.earlier
    return before is not None and before.powers.get(key) is power and before.stood[key] is shown.stood[key]


def _shown_earlier(shown: Shown, sale: Sale) -> bool:
    """Whether the feed showed this owner before, too."""
    before = shown.earlier.last_order(sale.order_id) if shown.earlier is not None else None
    return before is not None and before[0].owner == sale.owner


def status(row: Row) -> str:
    """What a client must read, spelt out once more."""
    if row["order_state"] == "suspended":
        return "suspended"
    if row["missing_since"] is not None:
        return "error"
    if row["order_state"] == "pending" or row["power_state"] == "unknown":
        return "creating"
    return str(row["power_state"])
