"""What was sold against what the guest's configuration says: when it is told, and how loud."""

from __future__ import annotations

from datetime import timedelta

import pytest

from domain.size_drift import Drift, Size, spec_findings
from tests.unit.reconcile.worlds import KEY, NOW

GRACE = timedelta(hours=1)
SOLD = Size(2, 4096, 50)


def drift(has: Size, *, minutes: float = 120) -> Drift:
    return Drift(1, "1", KEY, SOLD, has, NOW - timedelta(minutes=minutes))


@pytest.mark.parametrize(
    ("has", "severity", "said"),
    [
        pytest.param(Size(1, 4096, 50), "warning", "with 1 cores instead of 2: less than was sold", id="fewer cores"),
        pytest.param(
            Size(2, 2048, 50), "warning", "with 2048 MiB of memory instead of 4096: less than was sold", id="memory"
        ),
        pytest.param(Size(2, 4096, 80), "info", "with 80 GiB of disk instead of 50: more than was sold", id="disk"),
        pytest.param(
            Size(4, 1024, 50),
            "warning",
            "with 4 cores instead of 2, 1024 MiB of memory instead of 4096: less than was sold",
            id="more of one and less of another",
        ),
        pytest.param(Size(0.5, None, None), "warning", "with 0.5 cores instead of 2: less", id="half a core"),
    ],
)
def test_a_guest_of_another_size_is_told(has: Size, severity: str, said: str) -> None:
    (found,) = spec_findings([drift(has)], NOW, GRACE)
    assert (found.class_, found.subject, found.severity) == ("spec", "vps:1", severity)
    assert (found.cluster, found.vmid, found.order_id) == ("main", 100, "1")
    assert said in found.reason


@pytest.mark.parametrize(
    ("has", "minutes"),
    [
        pytest.param(Size(None, None, None), 120, id="a configuration that says nothing differs from nothing"),
        pytest.param(SOLD, 120, id="as sold"),
        pytest.param(Size(4, 4096, 50), 59, id="changed lately: the other side follows, or the guest restarts"),
    ],
)
def test_nothing_is_told(has: Size, minutes: float) -> None:
    assert spec_findings([drift(has, minutes=minutes)], NOW, GRACE) == []


def test_sizes_are_written_out_in_full() -> None:
    (found,) = spec_findings([drift(Size(2, 1_048_576, 50))], NOW, GRACE)
    assert "1048576 MiB" in found.reason
