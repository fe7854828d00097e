"""Where PostgreSQL's programs and cluster lie, and what becomes of them when a run ended badly."""

import os
import shutil
from pathlib import Path

import psycopg
import pytest

from runtime.errors import NotInstalledError
from runtime.processes.children import Account
from runtime.servers import embedded_postgres, postgres_installation, server_account
from runtime.servers.embedded_postgres import (
    EmbeddedPostgres,
    PostgresInstallation,
    find_postgres_installations,
)
from runtime.servers.postgres_installation import choose_installation, probe_version, reachable_installation
from runtime.servers.server_account import can_enter, unprivileged_account


@pytest.fixture
def account(tmp_path: Path, open_directory: Path, monkeypatch: pytest.MonkeyPatch) -> Account:
    """Whom PostgreSQL is to run as, which only ``open_directory`` is open to, and not pytest's own directories.

    Root has such a user. An ordinary user can become nobody else, so that there PostgreSQL runs as that user and is
    only told that pytest's directories are closed to it.
    """
    monkeypatch.setattr(server_account, "SHARED_DIRECTORIES", (open_directory,))
    if (found := unprivileged_account()) is not None:
        return found
    us = Account(os.geteuid(), os.getegid())

    def entered(directory: Path, account: Account) -> bool:
        return not directory.is_relative_to(tmp_path) and can_enter(directory, account)

    def probed(bin_dir: Path, account: Account | None = None) -> str | None:
        return None if account is not None and bin_dir.is_relative_to(tmp_path) else probe_version(bin_dir, account)

    monkeypatch.setattr(embedded_postgres, "unprivileged_account", lambda: us)
    monkeypatch.setattr(embedded_postgres, "can_enter", entered)
    monkeypatch.setattr(postgres_installation, "probe_version", probed)
    return us


def test_the_wheel_is_preferred_and_each_installation_is_listed_once() -> None:
    found = find_postgres_installations()
    assert found[0].origin == "embedded_postgres"
    assert found[0].major == 18
    assert len({each.bin_dir for each in found}) == len(found)
    assert all(each.major >= 15 for each in found)
    assert all(probe_version(each.bin_dir) == each.version for each in found)


@pytest.mark.parametrize("installation", find_postgres_installations(), ids=lambda each: f"{each.major}-{each.origin}")
def test_every_installation_serves_utf8_utc_and_many_connections(
    installation: PostgresInstallation, tmp_path: Path
) -> None:
    server = EmbeddedPostgres(tmp_path / "server", binaries=installation.bin_dir, durable=False)
    try:
        server.start()
        assert server.version == installation.version
        with psycopg.connect(server.admin_url()) as connection:

            def show(name: str) -> str:
                row = connection.execute("SELECT current_setting(%s)", (name,)).fetchone()
                assert row is not None
                return str(row[0])

            assert show("server_encoding") == "UTF8"
            assert show("TimeZone") == "UTC"
            assert show("max_connections") == "200"
            assert show("listen_addresses") == "127.0.0.1"
            assert show("unix_socket_directories") == ""
            assert (show("fsync"), show("synchronous_commit")) == ("off", "on")
            assert show("server_version").startswith(installation.version)
        server.stop()
        # From now on the cluster decides the version, whatever is preferred.
        with (
            EmbeddedPostgres(tmp_path / "server") as durable,
            psycopg.connect(durable.admin_url()) as connection,
        ):
            assert durable.version.split(".")[0] == str(installation.major)
            assert connection.execute("SHOW fsync").fetchone() == ("on",)
    finally:
        server.destroy()


@pytest.mark.parametrize("started_before", [False, True])
def test_a_destroyed_server_starts_again_empty(tmp_path: Path, started_before: bool) -> None:
    server = EmbeddedPostgres(tmp_path / "server", durable=False)
    try:
        if started_before:
            server.start()
            with psycopg.connect(server.admin_url()) as connection:
                connection.execute("CREATE TABLE kept ()")
        server.destroy()
        server.start()
        with psycopg.connect(server.admin_url()) as connection:
            assert connection.execute("SELECT to_regclass('kept')").fetchone() == (None,)
    finally:
        server.destroy()


def test_a_cluster_of_a_version_that_is_not_installed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotInstalledError, match="made by PostgreSQL 12"):
        choose_installation(binaries=None, major=12)
    with pytest.raises(NotInstalledError, match="no PostgreSQL that runs"):
        choose_installation(binaries=tmp_path, major=None)


def test_nothing_installed_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_installation, "_candidates", list)
    with pytest.raises(NotInstalledError, match=r"embedded-postgres.*DATABASE_URL"):
        choose_installation(binaries=None, major=None)


def test_a_wrapper_script_is_no_installation(tmp_path: Path) -> None:
    for name in ("postgres", "initdb"):
        (tmp_path / name).write_text('#!/bin/sh\necho "postgres (PostgreSQL) 18.6"\n')
        (tmp_path / name).chmod(0o755)
    assert probe_version(tmp_path) is None


def test_an_open_directory_keeps_its_cluster_and_closes_it_to_others(open_directory: Path) -> None:
    server = EmbeddedPostgres(open_directory / "server", durable=False)
    assert server.cluster_dir == open_directory / "server" / "cluster"
    with server:
        account = unprivileged_account()
        assert server.cluster_dir.stat().st_mode & 0o777 == 0o700
        assert server.cluster_dir.stat().st_uid == (account.uid if account else os.geteuid())
        assert server.cluster_dir.stat().st_uid != 0

    # Whatever a crash leaves of PostgreSQL's own pid file, the next start gets past it.
    pid_file = server.cluster_dir / "postmaster.pid"
    for leftover in ("of a dead process", "of a process that is something else now", "empty"):
        server.start()
        recorded = pid_file.read_text()
        server.kill()
        assert pid_file.read_text() == recorded, leftover
        if leftover == "of a process that is something else now":
            # Process 1 always lives, and is neither PostgreSQL nor its parent.
            pid_file.write_text("1\n" + recorded.partition("\n")[2])
        elif leftover == "empty":
            pid_file.write_text("")
    server.start()
    server.stop()


def test_a_closed_directory_gets_its_cluster_elsewhere_and_nothing_is_opened(
    tmp_path: Path, open_directory: Path, account: Account
) -> None:
    modes = {path: path.stat().st_mode for path in tmp_path.parents}
    with EmbeddedPostgres(tmp_path / "server", durable=False) as server:
        assert server.cluster_dir.is_relative_to(open_directory)
        assert server._home.stat().st_mode & 0o777 == 0o711
    assert {path: path.stat().st_mode for path in tmp_path.parents} == modes

    # Its data directory removed by hand, the cluster elsewhere is forgotten too: a fresh one is made.
    with server, psycopg.connect(server.admin_url()) as connection:
        connection.execute("CREATE TABLE old ()")
    shutil.rmtree(tmp_path / "server")
    with (
        EmbeddedPostgres(tmp_path / "server", durable=False) as fresh,
        psycopg.connect(fresh.admin_url()) as connection,
    ):
        assert fresh.cluster_dir == server.cluster_dir
        assert connection.execute("SELECT to_regclass('old')").fetchone() == (None,)
    fresh.destroy()
    assert not server._home.exists()


def test_programs_in_a_closed_environment_are_copied_once(
    tmp_path: Path, open_directory: Path, account: Account
) -> None:
    wheel = find_postgres_installations()[0]
    package = wheel.bin_dir.parent.parent
    closed = tmp_path / "site-packages"
    shutil.copytree(package, closed / package.name, symlinks=True)
    libraries = package.with_name(package.name + ".libs")
    shutil.copytree(libraries, closed / libraries.name)
    hidden = PostgresInstallation(wheel.version, closed / package.name / "pginstall" / "bin", wheel.origin)

    copied = reachable_installation(hidden, account)
    assert copied.bin_dir.is_relative_to(open_directory)
    inode = (copied.bin_dir / "postgres").stat().st_ino
    again = reachable_installation(hidden, account)
    assert again == copied
    assert (again.bin_dir / "postgres").stat().st_ino == inode
    assert reachable_installation(wheel, None) is wheel

    server = EmbeddedPostgres(open_directory / "server", binaries=copied.bin_dir, durable=False)
    with server, psycopg.connect(server.admin_url()) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
