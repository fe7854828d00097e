"""What puts an identity in doubt: the statement says of every guest what the pure rule says of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

from sqlalchemy import Engine, select, text

from domain.guests import FingerprintState, Guest, GuestType, PowerState
from domain.identity_doubts import GAP, listed
from domain.source_protocols import ClusterReading
from panel.observations import snapshots
from panel.observations.identity_doubts import doubt_listed
from panel.observations.listed_guests import TrustedList, compare_lists, merge_guests, stage_guests
from panel.schema import tables

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
ANSWERED = NOW + timedelta(seconds=30)
"""A slow list: the uptimes in it are of the end of its answer at the latest."""
KNOWN = Guest(
    "main", 100, GuestType.QEMU, "pve1", "running", PowerState.RUNNING, "web", cores=2.0, memory_mb=2048, disk_gb=20,
    fingerprint="smbios:1", fingerprint_read_at=NOW - timedelta(hours=1),
)  # fmt: skip
CHANGES: tuple[dict[str, Any], ...] = (
    {}, {"name": "other"}, {"node": "pve2"}, {"guest_type": GuestType.LXC}, {"memory_mb": 4096}, {"cores": None},
    {"tags": ("pnl-6f1d7b52-6f0e-4a57-9f3b-0a4bfa9d1c11",)}, {"tags": ("blue",)}, {"disk_gb": 21}, {"disk_gb": None},
    {"power": PowerState.STOPPED, "status": "stopped"}, {"power": PowerState.UNKNOWN, "status": "unknown"},
    {"template": True},
)  # fmt: skip
UPTIMES = (None, 0.0, 3600.0, 3629.0, 3630.0, 86_400.0)
READ = (None, NOW - timedelta(hours=1), NOW + timedelta(hours=1))
"""In the future: the database's clock was set back since."""
PREVIOUS = (None, NOW - GAP, NOW - GAP - timedelta(seconds=1))


def test_the_statement_doubts_whom_the_pure_rule_doubts(engine: Engine) -> None:
    states = (FingerprintState.READ, FingerprintState.FORBIDDEN, FingerprintState.STALE, FingerprintState.UNREAD)
    cases = [
        (replace(KNOWN, vmid=100 + n, fingerprint_state=state, fingerprint_read_at=read), change, uptime, missed)
        for n, (state, read, change, uptime, missed) in enumerate(
            product(states, READ, CHANGES, UPTIMES, ("", "unlisted", "absent"))
        )
    ]
    shown = {known.vmid: replace(known, **change, uptime_s=uptime) for known, change, uptime, _ in cases}
    with engine.connect() as connection:
        snapshots.make_stages(connection)
        for previous in PREVIOUS:
            _stage(connection, [known for known, *_ in cases])
            began = NOW - timedelta(days=1)
            compare_lists(connection, [TrustedList("main", began, None, frozenset())], began, GAP)
            merge_guests(connection, began)
            _as_they_were(connection, [(known, missed) for known, _, _, missed in cases])
            _stage(connection, shown.values())
            compare_lists(connection, [TrustedList("main", ANSWERED, previous, frozenset())], NOW, GAP)
            doubt_listed(connection)
            rows = {row.vmid: row for row in connection.execute(select(tables.guests))}
            for known, _, _, missed in cases:
                expected = listed(known, shown[known.vmid], NOW, ANSWERED, previous, missed=bool(missed))
                row = rows[known.vmid]
                assert row.doubt == expected, (known, shown[known.vmid], previous, missed)
                state = known.fingerprint_state.value if expected is None else "stale"
                assert row.fingerprint_state == state
                assert row.doubted_at == (None if expected is None else ANSWERED)
            connection.rollback()


def _stage(connection: Any, guests: Any) -> None:
    connection.execute(text("DELETE FROM stage_guests"))
    nobody = frozenset[str]()
    reading = ClusterReading("main", tuple(guests), nobody, nobody, complete=True, trusted=True)
    stage_guests(connection, reading.guests)


def _as_they_were(connection: Any, cases: list[tuple[Guest, str]]) -> None:
    unlisted = NOW - timedelta(minutes=1)
    values = [
        {"vmid": known.vmid, "state": known.fingerprint_state.value, "read": known.fingerprint_read_at,
         "unlisted": unlisted if missed == "unlisted" else None}
        for known, missed in cases
    ]  # fmt: skip
    connection.execute(AS_IT_WAS, values)
    connection.execute(ABSENT, [{"subject": f"main/{known.vmid}"} for known, missed in cases if missed == "absent"])


AS_IT_WAS = text(
    "UPDATE guests SET fingerprint = 'smbios:1', fingerprint_state = :state, fingerprint_read_at = :read,"
    " unlisted_since = :unlisted WHERE vmid = :vmid"
)
ABSENT = text(
    "WITH r AS (INSERT INTO runs (kind, trigger, epoch, state) SELECT 'full', 'test', 1, 'done'"
    " WHERE NOT EXISTS (SELECT 1 FROM runs) RETURNING id)"
    " INSERT INTO absences (kind, subject, absent_since, consecutive, last_absent_at, last_run_id, evidence)"
    " SELECT 'guest', :subject, now(), 1, now(), coalesce((SELECT id FROM r), (SELECT min(id) FROM runs)), '{}'"
)
