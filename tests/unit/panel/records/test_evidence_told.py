"""What evidence says to people."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from panel.records.evidence_told import evidence_told

DAY = "2026-12-01"
READS = [
    {"snapshot": number, "source": "proxmox:main", "scope": "pve1", "began_at": f"{DAY}T02:43:{second}.5+00:00",
     "effective_at": f"{DAY}T02:43:{second}.7+00:00", "count": 3}
    for number, second in ((1, "16"), (2, "31"), (3, "59"))
]  # fmt: skip
GONE = {"guest": "main/104", "guest_absent_times": 2, "guest_absent_since": f"{DAY}T02:43:15.1+00:00"}


@pytest.mark.parametrize(
    ("evidence", "told"),
    [
        pytest.param(None, None, id="none"),
        pytest.param({"kind": "plan", "novel": [1]}, None, id="nothing known"),
        pytest.param(
            GONE | {"guest_snapshots": [1, 2], "reads": READS, "order": "5", "order_status": "cancelled",
                    "confirmed_guest": "no configuration on pve1; not listed elsewhere",
                    "confirmed_order": "order 5 is cancelled"},
            f"Guest main/104 was missing in 2 complete reads, {DAY} 02:43:15 to 02:43:31 UTC; the main site called the"
            " order cancelled; asked again just before: no configuration on pve1; not listed elsewhere,"
            " order 5 is cancelled",
            id="a missed delete; a read that does not count is left out",
        ),
        pytest.param(
            GONE | {"guest_absent_times": 1},
            f"Guest main/104 was missing in 1 complete read, since {DAY} 02:43:15 UTC",
            id="its reads are not kept",
        ),
        pytest.param(
            GONE | {"guest_snapshots": [9], "reads": [{**READS[0], "snapshot": 9, "effective_at": None}]},
            f"Guest main/104 was missing in 2 complete reads, {DAY} 02:43:15 to 02:43:16 UTC",
            id="a read whose time of truth is not known",
        ),
        pytest.param(
            {"reads": [f"{DAY}T01:00:00+00:00", f"{DAY}T02:00:00+00:00"], "identity": None, "identity_read_at": None},
            f"Proxmox showed it in the reads of {DAY} 01:00:00 UTC and {DAY} 02:00:00 UTC",
            id="a power state",
        ),
        pytest.param({"effective_at": None}, "The order says so", id="a time that is not known"),
        pytest.param({"by": "api:olga", "protected_until": "2026"}, "Decided by api:olga", id="an operator"),
    ],
)  # fmt: skip
def test_a_sentence(evidence: dict[str, Any] | None, told: str | None) -> None:
    assert evidence_told(evidence) == told


KEYS = st.sampled_from(
    ["guest", "guest_absent_times", "guest_absent_since", "guest_snapshots", "reads", "order_status", "sweeps",
     "effective_at", "identity", "identity_read_at", "buyer", "named_since", "confirmed_guest", "by"]
)  # fmt: skip
PLAIN = st.none() | st.integers() | st.sampled_from(["", "x", "2026-12-01"])
READ = st.dictionaries(st.sampled_from(["snapshot", "effective_at", "began_at"]), PLAIN)
VALUES = PLAIN | st.lists(PLAIN, max_size=3) | st.lists(READ, max_size=2)


@given(st.dictionaries(KEYS, VALUES))
def test_old_and_odd_evidence_never_breaks_the_page(evidence: dict[str, Any]) -> None:
    told = evidence_told(evidence)
    assert told is None or told
