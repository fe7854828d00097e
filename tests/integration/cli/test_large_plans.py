"""A plan of hundreds can be read: summed up first, the rest by filter, by page, in full, or as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from panel.schema import tables
from tests.integration.cli.conftest import PanelSync
from tests.integration.cli.test_operations_document import environment
from tests.support.bench import Bench, bench
from tests.support.databases import Database
from tests.support.fleets.hoster import versions
from tests.support.fleets.world import add_user

CLASSES = {"missed-create", "owner-unknown", "unmanaged-guest"}


@pytest.fixture
def large(database: Database, engine: Engine, capsys: pytest.CaptureFixture[str]) -> Iterator[Bench]:
    """Of 120 orders 80 are one customer's, 40 belong to a user of the main site that nobody mapped. The cluster has
    two guests that nobody ordered."""
    with bench(database, engine) as world:
        world.site.fill(80, user_id=1, cluster=None)
        stranger = world.site.add_user(username="stranger", email="s@example.test")
        world.site.fill(40, user_id=stranger.id, cluster=None, first_vmid=5000)
        for vmid in (900, 901):
            world.pve.add_guest(vmid, node="pve1", name=f"build-{vmid}")
        capsys.readouterr()  # what the preparation logged
        yield world


def test_the_first_plan_and_what_follows(bare: PanelSync, large: Bench) -> None:
    settings = environment(large.settings) | {"DEMO": "false", "ABSENCE_PROOF_T_S": "600"}

    kept = tuple(t.name for t in tables.metadata.sorted_tables if t.name not in {"runs", "leases"})
    before = versions(large.engine, kept)
    said = bare("plan", **settings)
    lines = said.out.splitlines()
    assert said.code == 0
    assert versions(large.engine, kept) == before, "a plan keeps nothing but that it was made"
    assert len(lines) < 40, said.out
    (missed,) = [line.split() for line in lines if line.startswith("missed-create")]
    assert missed == ["missed-create", "80"]
    assert any(line.split() == ["owner-unknown", "40"] for line in lines)
    assert "clusters: main: 2" in lines
    assert "customers with most: user 5: 80" in lines
    matter = lines[lines.index("What matters most:") + 1 :][:10]
    of_a_class = [next(word for word in line.split() if word.rstrip(":") in CLASSES).rstrip(":") for line in matter]
    assert of_a_class == ["missed-create"] * 5 + ["owner-unknown"] * 3 + ["unmanaged-guest"] * 2, "some of each class"
    assert lines[lines.index(matter[-1]) + 1].startswith("All of it: panel-sync plan --class CLASS")
    assert "to release it: panel-sync reconcile --apply" in said.out
    assert lines[-1].startswith("0 to apply, 80 held, 42 findings; plan ")
    assert "run_done" not in said.err

    page = bare("plan", "--class", "owner-unknown", "--page", "2", "--limit", "30", **settings)
    assert page.out.count("finding owner-unknown") == 10
    assert "31 to 40 of 40" in page.out
    assert "the main site's user 3, whom the panel does not know: run panel-sync users map PANEL_ID 3" in page.out
    assert bare("plan", "--all", **settings).out.count("finding owner-unknown") == 40
    told = json.loads(bare("plan", "--json", "--user", "5", **settings).out)
    assert (len(told["entries"]), told["held"][0]["release"]) == (80, "panel-sync reconcile --apply")
    assert {one["user_id"] for one in told["entries"]} == {5}
    assert bare("plan", "--class", "owner-unknown", "--page", "99", **settings).code == 2

    applied = bare("reconcile", "--apply", "--yes", **settings)
    assert (applied.code, "applied 80 missed-create" in applied.out) == (0, True)
    assert len(applied.out.splitlines()) < 60
    assert "repaired" not in applied.err, "no line for each repair"
    assert len(large.vps()) == 80

    findings = bare("findings", "--summary", **settings)
    assert any(line.split()[:3] == ["owner-unknown", "warning", "40"] for line in findings.out.splitlines())
    listed = bare("findings", "--class", "owner-unknown", "--limit", "30", **settings)
    assert "There are more: --page 2" in listed.out
    assert (
        len(
            json.loads(
                bare("findings", "--class", "owner-unknown", "--page", "2", "--limit", "30", "--json", **settings).out
            )
        )
        == 10
    )


def test_held_sets_name_the_vps_and_its_customer(bare: PanelSync, large: Bench, engine: Engine) -> None:
    settings = environment(large.settings) | {"REPAIR_POLICY": json.dumps({"missed-create": "hold"})}
    bare("reconcile", "--apply", "--yes", **settings)
    said = bare("held", **settings)
    assert len(said.out.splitlines()) < 30, said.out
    assert "to release it: panel-sync approve " in said.out
    one = bare("held", "--user", "5", "--limit", "3", **settings).out
    assert one.count("missed-create: order") == 3
    assert "(vps-1 of user 5 (user5))" in one
    (held,) = json.loads(bare("held", "--json", **settings).out)
    assert (held["items_total"], held["items"][0]["user_id"]) == (80, 5)
    add_user(engine, 9)
    assert json.loads(bare("held", "--json", "--user", "9", **settings).out) == []
    approved = bare("approve", held["hash"][:8], **settings)
    assert approved.out.startswith(f"{held['hash'][:12]} class:missed-create: 80 approved")
