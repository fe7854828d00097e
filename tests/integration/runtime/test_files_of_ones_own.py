"""Whatever lies in the data directory is for this user alone, whatever the umask."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli import main
from runtime.paths import DataDirectory
from runtime.processes.supervisor import ManagedProcess
from runtime.servers.embedded_postgres import EmbeddedPostgres
from runtime.servers.embedded_redis import EmbeddedRedis

WRITES = (
    "import pathlib, shelve, sys; shelve.open(sys.argv[1]).close(); pathlib.Path(sys.argv[2]).mkdir();"
    " pathlib.Path(sys.argv[2], 'file').write_text('x')"
)


@pytest.fixture(params=[0o000, 0o022, 0o077], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def open_to_others(root: Path) -> list[str]:
    return [
        f"{path.relative_to(root.parent)} {stat.S_IMODE(path.lstat().st_mode):o}"
        for path in (root, *root.rglob("*"))
        if not path.is_symlink() and not path.is_socket() and path.lstat().st_mode & 0o077
    ]


def test_servers_processes_and_logs(tmp_path: Path, umask: int) -> None:
    root = tmp_path / "new" / "data"
    with DataDirectory(root) as data:
        redis, postgres = EmbeddedRedis(data.redis), EmbeddedPostgres(data.postgres, durable=False)
        with redis, postgres:
            process = ManagedProcess(
                "writes",
                [sys.executable, "-c", WRITES, str(root / "shelf"), str(root / "made")],
                {},
                data.log_path("x"),
            )
            process.start()
            assert process.wait_exit(60)
            process.stop()
            # Root's PostgreSQL has an account of its own, which passes through this directory to its files.
            passed = [f"data/postgres {0o711 & ~umask:o}"] if os.geteuid() == 0 else []
            assert sorted(set(open_to_others(root)) - set(passed)) == []
        postgres.destroy()
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700


def test_what_an_earlier_version_left_open_is_closed(tmp_path: Path) -> None:
    root = tmp_path / "data"
    root.mkdir(mode=0o755)
    for name, mode in {"beat-schedule": 0o644, "flower-state": 0o666, "flower-state.db": 0o640}.items():
        (root / name).write_text("x")
        (root / name).chmod(mode)
    (root / "redis").mkdir()
    (root / "redis").chmod(0o755 if os.geteuid() else 0o700)
    outside = tmp_path / "outside"
    outside.write_text("x")
    outside.chmod(0o644)
    (root / "link").symlink_to(outside)
    with DataDirectory(root):
        # The directory itself may be one that others use, too: it stays as its owner made it.
        assert open_to_others(root) == ["data 755"]
    assert stat.S_IMODE(outside.stat().st_mode) == 0o644


def test_commands_and_what_they_become(tmp_path: Path, umask: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def command() -> None:
        (tmp_path / "file").write_text("x")
        (tmp_path / "directory").mkdir()

    monkeypatch.setattr(main, "app", command)
    main.main()
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "directory").stat().st_mode) == 0o700
    assert os.umask(umask) == umask, "left as it was"
