"""``panel-sync run --seed-example``: a panel on which the integration guide's calls work as they are printed there."""

from __future__ import annotations

import contextlib
import secrets
from datetime import UTC, datetime, timedelta

from sqlalchemy import insert

from cli.connect import opened_panel
from cli.environment import RUNNING, Overrides, data_root, with_overrides, write_overrides
from cli.errors import CommandError
from cli.operating.tokens import client_token
from cli.output.console import err, out
from cli.output.progress import Working
from cli.serving.local_servers import prepare_embedded
from cli.serving.stack import require_free_ports
from cli.serving.supervise import supervise
from panel.schema import tables
from panel.settings import PLACEHOLDER_SYNC_KEY, Settings, load_settings
from runtime.paths import DataDirectory
from runtime.servers.embedded_postgres import EmbeddedPostgres
from runtime.servers.embedded_redis import EmbeddedRedis

EXAMPLE_USER = 5
DIRECTORY = "seed-example"
LOOPBACK_NAMES = {"127.0.0.1", "::1", "localhost"}


def run_seed_example() -> None:
    """Start the panel with the example's well-known key on fresh, empty servers of its own."""
    given = load_settings()
    if given.host not in LOOPBACK_NAMES:
        raise CommandError("--seed-example uses a key that is public, so HOST must be 127.0.0.1; unset HOST")
    if given.database_url or given.redis_url:
        err.print("DATABASE_URL and REDIS_URL are not used: the example runs on temporary servers of its own.")
    require_free_ports(given, flower=True)
    with DataDirectory(data_root() / DIRECTORY) as data, contextlib.ExitStack() as servers:
        postgres, redis = EmbeddedPostgres(data.postgres, durable=False), EmbeddedRedis(data.redis)
        with Working("starting PostgreSQL and Redis"):
            for server in (postgres, redis):
                # The example's calls name the id 1, and ids start at 1 only in an empty database.
                server.destroy()
                servers.callback(server.destroy)
                server.start()
            overrides = example_settings() | prepare_embedded(postgres) | {"REDIS_URL": redis.url}
        settings = with_overrides(overrides)
        with opened_panel(settings.session_url) as engine, engine.begin() as connection:
            connection.execute(insert(tables.users).values(id=EXAMPLE_USER, username="example"))
        write_overrides(data.root / RUNNING, overrides)
        servers.callback((data.root / RUNNING).unlink, missing_ok=True)
        supervise(settings, overrides, data, on_ready=lambda: _show(settings))


def example_settings() -> Overrides:
    """The example's key, new secrets for the rest, and no main site or Proxmox."""
    return {
        "DEMO": "true",
        "VPS_SYNC_API_KEY": PLACEHOLDER_SYNC_KEY,
        "VPS_SYNC_API_KEY_PREVIOUS": "",
        "OPS_API_KEY": secrets.token_urlsafe(32),
        "FLOWER_PASSWORD": secrets.token_urlsafe(16),
        "JWT_SECRET": secrets.token_urlsafe(32),
        "JWT_ALGORITHMS": "HS256",
        "JWT_PUBLIC_KEY": "",
        "JWT_JWKS_URL": "",
        "JWT_ISSUER": "",
        "JWT_AUDIENCE": "",
        "MAIN_SITE_URL": "",
        "PROXMOX_CLUSTERS": "[]",
    }


def curl_calls(port: int, token: str) -> list[tuple[str, str]]:
    """(description, command) for create, update, delete and the client's list."""
    sync = (
        f"curl -X POST http://localhost:{port}/api/vps/sync \\\n"
        '  -H "Content-Type: application/json" \\\n'
        f'  -H "X-API-Key: {PLACEHOLDER_SYNC_KEY}" \\\n'
        "  -d '{body}'"
    )
    create = (
        '{"action": "create", "vps": {"user_id": 5, "name": "test-vps-01", "status": "creating", "cpu": 4, '
        '"ram": 8192, "disk": 100, "os": "Ubuntu 22.04 LTS", "hypervisor": "proxmox"}}'
    )
    update = '{"action": "update", "vps": {"id": 1, "status": "running"}}'
    delete = '{"action": "delete", "vps": {"id": 1}}'
    listed = f'curl -X GET http://localhost:{port}/api/vps \\\n  -H "Authorization: Bearer {token}"'
    return [
        ("1. Create a VPS", sync.replace("{body}", create)),
        ("2. Update its status", sync.replace("{body}", update)),
        ("3. Delete it", sync.replace("{body}", delete)),
        ("4. The client's list", listed),
    ]


def _show(settings: Settings) -> None:
    token = client_token(settings, EXAMPLE_USER, datetime.now(UTC), timedelta(hours=24), "example")
    out.print()
    out.print(f"# The example's four calls, for user {EXAMPLE_USER}. Paste them one by one.")
    for what, command in curl_calls(settings.port, token):
        for line in ("", f"# {what}", *command.splitlines()):
            out.print(line, soft_wrap=True)
