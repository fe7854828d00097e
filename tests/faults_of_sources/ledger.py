"""What was written while a fault lasted and what was not: records, the journal, absences and requests, compared."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, Self

from tests.support.bench import Bench

FACTS = (
    "user_id", "name", "cpu", "ram_mb", "disk_gb", "status", "order_id", "order_state", "cluster", "node", "vmid",
    "fingerprint", "link_state", "power_state", "missing_since", "deleted_at", "merged_into",
)  # fmt: skip
"""What a record says; the other columns tell when, and by whom."""


@dataclass(frozen=True, slots=True, order=True)
class Write:
    """A repair in the journal: of which VPS, what, its short result, and the class of drift it mends."""

    vps_id: int
    action: str
    result: str
    kind: str


@dataclass(frozen=True, slots=True)
class Ledger:
    """Everything as it stood when the fault began; the methods tell what was written since."""

    world: Bench
    records: dict[int, dict[str, Any]]
    last_operation: int
    absences: dict[str, int]
    believed: Counter[str]
    requests: dict[str, int]

    @classmethod
    def open(cls, world: Bench) -> Self:
        """Read it all now."""
        last = world._rows("SELECT coalesce(max(id), 0) AS id FROM operations")[0]["id"]
        return cls(world, _records(world), last, _absences(world), _believed(world), _requests(world))

    def journal(self) -> list[dict[str, Any]]:
        """The reconciler's rows since then, oldest first; each must say why, and in which run."""
        rows = [row for row in self.world.repairs() if row["id"] > self.last_operation]
        assert all(row["reason"] and row["evidence"] and row["run_id"] and row["state"] == "applied" for row in rows)
        return rows

    def written(self) -> list[Write]:
        """The journal's repairs, sorted; whatever changed in a record must be among them."""
        rows = self.journal()
        explained = {row["vps_id"] for row in rows} | {row["evidence"].get("merged_into") for row in rows}
        assert set(self.changed()) <= explained | self._called(), "a record changed and the journal does not say why"
        return sorted(Write(r["vps_id"], r["action"], r["result"], r["evidence"]["kind"]) for r in rows)

    def changed(self) -> dict[int, dict[str, Any]]:
        """The facts that every record now says otherwise, new records included."""
        return {
            vps_id: differing
            for vps_id, now in _records(self.world).items()
            if (differing := {k: v for k, v in now.items() if self.records.get(vps_id, {}).get(k) != v})
        }

    def counted(self) -> dict[str, int]:
        """By order id or "cluster/vmid": how many absences more were counted."""
        new = {subject: n - self.absences.get(subject, 0) for subject, n in _absences(self.world).items()}
        return {subject: n for subject, n in new.items() if n}

    def kept(self, source: str) -> int:
        """How many reads of a source ("proxmox:main", "orders") were kept as good ones since."""
        return _believed(self.world)[source] - self.believed[source]

    def asked(self, cluster: str) -> int:
        """How many requests arrived at a cluster since, those that were refused included."""
        return _requests(self.world)[cluster] - self.requests[cluster]

    def _called(self) -> set[int]:
        """Records that the main site's own calls changed."""
        rows = self.world._rows(
            f"SELECT DISTINCT vps_id FROM operations WHERE kind = 'sync' AND id > {self.last_operation}"
        )
        return {row["vps_id"] for row in rows}


def _records(world: Bench) -> dict[int, dict[str, Any]]:
    return {row["id"]: {fact: row[fact] for fact in FACTS} for row in world.every_vps()}


def _absences(world: Bench) -> dict[str, int]:
    return {row["subject"]: row["consecutive"] for row in world._rows("SELECT subject, consecutive FROM absences")}


def _believed(world: Bench) -> Counter[str]:
    rows = world._rows("SELECT source, count(*) AS n FROM snapshots WHERE complete AND scope = 'all' GROUP BY source")
    return Counter({row["source"]: row["n"] for row in rows})


def _requests(world: Bench) -> dict[str, int]:
    return {name: len(server.list_requests()) for name, server in world.clusters.items()}
