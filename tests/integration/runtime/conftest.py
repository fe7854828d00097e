import os
import select
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from runtime.servers.embedded_postgres import EmbeddedPostgres
from runtime.servers.embedded_redis import EmbeddedRedis
from runtime.servers.embedded_server import EmbeddedServer


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that every user can enter, unlike pytest's own."""
    path = Path(tempfile.mkdtemp(prefix="panel-sync-test-", dir="/var/tmp"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def write(server: EmbeddedServer, value: str) -> None:
    """Store a value so that a crash of the server right after doesn't lose it."""
    if isinstance(server, EmbeddedPostgres):
        with psycopg.connect(server.admin_url()) as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS kept (value text)")
            connection.execute("INSERT INTO kept VALUES (%s)", (value,))
    elif isinstance(server, EmbeddedRedis):
        with connect_redis(server) as client:
            client.rpush("kept", value)
            # The append-only file is written before the reply; only its fsync may lag by a second.


def read(server: EmbeddedServer, within_s: int = 60) -> list[str]:
    """Return the stored values, in order. Raises the client's error if the server does not answer in time."""
    if isinstance(server, EmbeddedPostgres):
        with psycopg.connect(server.admin_url(), connect_timeout=within_s) as connection:
            return [row[0] for row in connection.execute("SELECT value FROM kept")]
    assert isinstance(server, EmbeddedRedis)
    with connect_redis(server, within_s) as client:
        values: list[bytes] = client.lrange("kept", 0, -1)
    return [value.decode() for value in values]


def connect_redis(server: EmbeddedRedis, within_s: int = 60) -> redis.Redis:
    return redis.Redis.from_url(server.url, socket_timeout=within_s, retry=Retry(NoBackoff(), 0))


def wait_gone(pid: int, timeout_s: float) -> bool:
    """Return whether a process, a child of ours or not, ended in time."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], timeout_s)[0])
    finally:
        os.close(descriptor)


Server = EmbeddedPostgres | EmbeddedRedis
Make = Callable[[], Server]


def new_server(kind: str, data_dir: Path) -> Server:
    return EmbeddedPostgres(data_dir, durable=False) if kind == "postgres" else EmbeddedRedis(data_dir)


@pytest.fixture(scope="module", params=["postgres", "redis"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def shared_data_dir(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A server's directory that outlives single tests, since making one takes the most time."""
    path = tmp_path_factory.mktemp(kind) / "server"
    yield path
    new_server(kind, path).destroy()
    assert not path.exists()


@pytest.fixture
def make(kind: str, shared_data_dir: Path) -> Iterator[Make]:
    """A maker of servers of one kind, all on the same directory."""
    made: list[Server] = []

    def one() -> Server:
        made.append(new_server(kind, shared_data_dir))
        return made[-1]

    yield one
    for server in made:
        server.stop()
