"""The panel's records without a database: sync calls in VPS queues, and repairs with compare-and-set.

Rows are the real ones, and what calls and repairs make of them are the panel's own pure functions; only the locking
and the SQL of panel/journal/writer.py and panel/journal/repairs.py are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from typing import Any

from domain.changes import Change, Create, Delete, Merge, Unlink, Update
from domain.guests import GuestKey, GuestType, PowerState
from domain.orders import OrderState
from domain.records import LinkState, Record
from panel.journal.repairs import NotWritten, Written, changed_row, inherited
from panel.records.projection import Row, in_conflict, new_row, repaired_row, updated_row, with_status
from reconcile.decision.gate import GateContext
from tests.convergence.harness.truth import Call

Queued = tuple[Call, int, datetime]
"""An accepted call, its record's id and when it was accepted."""

_FIELDS = tuple(f.name for f in fields(Record) if f.name != "in_flight")
_ENUMS: dict[str, Any] = {
    "order_state": OrderState, "power_state": PowerState, "link_state": LinkState, "guest_type": GuestType,
}  # fmt: skip


@dataclass(slots=True)
class Ledger:
    """Rows by id, who waits in which queue, and which order is claimed by which id."""

    rows: dict[int, Row] = field(default_factory=dict)
    claims: dict[str, int] = field(default_factory=dict)
    queue: list[Queued] = field(default_factory=list)
    ids: int = 0
    deletes: list[datetime] = field(default_factory=list)
    owners: list[datetime] = field(default_factory=list)
    cache: dict[int, tuple[int, bool, Record]] = field(default_factory=dict)
    called: set[GuestKey] = field(default_factory=set)  # addresses that calls began or ceased to name

    # --- sync calls

    def accept(self, call: Call, at: datetime, *, answered: bool = True) -> int | None:
        """Take a call as the API does; the main site learns the id from the answer, if it gets there."""
        if call.action == "create":
            vps_id = self._create_id(call)
            if answered:
                call.sale.panel_id = vps_id
            if not any(q[1] == vps_id for q in self.queue) and vps_id not in self.rows:
                self.queue.append((call, vps_id, at))
            return vps_id
        if call.sale.panel_id is None:
            return None
        vps_id = self.follow(call.sale.panel_id)
        self.queue.append((call, vps_id, at))
        return vps_id

    def _create_id(self, call: Call) -> int:
        order_id = call.payload.get("order_id")
        claimed = self.claims.get(order_id) if order_id is not None else None
        if claimed is not None and self._head_lives(self.follow(claimed)):
            return self.follow(claimed)
        self.ids += 1
        if order_id is not None:
            self.claims[order_id] = self.ids
        return self.ids

    def _head_lives(self, vps_id: int) -> bool:
        row = self.rows.get(vps_id)
        ending = any(q[1] == vps_id and q[0].action == "delete" for q in self.queue)
        return not ending and (row is None or row["deleted_at"] is None)

    def follow(self, vps_id: int) -> int:
        """The record that a merged id stands for."""
        while (row := self.rows.get(vps_id)) is not None and row["merged_into"] is not None:
            vps_id = row["merged_into"]
        return vps_id

    def apply_calls(self) -> None:
        """Apply everything accepted, in the order of acceptance; what must wait for another queue stays."""
        for queued in list(self.queue):
            if self._apply_call(*queued):
                self.queue.remove(queued)

    def _apply_call(self, call: Call, vps_id: int, at: datetime) -> bool:
        row = self.rows.get(vps_id)
        if call.action == "create" and row is None:
            row = new_row(vps_id, call.payload, at)
            if row["order_id"] is not None and self._holder(row["order_id"], vps_id) is not None:
                return False  # the order's former record is about to be deleted
            self._note_called(call, None)
            self._store(None, self._without_conflict(row, None))
        elif row is not None and row["deleted_at"] is None and call.action == "update":
            self._note_called(call, row)
            self._store(row, self._without_conflict(updated_row(row, call.payload, at), row))
        elif row is not None and row["deleted_at"] is None and call.action == "delete":
            self._store(row, row | {"deleted_at": at, "deleted_reason": "sync", "updated_at": at, "last_sync_at": at})
        return True

    def _note_called(self, call: Call, before: Row | None) -> None:
        named = call.payload.get("cluster"), call.payload.get("vmid")
        had = (before["cluster"], before["vmid"]) if before is not None else (None, None)
        if named[1] is not None and named != had:
            self.called |= {GuestKey(str(cluster), int(vmid)) for cluster, vmid in (named, had) if vmid is not None}

    def _without_conflict(self, row: Row, before: Row | None) -> Row:
        if row["vmid"] is None or row["link_state"] != "pushed" or not self._linked(row["cluster"], row["vmid"], row):
            return row
        return in_conflict(row, before)

    def _holder(self, order_id: str, other_than: int) -> Row | None:
        found = (r for r in self.rows.values() if r["order_id"] == order_id and r["id"] != other_than)
        return next((r for r in found if r["deleted_at"] is None), None)

    def _linked(self, cluster: str, vmid: int, own_row: Row) -> bool:
        return any(
            (r["cluster"], r["vmid"]) == (cluster, vmid) and r["deleted_at"] is None and r["id"] != own_row["id"]
            for r in self.rows.values()
        )

    def _store(self, before: Row | None, after: Row) -> Row:
        row = with_status(after | {"version": before["version"] + 1 if before else 1})
        self.rows[row["id"]] = row
        return row

    def restore(self, vps_id: int, at: datetime) -> None:
        """An operator takes a delete back, if nobody holds its order or guest meanwhile."""
        row = self.rows[vps_id]
        taken = row["order_id"] is not None and self._holder(row["order_id"], vps_id) is not None
        if row["deleted_at"] is None or row["merged_into"] is not None or taken:
            return
        if row["vmid"] is None or not self._linked(row["cluster"], row["vmid"], row):
            until = at + timedelta(days=7)
            self._store(row, row | {"deleted_at": None, "deleted_reason": None, "protected_until": until})

    # --- repairs

    def write(self, at: datetime, change: Change, versions: Mapping[int, int]) -> Written | NotWritten:
        """Write one change if it still fits, as ``panel.journal.repairs.write_repair`` does."""
        match change:
            case Create():
                return self._write_create(at, change)
            case Merge():
                return self._write_merge(at, change, versions)
            case Update() | Unlink() | Delete():
                return self._write_change(at, change, versions)
        raise TypeError(change)

    def _write_create(self, at: datetime, change: Create) -> Written | NotWritten:
        order_id = change.order.order_id
        claimed = self.claims.get(order_id)
        if claimed is not None and self._head_lives(self.follow(claimed)):
            return NotWritten("claimed")
        if self._holder(order_id, 0) is not None:
            return NotWritten("it has a record")
        if any(q[1] == change.order.panel_vps_id for q in self.queue):
            return NotWritten("on its way")
        self.ids += 1
        row = repaired_row(self.ids, change.values, at, change.source)
        if row["vmid"] is not None and self._linked(row["cluster"], row["vmid"], row):
            return NotWritten("another record holds this guest")
        self.claims[order_id] = self.ids
        self._store(None, row)
        return Written(0, self.ids, "created")

    def _write_change(
        self, at: datetime, change: Update | Unlink | Delete, versions: Mapping[int, int]
    ) -> Written | NotWritten:
        row = self._writable_row(change.record, versions)
        if isinstance(row, NotWritten):
            return row
        after = changed_row(row, change, at)
        if isinstance(change, Delete):
            self.deletes.append(at)
        live = after["deleted_at"] is None
        if live and after["order_id"] is not None and self._holder(after["order_id"], row["id"]) is not None:
            return NotWritten("another record holds this order")
        if live and after["vmid"] is not None and self._linked(after["cluster"], after["vmid"], after):
            return NotWritten("another record holds this guest")
        if after["user_id"] != row["user_id"]:
            self.owners.append(at)
        if after["order_id"] is not None and after["order_id"] != row["order_id"]:
            self.claims[after["order_id"]] = row["id"]
        self._store(row, after)
        return Written(0, row["id"], "changed")

    def _write_merge(self, at: datetime, change: Merge, versions: Mapping[int, int]) -> Written | NotWritten:
        lost, kept = self._writable_row(change.record, versions), self._writable_row(change.survivor, versions)
        if isinstance(lost, NotWritten):
            return lost
        if isinstance(kept, NotWritten):
            return kept
        if lost["user_id"] != kept["user_id"]:
            return NotWritten("different owners")
        self._store(lost, lost | {"deleted_at": at, "deleted_reason": "merged", "merged_into": kept["id"]})
        survivor = self._store(kept, kept | inherited(kept, lost, takes_guest=change.takes_guest) | {"updated_at": at})
        for order_id, vps_id in list(self.claims.items()):
            if vps_id == lost["id"]:
                self.claims[order_id] = kept["id"]
        if survivor["order_id"] is not None:
            self.claims[survivor["order_id"]] = kept["id"]
        return Written(0, lost["id"], "merged")

    def _writable_row(self, decided_on: Record, versions: Mapping[int, int]) -> Row | NotWritten:
        vps_id = decided_on.id
        row = self.rows.get(vps_id)
        if row is None:
            return NotWritten("no record")
        if any(q[1] == vps_id for q in self.queue):
            return NotWritten("a newer call is waiting")
        if row["version"] != versions.get(vps_id, decided_on.version):
            return NotWritten("changed since it was looked at")
        if row["deleted_at"] is not None:
            return NotWritten("deleted by now")
        return row

    # --- reading

    def records(self) -> tuple[Record, ...]:
        """Every record as a value."""
        flying = {q[1] for q in self.queue}
        return tuple(self._record(row, row["id"] in flying) for row in self.rows.values())

    def _record(self, row: Row, in_flight: bool) -> Record:
        known = self.cache.get(row["id"])
        if known is None or known[:2] != (row["version"], in_flight):
            values = {n: row[n] for n in _FIELDS}
            for name, enum in _ENUMS.items():
                values[name] = enum(values[name]) if values[name] is not None else None
            known = row["version"], in_flight, Record(**values, in_flight=in_flight)
            self.cache[row["id"]] = known
        return known[2]

    def linked(self) -> dict[GuestKey, str | None]:
        """The fingerprint that each live link believes in."""
        live = (r for r in self.rows.values() if r["deleted_at"] is None and r["vmid"] is not None)
        return {GuestKey(r["cluster"], r["vmid"]): r["fingerprint"] for r in live}

    def gate_context(self, now: datetime, approved: frozenset[str], waited: frozenset[str]) -> GateContext:
        """The gate's measures, as ``panel.operators.gate_context.load_gate_context`` takes them."""
        nodes: dict[tuple[str, str], int] = {}
        users: dict[int, int] = {}
        clusters: dict[str, int] = {}
        live = [r for r in self.rows.values() if r["deleted_at"] is None]
        for row in live:
            users[row["user_id"]] = users.get(row["user_id"], 0) + 1
            if row["cluster"] is not None and row["node"] is not None:
                nodes[row["cluster"], row["node"]] = nodes.get((row["cluster"], row["node"]), 0) + 1
                clusters[row["cluster"]] = clusters.get(row["cluster"], 0) + 1
        return GateContext(
            len(live), nodes, {u: n for u, n in users.items() if n > 5}, clusters,
            sum((now - t).total_seconds() < 3600 for t in self.deletes),
            sum((now - t).total_seconds() < 86400 for t in self.deletes),
            sum((now - t).total_seconds() < 86400 for t in self.owners), approved=approved, waited=waited,
        )  # fmt: skip
