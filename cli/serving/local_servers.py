"""What ``panel-sync run`` brings along if it is missing: servers and secrets, kept in the data directory."""

from __future__ import annotations

import secrets

import psycopg
from psycopg import sql

from cli.environment import SECRETS, Overrides, read_overrides, write_overrides
from panel.migrate import migrate
from panel.settings import Settings
from runtime.paths import DataDirectory
from runtime.processes.free_ports import LOOPBACK
from runtime.servers.embedded_postgres import EmbeddedPostgres

DATABASE = "panel"
LOGIN = "panel"


def missing_secrets(settings: Settings, data: DataDirectory) -> Overrides:
    """Random keys for the settings that are missing. The next start in this data directory gets the same keys."""
    verified_elsewhere = bool(settings.jwt_public_key or settings.jwt_jwks_url)
    wanted = {
        "VPS_SYNC_API_KEY": not settings.vps_sync_api_key.get_secret_value(),
        "JWT_SECRET": not settings.jwt_secret.get_secret_value() and not verified_elsewhere,
        "OPS_API_KEY": not settings.ops_api_key.get_secret_value(),
        "FLOWER_PASSWORD": not settings.flower_password.get_secret_value(),
    }
    path = data.root / SECRETS
    kept = read_overrides(path)
    keys = {name: kept.get(name) or secrets.token_urlsafe(32) for name, needed in wanted.items() if needed}
    if not keys.items() <= kept.items():
        write_overrides(path, kept | keys)
    return keys


def prepare_embedded(server: EmbeddedPostgres) -> Overrides:
    """Make the panel's database and its login on a started server, migrate the database, and return both URLs.

    A ``DATABASE_SESSION_URL`` that is set elsewhere does not count: it names another server than this one. The login
    gets a new password at each start, because only the processes of this start need it.
    """
    password = secrets.token_urlsafe(24)
    with psycopg.connect(server.admin_url(), autocommit=True) as connection:
        if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,)).fetchone() is None:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))
        if connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (LOGIN,)).fetchone() is None:
            connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(LOGIN)))
        verifier = connection.pgconn.encrypt_password(password.encode(), LOGIN.encode(), b"scram-sha-256")
        connection.execute(
            sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(LOGIN), sql.Literal(verifier.decode()))
        )
    owner_url = server.admin_url(DATABASE)
    app_url = f"postgresql://{LOGIN}:{password}@{LOOPBACK}:{server.port}/{DATABASE}"
    migrate(owner_url, app_url)
    return {"DATABASE_URL": app_url, "DATABASE_OWNER_URL": owner_url, "DATABASE_SESSION_URL": ""}
