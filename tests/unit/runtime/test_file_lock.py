import os
from pathlib import Path

import pytest

from runtime.errors import InUseError
from runtime.file_lock import FileLock


def test_a_second_holder_is_refused_and_told_who_holds_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    holder = FileLock(path, what="the thing")
    holder.acquire()
    with pytest.raises(InUseError, match=f"the thing .* {os.getpid()}"):
        FileLock(path, what="the thing").acquire()
    holder.release()


def test_taking_it_twice_is_refused(tmp_path: Path) -> None:
    lock = FileLock(tmp_path / "lock", what="the thing")
    lock.acquire()
    with pytest.raises(InUseError):
        lock.acquire()
    lock.release()


def test_free_again_after_release(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    first = FileLock(path, what="the thing")
    first.acquire()
    first.release()
    first.release()
    second = FileLock(path, what="the thing")
    second.acquire()
    assert path.read_text() == f"{os.getpid()}\n"
    second.release()
    assert path.read_text() == ""


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "lock").symlink_to(victim)
    with pytest.raises(OSError, match="symbolic links"):
        FileLock(tmp_path / "lock", what="the thing").acquire()
    assert victim.read_text() == "precious"
