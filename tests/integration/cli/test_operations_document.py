"""docs/operations.md is true: its commands are executed in order on a prepared panel and print what it says.

``...`` stands for what differs from time to time, alone on a line for any number of lines; a hash, and the number that
begins a finding's line, stand for the one that is printed in its place.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from sqlalchemy import Engine

from panel.settings import Settings
from tests.integration.cli.conftest import PanelSync
from tests.stories.steps import Sold, converge, execute, record, sell
from tests.support.bench import Bench, bench
from tests.support.databases import Database

DOCUMENT = Path(__file__).parents[3] / "docs" / "operations.md"
HASH = re.compile(r"\b[0-9a-f]{12}\b")
FINDING = re.compile(r"^(\d+)(?= +(?:alarm|warning|info)\b)")


@pytest.fixture
def prepared(database: Database, engine: Engine) -> Iterator[Bench]:
    """Customer 5 has six VPS. The second was deleted on proof, four more are due and held, and a guest is unknown."""
    with bench(database, engine, extended=True) as world:
        keep, old, *due = (sell(world, f"web-{n:02}") for n in range(1, 7))
        converge(world, keep, old, *due)
        end(world, old)
        world.run(3)
        assert record(world, old.vps_id)["deleted_at"] is not None
        end(world, *due)
        world.pve.add_guest(900, node="pve1", name="build-01", uuid="5e0f2c1e-8a55-4f0a-9a53-0d4d1f5f9c01")
        world.run(3)
        yield world


def sold_elsewhere(world: Bench) -> None:
    """A seventh record, some days old: the main site made it and knows no order of it."""
    world.call("create", user_id=6, name="legacy-01", cpu=1, ram=1024, disk=10, os="Debian", status="running")
    world.drain()
    execute(world, "UPDATE vps SET created_at = created_at - interval '3 days' WHERE user_id = 6")


def sold_long_ago(world: Bench) -> None:
    """An order of the old fleet, whose guest the main site does not name. The guest's finding is snoozed no more."""
    execute(world, "UPDATE findings SET snoozed_until = NULL")
    placed = world.site.place_order(user_id=2, name="build-01", create_guest=False)
    world.site.set_status(placed.id, "running")
    world.drain()
    world.run(2)


BEFORE: dict[str, Callable[[Bench], None]] = {
    "Records that nothing proves to be over": sold_elsewhere,
    "Guests that nobody ordered": sold_long_ago,
}
"""What happens to the panel before a section's commands, by the section's heading."""


def end(world: Bench, *sold: Sold) -> None:
    for one in sold:
        world.site.cancel_order(one.order_id, remove_guest=False, notify=False)
        world.pve.remove_guest(one.vmid)


def environment(settings: Settings) -> dict[str, str]:
    """The settings of the prepared panel, without waiting times."""
    (cluster,) = settings.proxmox_clusters
    plain = cluster.model_dump(mode="json", exclude_none=True)
    plain["token_secret"] = cluster.token_secret.get_secret_value()
    return {
        "DEMO": "true",
        "USER": "ann",
        "DATABASE_URL": settings.database_url,
        "VPS_SYNC_API_KEY": settings.vps_sync_api_key.get_secret_value(),
        "MAIN_SITE_URL": settings.main_site_url,
        "MAIN_SITE_API_KEY": settings.main_site_api_key.get_secret_value(),
        "USER_ID_SPACE": settings.user_id_space,
        "PROXMOX_CLUSTERS": json.dumps([plain]),
        "SWEEP_INTERVAL_S": "1",
        "ABSENCE_PROOF_T_S": "0.001",
        **dict.fromkeys(("POWER_GRACE_S", "LINK_GRACE_S", "CREATE_GRACE_S"), "0"),
    }


class Session(NamedTuple):
    """A command, the lines it prints, and the heading it stands under, if it is the first one there."""

    command: str
    prints: list[str]
    heading: str | None


def sessions() -> list[Session]:
    """Every command of the ``console`` fences."""
    found: list[Session] = []
    for section in DOCUMENT.read_text(encoding="utf-8").split("\n## ")[1:]:
        heading: str | None = section.splitlines()[0]
        for fence in re.findall(r"(?ms)^```console\n(.*?)^```$", section):
            for line in fence.splitlines():
                if line.startswith("$ "):
                    found.append(Session(line.removeprefix("$ "), [], heading))
                    heading = None
                else:
                    found[-1].prints.append(line.rstrip())
    return found


def pattern(lines: list[str], hashes: dict[str, str]) -> str:
    """A regular expression for the printed lines; a hash that is new becomes a group of its own name."""
    parts = []
    for line in lines:
        if line.strip() == "...":
            parts.append(r"(?:.*\n)*?")
            continue
        part = re.escape(line).replace(re.escape("..."), ".*")
        for said in HASH.findall(line):
            part = part.replace(said, hashes.get(said) or rf"(?P<h{said}>[0-9a-f]{{12}})", 1)
        for said in FINDING.findall(line):
            part = re.sub(rf"^{said}(\\ )+", rf"(?P<n{said}>[0-9]+) +", part)
        parts.append(part + r" *\n")
    return "".join(parts)


def test_the_commands_print_what_the_document_says(
    bare: PanelSync, prepared: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "1000")  # a document does not wrap
    capsys.readouterr()  # what the preparation logged
    settings, hashes, numbers = environment(prepared.settings), dict[str, str](), dict[str, str]()
    listed = sessions()
    assert len(listed) >= 10
    assert {one.heading for one in listed} >= BEFORE.keys()
    for command, expected, heading in listed:
        if heading in BEFORE:
            BEFORE[heading](prepared)
            capsys.readouterr()  # what that logged
        words = shlex.split(command)
        given = dict(words.pop(0).split("=", 1) for _ in range(words.index("panel-sync")))
        for said, real in hashes.items():
            words = [real[: len(word)] if len(word) >= 8 and said.startswith(word) else word for word in words]
        if words[1] == "findings" and words[2:3] and words[2] in ("ack", "snooze", "ignore", "unignore"):
            words[3] = numbers[words[3]]
        prepared.clock.tick()
        said_now = bare(*words[1:], **settings | given)
        assert said_now.code == 0, f"{command}: {said_now.err}"
        match = re.fullmatch(pattern(expected, hashes), said_now.out)
        assert match is not None, f"$ {command}\n{said_now.out}"
        found = match.groupdict().items()
        hashes |= {name.removeprefix("h"): real for name, real in found if name.startswith("h")}
        numbers |= {name.removeprefix("n"): real for name, real in found if name.startswith("n")}
