"""The whole panel with a Redis that is reached by TLS only."""

from __future__ import annotations

from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from lab.simulators.proxmox.certificates import make_certificates
from tests.support.databases import Database
from tests.support.fleets.world import add_user
from tests.support.live_panel import live_panel
from tests.support.stand_ins.tls_proxy import tls_proxy
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.acceptance]

PLAN = {"user_id": 5, "cpu": 1, "ram": 1024, "disk": 10, "os": "Debian 13", "hypervisor": "kvm", "name": "vps-1"}
PARTS = frozenset({"api", "worker-sync", "beat"})


@pytest.mark.parametrize("vouched", [True, False], ids=["vouched for", "unknown authority"])
def test_calls_are_applied_only_by_a_redis_that_is_vouched_for(
    database: Database, tmp_path: Path, vouched: bool
) -> None:
    certificates = make_certificates(tmp_path / "tls", "redis", ["127.0.0.1"], datetime.now(UTC))
    environment = {"REDIS_CA_FILE": str(certificates.ca_file)} if vouched else {}
    with ExitStack() as stack:
        proxies = []

        def through(url: str) -> str:
            port = urlsplit(url).port
            assert port is not None
            proxies.append(stack.enter_context(tls_proxy(port, certificates)))
            return url.replace("redis://", "rediss://").replace(f":{port}/", f":{proxies[0].port}/")

        panel = stack.enter_context(
            live_panel(database, tmp_path, environment=environment, parts=PARTS, redis_through=through)
        )
        add_user(panel.engine, 5)
        panel.sync("create", PLAN).raise_for_status()
        if vouched:
            panel.wait_status(5, "vps-1", "creating")
            wait_until(lambda: panel.rows("SELECT state FROM operations") == [{"state": "applied"}], "applied")
        else:
            for name in PARTS - {"api"}:
                log = panel.process(name).log_path
                wait_until(lambda log=log: b"CERTIFICATE_VERIFY_FAILED" in log.read_bytes(), f"{name} refuses")  # type: ignore[misc]
            refused = proxies[0]
            wait_until(lambda: refused.refused > 2, "the API's relay refuses, too")
            assert refused.completed == 0
            assert panel.rows("SELECT state FROM operations") == [{"state": "queued"}]
