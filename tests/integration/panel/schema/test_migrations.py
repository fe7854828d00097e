"""The migrations: up, equal to the tables, down and up again, on every PostgreSQL that is to be had."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest
from alembic import command
from sqlalchemy import create_engine

from panel.migrate import MigrationRefusedError, alembic_config, head_revision, migrate
from panel.server_urls import sqlalchemy_url
from runtime.servers.embedded_postgres import EmbeddedPostgres, find_postgres_installations
from runtime.servers.postgres_installation import PostgresInstallation
from tests.support.databases import Database

INSTALLATIONS = list({found.major: found for found in reversed(find_postgres_installations())}.values())


def downgrade(owner_url: str, revision: str) -> None:
    """Go back to ``revision`` (``base``: no tables)."""
    engine = create_engine(sqlalchemy_url(owner_url))
    try:
        with engine.connect() as connection:
            config = alembic_config()
            config.attributes["connection"] = connection
            command.downgrade(config, revision)
            connection.commit()
    finally:
        engine.dispose()


def test_two_versions_are_to_be_had() -> None:
    """The development packages bring two along, so that no machine tests one version only."""
    assert {found.major for found in INSTALLATIONS} >= {17, 18}


@pytest.mark.parametrize("installation", INSTALLATIONS, ids=lambda found: f"postgresql-{found.major}")
def test_up_down_and_up_again(installation: PostgresInstallation, tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path / "pg", binaries=installation.bin_dir, durable=False)
    server.start()
    try:
        url = server.admin_url()
        assert migrate(url, "postgresql://panel:not-a-secret-of-anybody@127.0.0.1/panel") == head_revision()
        engine = create_engine(sqlalchemy_url(url))
        with engine.connect() as connection:
            config = alembic_config()
            config.attributes["connection"] = connection
            command.check(config)
        engine.dispose()
        with psycopg.connect(url) as asked:
            login = asked.execute("SELECT pg_has_role('panel', 'panel_app', 'member')").fetchone()
            tables = asked.execute("SELECT has_table_privilege('panel_client', 'operations', 'SELECT')").fetchone()
            deletes = asked.execute("SELECT has_table_privilege('panel_app', 'vps', 'DELETE')").fetchone()
            temporary = asked.execute(
                "SELECT has_database_privilege('panel_client', current_database(), 'TEMPORARY'),"
                " has_database_privilege('panel', current_database(), 'TEMPORARY')"
            ).fetchone()
        assert (login, tables, deletes, temporary) == ((True,), (False,), (False,), (False, True))
        downgrade(url, "base")
        with psycopg.connect(url) as asked:
            left = asked.execute(
                "SELECT count(*) FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'alembic_version'"
            ).fetchone()
        assert left == (0,)
        assert migrate(url) == head_revision()
    finally:
        server.destroy()


def test_what_deletions_rest_on_is_in_the_journal_afterwards(empty_database: Database) -> None:
    """Up and down on a database in which things have happened."""
    migrate(empty_database.owner_url, revision="0013")
    with psycopg.connect(empty_database.owner_url, autocommit=True) as connection:
        for statement in DELETED:
            connection.execute(statement)
        migrate(empty_database.owner_url, revision="0015")
        (evidence,) = connection.execute("SELECT evidence FROM operations").fetchone() or ()
        said = {"snapshot": 1, "source": "proxmox:main", "scope": "pve1", "count": 7, "effective_at": None}
        assert [{k: v for k, v in read.items() if k != "began_at"} for read in evidence["reads"]] == [said]
        connection.execute("DELETE FROM operations")
        downgrade(empty_database.owner_url, "0013")
        assert connection.execute("SELECT count(*) FROM claims").fetchone() == (0,)
        migrate(empty_database.owner_url)


def test_a_second_address_comes_and_goes_with_records_in_the_table(empty_database: Database) -> None:
    """Up and down on a database that has records and orders."""
    migrate(empty_database.owner_url, revision="0020")
    with psycopg.connect(empty_database.owner_url, autocommit=True) as connection:
        for statement in SOLD:
            connection.execute(statement)
        migrate(empty_database.owner_url, revision="0021")
        assert connection.execute(f"{ADDRESSES} vps").fetchall() == [("192.0.2.1", None)]
        assert connection.execute(f"{ADDRESSES} orders_seen").fetchall() == [("192.0.2.1", None)]
        connection.execute("UPDATE vps SET ip6_address = '2001:db8::1'")
        connection.execute("UPDATE orders_seen SET ip6_address = '2001:db8::1'")
        downgrade(empty_database.owner_url, "0020")
        assert connection.execute("SELECT name, ip_address FROM vps").fetchall() == [("web", "192.0.2.1")]
        assert connection.execute("SELECT order_id, ip_address FROM orders_seen").fetchall() == [("o-1", "192.0.2.1")]
        migrate(empty_database.owner_url)
        assert connection.execute(f"{ADDRESSES} vps").fetchall() == [("192.0.2.1", None)]


def test_the_version_before_adoptions_reads_every_doubt(empty_database: Database) -> None:
    """Down on a database with a guest that an operator adopted."""
    migrate(empty_database.owner_url, revision="0029")
    with psycopg.connect(empty_database.owner_url, autocommit=True) as connection:
        connection.execute(ADOPTED)
        downgrade(empty_database.owner_url, "0028")
        assert connection.execute("SELECT vmid, doubt FROM guests ORDER BY vmid").fetchall() == [
            (100, "restored"),
            (101, "power"),
            (102, None),
        ]


def test_the_service_level_of_a_month_stays_where_the_day_is_not_known(empty_database: Database) -> None:
    """Down and up on a database in which both were counted."""
    migrate(empty_database.owner_url, revision="0034")
    with psycopg.connect(empty_database.owner_url, autocommit=True) as connection:
        connection.execute(
            'INSERT INTO service_levels ("class", days, mended, timed, "within", within_s)'
            " VALUES ('plan', 1, 2, 2, 2, 900), ('plan', 30, 7, 7, 7, 900)"
        )
        downgrade(empty_database.owner_url, "0033")
        assert connection.execute('SELECT "class", mended FROM service_levels').fetchall() == [("plan", 7)]
        migrate(empty_database.owner_url)
        assert connection.execute("SELECT days, mended FROM service_levels").fetchall() == [(30, 7)]


ADOPTED = (
    "INSERT INTO guests (cluster, vmid, guest_type, node, status, power, power_since, template, tags, signature,"
    " fingerprint_state, first_seen_at, changed_at, read_at, doubt) SELECT 'main', 100 + n, 'qemu', 'pve1', 'running',"
    " 'running', now(), false, '{}', '', 'stale', now(), now(), now(), (ARRAY['adopted', 'power'])[n + 1]"
    " FROM generate_series(0, 2) n"
)
ADDRESSES = "SELECT ip_address, ip6_address FROM"
_TIMES = (
    "order_changed_at, order_as_of, link_changed_at, power_changed_at, power_as_of, owner_changed_at, plan_changed_at,"
    " created_at, updated_at"
)
SOLD = (
    "INSERT INTO users (id, username) VALUES (5, 'ann')",
    "INSERT INTO vps (id, user_id, name, cpu, ram_mb, disk_gb, os, hypervisor, ip_address, order_state, order_source,"
    f" power_state, power_source, status, applied_seq, version, {_TIMES})"
    " VALUES (1, 5, 'web', 1, 512, 10, 'Debian', 'proxmox', '192.0.2.1', 'active', 'sync', 'running', 'sync',"
    f" 'running', 1, 1, {', '.join(['now()'] * 9)})",
    "INSERT INTO orders_seen (order_id, state, status, state_since, owner_since, panel_vps_id_given, ip_address,"
    " first_seen_at, changed_at) VALUES ('o-1', 'active', 'running', now(), now(), false, '192.0.2.1', now(), now())",
)


DELETED = (
    "INSERT INTO runs (kind, trigger, epoch, state) VALUES ('full', 't', 1, 'done')",
    "INSERT INTO snapshots (run_id, source, scope, complete, count, kept)"
    " VALUES (1, 'proxmox:main', 'pve1', true, 7, true), (1, 'proxmox:main', 'pve2', true, 7, true)",
    "INSERT INTO lanes (vps_id, last_seq, applied_seq, head) VALUES (1, 1, 1, 'deleted')",
    "INSERT INTO operations (kind, action, vps_id, seq, source, payload, state, reason, evidence, run_id, epoch,"
    " applied_at) VALUES ('repair', 'delete', 1, 1, 'orders', '{}', 'applied', 'gone',"
    " '{\"guest_snapshots\": [1]}', 1, 1, clock_timestamp())",
    "INSERT INTO claims (order_id, vps_id, operation_id) VALUES ('a', 1, 1)",
)


def test_another_encoding_is_refused(postgres_server: EmbeddedPostgres) -> None:
    with psycopg.connect(postgres_server.admin_url(), autocommit=True) as connection:
        connection.execute("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
        try:
            with pytest.raises(MigrationRefusedError, match="LATIN1"):
                migrate(postgres_server.admin_url("latin"))
        finally:
            connection.execute("DROP DATABASE latin WITH (FORCE)")
