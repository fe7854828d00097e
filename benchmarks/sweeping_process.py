"""One run in a process of its own: ``python -m benchmarks.sweeping_process full|delta|fast|join|download``.

It prints what the run took as JSON. ``join`` and ``download`` are the yardsticks: what somebody would write by hand
with httpx, msgspec and psycopg. ``join`` reads everything, copies both lists into temporary tables and finds what
differs by one FULL JOIN. ``download`` reads and parses the clusters' lists.
"""

from __future__ import annotations

import gc
import json
import os
import re
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import msgspec
import psycopg

from benchmarks.sweeping_fleet import A_PAGE


class Order(msgspec.Struct):
    """A row of the main site's."""

    id: int
    status: str
    name: str
    cpu: int
    ram: int
    disk: int
    os: str
    cluster: str
    proxmox_id: int = msgspec.field(name="proxmoxId")
    user_id: str = msgspec.field(name="userId")


class Orders(msgspec.Struct):
    """A page of orders."""

    data: list[Order]
    next_cursor: str | None


class Guest(msgspec.Struct):
    """A row of a cluster's."""

    vmid: int
    node: str
    name: str
    status: str
    maxcpu: float
    maxmem: int
    maxdisk: int


class Guests(msgspec.Struct):
    """A cluster's list."""

    data: list[Guest]


def main(lane: str) -> None:
    """Do it, and say what it took."""
    work = {"join": _join, "download": _download}.get(lane) or _prepared(lane)
    before, began = time.process_time(), time.monotonic()
    said = work()
    took, cpu = time.monotonic() - began, time.process_time() - before
    peak = _peak_mb()
    print(json.dumps({"s": took, "cpu_s": cpu, "peak_mb": peak, **said}), flush=True)


def _peak_mb() -> float:
    """What this process had at most. ``ru_maxrss`` would be its parent's, if that had more when it forked."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024  # type: ignore[index]


def _prepared(lane: str) -> Any:  # noqa: ANN401 - a function of no arguments
    from panel.sessions import sync_engine
    from panel.settings import Settings
    from reconcile.run import run_fast, run_full
    from worker.wiring import reconciler

    settings = Settings(_env_file=None, **json.loads(os.environ["SWEEP_SETTINGS"]))
    engine = sync_engine(settings.session_url, "panel-sync bench")
    gc.collect()
    gc.freeze()  # as a worker does before it forks
    intervals = {"full": timedelta(0), "delta": timedelta(days=1), "fast": timedelta(days=1)}

    def work() -> dict[str, Any]:
        wired = reconciler(engine, settings)
        object.__setattr__(wired, "sweep_interval", intervals[lane])
        result = run_fast(wired, trigger="bench") if lane == "fast" else run_full(wired, trigger="bench")
        return {"summary": result.summary, "problems": result.problems, "counts": result.counts}

    return work


def _lists(client: httpx.Client) -> Any:  # noqa: ANN401 - an iterator
    reader = msgspec.json.Decoder(Guests)
    for cluster in range(int(os.environ["SWEEP_CLUSTERS"])):
        root = f"/c{cluster}/api2/json"
        for path in ("/version", "/access/permissions?path=/vms", "/cluster/status"):
            client.get(root + path)
        yield cluster, reader.decode(client.get(root + "/cluster/resources?type=vm").content).data


def _download() -> dict[str, Any]:
    with httpx.Client(base_url=os.environ["SWEEP_URL"]) as client:
        return {"entries": sum(len(guests) for _, guests in _lists(client))}


def _join() -> dict[str, Any]:
    with (
        httpx.Client(base_url=os.environ["SWEEP_URL"]) as client,
        psycopg.connect(os.environ["SWEEP_DATABASE"]) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute(
            "CREATE TEMP TABLE o (id text, status text, name text, cpu int, ram int, disk int, os text,"
            " cluster text, vmid int, owner text)"
        )
        cursor.execute("CREATE TEMP TABLE g (cluster text, vmid int, node text, name text, status text)")
        reader, cursor_said = msgspec.json.Decoder(Orders), ""
        with cursor.copy("COPY o FROM STDIN") as copy:
            while True:
                page = reader.decode(client.get(f"/api/panel/orders?limit={A_PAGE}{cursor_said}").content)
                for row in page.data:
                    copy.write_row(
                        (
                            row.id,
                            row.status,
                            row.name,
                            row.cpu,
                            row.ram,
                            row.disk,
                            row.os,
                            row.cluster,
                            row.proxmox_id,
                            row.user_id,
                        )
                    )
                if page.next_cursor is None:
                    break
                cursor_said = f"&cursor={page.next_cursor}"
        with cursor.copy("COPY g FROM STDIN") as copy:
            for cluster, guests in _lists(client):
                for guest in guests:
                    copy.write_row((f"c{cluster}", guest.vmid, guest.node, guest.name, guest.status))
        cursor.execute("ANALYZE o, g")
        cursor.execute(DIFFERENT)
        found = cursor.fetchone()
        return {"differ": None if found is None else found[0]}


DIFFERENT = """
SELECT count(*) FROM vps r FULL JOIN o ON o.id = r.order_id
FULL JOIN g ON g.cluster = r.cluster AND g.vmid = r.vmid
WHERE r.id IS NULL OR o.id IS NULL OR g.vmid IS NULL OR r.name <> o.name OR r.cpu <> o.cpu OR r.ram_mb <> o.ram
  OR r.disk_gb <> o.disk OR r.os <> o.os OR r.power_state <> g.status OR r.node <> g.node
"""

if __name__ == "__main__":
    main(sys.argv[1])
