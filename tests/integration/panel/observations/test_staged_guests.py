"""What a list says of its guests arrives in the run's temporary table as it was said."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import Engine, text

from domain.guests import GuestType, ListedGuest, PowerState
from panel.observations.listed_guests import GUEST_COLUMNS, stage_guests
from panel.observations.snapshots import make_stages

PLAIN = ListedGuest(
    "main", 100, GuestType.QEMU, "pve1", "running", PowerState.RUNNING, "web", None, False, 2.5, 2048, 10,  # noqa: FBT003
    ("web", "paid"), 3600.0,
)  # fmt: skip
ODD = [
    PLAIN,
    replace(PLAIN, vmid=101, name=r"back\slash \N \t", tags=('quo"te', r"b\s", "{a,b}", "")),
    replace(PLAIN, vmid=102, name="tab\tand\nline\r", node="узел", lock="backup"),
    replace(
        PLAIN, vmid=103, name=None, template=True, cores=None, memory_mb=None, disk_gb=None, uptime_s=None, tags=()
    ),
    replace(PLAIN, vmid=104, guest_type=GuestType.LXC, power=PowerState.UNKNOWN, status="unknown", name=r"\."),
]


def test_every_value_comes_back_as_it_was(engine: Engine) -> None:
    with engine.connect() as connection:
        make_stages(connection)
        stage_guests(connection, ODD)
        rows = connection.execute(text("SELECT * FROM stage_guests ORDER BY vmid")).mappings().all()
    for row, guest in zip(rows, ODD, strict=True):
        assert {n: row[n] for n in GUEST_COLUMNS} == {n: getattr(guest, n) for n in GUEST_COLUMNS} | {
            "tags": list(guest.tags)
        }
