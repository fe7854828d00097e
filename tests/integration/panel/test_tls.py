"""Redis and PostgreSQL behind TLS: every client refuses a certificate that nobody vouches for, and takes one that the
named authority does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest
import redis
from flower.utils.broker import Broker
from kombu import pools
from kombu.exceptions import OperationalError as KombuError
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from cli.health.checks import Verdict, check_postgres
from cli.health.redis_checks import check_redis
from lab.simulators.proxmox.certificates import Certificates, make_certificates
from panel.broker import async_redis_client, redis_client
from panel.journal.publish import CeleryPublisher, Doorbell, producer_app
from panel.migrate import migrate
from panel.sessions import async_engine, own_connection, sync_engine
from panel.settings import Settings
from runtime.servers.embedded_redis import EmbeddedRedis
from tests.support.databases import Database
from tests.support.stand_ins.tls_proxy import TlsProxy, tls_proxy
from tests.support.waiting import PATIENCE_S, wait_until
from worker.beat import PATIENCE

NAME = "db.panel.test"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls"), "servers", ["127.0.0.1", NAME], datetime.now(UTC))


@pytest.fixture
def tls_redis(redis_server: EmbeddedRedis, certificates: Certificates) -> Iterator[TlsProxy]:
    with tls_proxy(redis_server.port, certificates) as proxy:
        yield proxy


def redis_settings(server: EmbeddedRedis, proxy: TlsProxy, ca_file: Path | None) -> Settings:
    url = server.url.replace("redis://", "rediss://").replace(f":{server.port}/", f":{proxy.port}/")
    return Settings(_env_file=None, redis_url=url, redis_ca_file=ca_file)


def by_command(url: str) -> None:
    with redis_client(url, PATIENCE_S) as client:
        client.ping()


def by_the_api(url: str) -> None:
    async def ping() -> None:
        async with async_redis_client(url, PATIENCE_S) as client:
            await client.ping()

    asyncio.run(ping())


def by_the_relay(url: str) -> None:
    pools.reset()  # they know a place by its address, not by its authority
    with producer_app(url) as app:
        CeleryPublisher(app).publish([Doorbell("sync.apply", 1, "op=1")])


def by_a_worker(url: str) -> None:
    with producer_app(url) as app, app.connection_for_read() as connection:
        connection.ensure_connection(max_retries=1, timeout=PATIENCE_S)


def by_flower(url: str) -> None:
    with producer_app(url) as app:
        uri = app.connection().as_uri(include_password=True)
        patience = {"socket_connect_timeout": PATIENCE_S, "socket_timeout": PATIENCE_S}
        broker = Broker(uri, broker_options=patience, broker_use_ssl=app.conf.broker_use_ssl)
        asyncio.run(broker.queues(["sync"]))


CLIENTS = [by_command, by_the_api, by_the_relay, by_a_worker, by_flower]


@pytest.mark.parametrize("reach", CLIENTS)
def test_redis_is_verified_by_every_client(
    redis_server: EmbeddedRedis, tls_redis: TlsProxy, certificates: Certificates, reach: Callable[[str], None]
) -> None:
    with pytest.raises((redis.ConnectionError, KombuError, OSError)):
        reach(redis_settings(redis_server, tls_redis, None).redis_url)
    wait_until(lambda: tls_redis.refused, "the refused handshake")
    assert tls_redis.completed == 0, "no password reached it"
    reach(redis_settings(redis_server, tls_redis, certificates.ca_file).redis_url)
    assert tls_redis.completed > 0


def test_doctor_sees_redis_as_the_workers_do(
    redis_server: EmbeddedRedis, tls_redis: TlsProxy, certificates: Certificates
) -> None:
    [refused] = check_redis(redis_settings(redis_server, tls_redis, None))
    assert refused.verdict is Verdict.PROBLEM
    found = check_redis(redis_settings(redis_server, tls_redis, certificates.ca_file))
    assert all(check.verdict is not Verdict.PROBLEM for check in found)


@pytest.fixture
def tls_postgres(database: Database, certificates: Certificates) -> Iterator[TlsProxy]:
    with tls_proxy(int(database.app_url.rsplit(":", 1)[1].split("/")[0]), certificates, postgres=True) as proxy:
        yield proxy


def elsewhere(url: str, proxy: TlsProxy, more: str = "") -> str:
    """The URL as of a host elsewhere; where that is, libpq is told beside."""
    head, tail = url.rsplit("@", 1)
    return f"{head}@{NAME}:{proxy.port}/{tail.split('/')[1]}?hostaddr=127.0.0.1{more}"


def postgres_settings(database: Database, proxy: TlsProxy, ca_file: Path | None) -> Settings:
    return Settings(
        _env_file=None,
        database_url=elsewhere(database.app_url, proxy),
        database_owner_url=elsewhere(database.owner_url, proxy),
        database_ca_file=ca_file,
    )


def by_an_engine(settings: Settings) -> None:
    engine = sync_engine(settings.database_url, "test")
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))
    engine.dispose()


def by_the_apis_engine(settings: Settings) -> None:
    async def select() -> None:
        engine = async_engine(settings.database_url, "test")
        async with engine.connect() as connection:
            await connection.execute(text("SELECT 1"))
        await engine.dispose()

    asyncio.run(select())


def by_beat(settings: Settings) -> None:
    own_connection(settings.database_url, PATIENCE).close()


def by_a_migration(settings: Settings) -> None:
    migrate(settings.database_owner_url, settings.database_url)


@pytest.mark.parametrize("reach", [by_an_engine, by_the_apis_engine, by_beat, by_a_migration])
def test_postgres_elsewhere_is_verified_by_every_client(
    database: Database, tls_postgres: TlsProxy, certificates: Certificates, reach: Callable[[Settings], None]
) -> None:
    with pytest.raises((OperationalError, psycopg.OperationalError), match="certificate verify failed"):
        reach(postgres_settings(database, tls_postgres, None))
    assert tls_postgres.completed == 0, "no password reached it"
    reach(postgres_settings(database, tls_postgres, certificates.ca_file))
    assert tls_postgres.completed > 0


def test_the_name_must_be_the_servers(database: Database, tls_postgres: TlsProxy, certificates: Certificates) -> None:
    url = elsewhere(database.app_url, tls_postgres).replace(NAME, "another.panel.test")
    with pytest.raises(psycopg.OperationalError, match="does not match host name"):
        own_connection(f"{url}&sslmode=verify-full&sslrootcert={quote(str(certificates.ca_file))}", PATIENCE)


def test_a_server_elsewhere_without_tls_is_refused(database: Database) -> None:
    url = database.app_url.replace("127.0.0.1", NAME) + "?hostaddr=127.0.0.1"
    with pytest.raises(psycopg.OperationalError, match="server does not support SSL"):
        own_connection(url, PATIENCE)
    own_connection(f"{url}&sslmode=disable", PATIENCE).close()


def test_doctor_sees_a_certificate_that_nobody_vouches_for(database: Database, tls_postgres: TlsProxy) -> None:
    [refused] = check_postgres(postgres_settings(database, tls_postgres, None))
    assert refused.verdict is Verdict.PROBLEM
