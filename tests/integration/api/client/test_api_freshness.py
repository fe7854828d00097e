"""How fresh a record is, as the database works it out for the API and for the pages."""

from __future__ import annotations

from datetime import datetime

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import Engine, text

from api.client.record_view import client_view
from api.dependencies import Edge
from panel.records.client_records import client_record
from tests.integration.api.conftest import Worker
from tests.integration.api.test_api_sync import create

NODE_READ = """
WITH r AS (INSERT INTO runs (kind, trigger, epoch, state) VALUES ('fast', 'test', 1, 'done') RETURNING id),
 s AS (INSERT INTO snapshots (run_id, source, scope, complete, count)
  SELECT id, 'proxmox:pve', 'n1', true, 1 FROM r RETURNING id)
INSERT INTO scopes (source, scope, snapshot_id, began_at, count)
 SELECT 'proxmox:pve', 'n1', id, clock_timestamp() - make_interval(mins => :ago), 1 FROM s
"""
SEEN = """
UPDATE vps SET link_state = :link, fingerprint = CASE WHEN :link = 'verified' THEN 'smbios:a' END,
  power_source = 'sync',
  power_as_of = clock_timestamp() - make_interval(mins => :ago),
  power_unconfirmed_since = clock_timestamp() - make_interval(mins => :unconfirmed)
"""
UNLINK = "UPDATE vps SET cluster = NULL, node = NULL, vmid = NULL, guest_type = NULL, link_state = 'unlinked'"

CASES: list[tuple[str, str, int, int | None, int | None, tuple[str, bool]]] = [
    # link, minutes since the record's power state, since its node was read, since the guest did not bear it out
    ("its node was read a minute ago: confirmed then, by Proxmox", "verified", 60, 1, None, ("proxmox", False)),
    ("a pushed link is confirmed the same way", "pushed", 60, 1, None, ("proxmox", False)),
    ("its node was read before the last push", "verified", 60, 70, None, ("sync", True)),
    ("its node was read too long ago", "verified", 60, 11, None, ("proxmox", True)),
    ("nine minutes are not too long", "verified", 60, 9, None, ("proxmox", False)),
    ("its node was never read", "verified", 60, None, None, ("sync", True)),
    ("the guest does not bear it out", "verified", 60, 1, 2, ("sync", True)),
    ("lately pushed, not borne out", "verified", 3, 1, 2, ("sync", False)),
    ("never linked: nobody is late", "unlinked", 60, None, None, ("sync", False)),
    ("its link is disputed: no guest speaks for it", "conflict", 60, None, None, ("sync", False)),
]


@pytest.mark.parametrize(
    ("link", "ago", "read", "unconfirmed", "told"), [c[1:] for c in CASES], ids=[c[0] for c in CASES]
)
async def test_freshness(
    app: FastAPI, anna: httpx.AsyncClient, site: httpx.AsyncClient, worker: Worker, engine: Engine,
    link: str, ago: int, read: int | None, unconfirmed: int | None, told: tuple[str, bool],
) -> None:  # fmt: skip
    call = create(status="running", cluster="pve", node="n1", vmid=100)
    posted = (await site.post("/api/vps/sync", json=call)).json()
    worker.apply(posted["operation"]["id"])
    with engine.begin() as connection:
        if link in {"unlinked", "conflict"}:
            connection.execute(text(UNLINK))
        connection.execute(text(SEEN), {"link": link, "ago": ago, "unconfirmed": unconfirmed})
        if read is not None:
            connection.execute(text(NODE_READ), {"ago": read})
        pushed, scanned = connection.execute(
            text("SELECT power_as_of, (SELECT max(began_at) FROM scopes) FROM vps")
        ).one()
    shown = (await anna.get(f"/api/vps/{posted['vps']['id']}")).json()["data"]
    assert (shown["source"], shown["stale"]) == told
    assert datetime.fromisoformat(shown["as_of"]) == (scanned if told[0] == "proxmox" else pushed)
    edge: Edge = app.state.edge
    row = await client_record(edge.clients, 5, posted["vps"]["id"])
    assert row is not None
    assert client_view(row) == shown, "a page shows what the API answers"
    assert list(client_view(row)) == list(shown)
    assert (await anna.get("/api/vps")).json()["data"] == [shown]
