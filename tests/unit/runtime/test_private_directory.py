import os
from pathlib import Path

import pytest

from runtime.errors import RuntimeFaultError
from runtime.private_directory import private_directory
from runtime.processes.children import Account
from runtime.servers.server_account import can_enter

STRANGER = Account(uid=os.geteuid() + 54_321, gid=os.getegid() + 54_321)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_made_with_the_mode_asked_for_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        made = private_directory(tmp_path / "mine", mode=0o711)
    finally:
        os.umask(before)
    assert made.stat().st_mode & 0o7777 == 0o711
    assert private_directory(tmp_path / "mine", mode=0o711) == made


def test_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "mine").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RuntimeFaultError, match="not a directory that only this user can write to"):
        private_directory(tmp_path / "mine", mode=0o700)


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o1777])
def test_a_directory_others_can_write_to_is_refused(tmp_path: Path, mode: int) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine").chmod(mode)
    with pytest.raises(RuntimeFaultError):
        private_directory(tmp_path / "mine", mode=0o700)
    assert (tmp_path / "mine").stat().st_mode & 0o7777 == mode


def test_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    with pytest.raises(RuntimeFaultError):
        private_directory(tmp_path / "mine", mode=0o700)


def test_another_users_directory_is_refused(tmp_path: Path) -> None:
    anothers = Path("/usr")  # root's
    if os.geteuid() == 0:  # only root can give a directory away
        anothers = tmp_path / "mine"
        anothers.mkdir(mode=0o755)
        os.chown(anothers, STRANGER.uid, STRANGER.gid)
    assert anothers.stat().st_uid != os.geteuid()
    with pytest.raises(RuntimeFaultError, match="not a directory that only this user can write to"):
        private_directory(anothers, mode=0o700)


def test_one_closed_parent_keeps_a_stranger_out(tmp_path: Path) -> None:
    # pytest's own directories are closed to others.
    (tmp_path / "open").mkdir(mode=0o755)
    assert not can_enter(tmp_path / "open", STRANGER)
    assert can_enter(tmp_path / "open", Account(os.geteuid(), os.getegid()))
    assert can_enter(Path("/var/tmp"), STRANGER)  # noqa: S108 - looked at, not used
    assert can_enter(Path("/var/tmp/not-there-yet"), STRANGER)  # noqa: S108 - looked at, not used
