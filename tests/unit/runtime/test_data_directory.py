import contextlib
import os
import pwd
from collections.abc import Iterator
from pathlib import Path

import pytest

import runtime
from runtime.errors import InUseError, RuntimeFaultError
from runtime.paths import DataDirectory, default_data_dir


def test_the_variable_wins(tmp_path: Path) -> None:
    assert default_data_dir({"PANEL_DATA_DIR": str(tmp_path / "x")}, Path("/")) == tmp_path / "x"


@pytest.mark.parametrize("environ", [{}, {"PANEL_DATA_DIR": " "}])
def test_a_checkout_keeps_its_data_inside(environ: dict[str, str]) -> None:
    checkout = Path(runtime.__file__).resolve().parent.parent
    assert default_data_dir(environ, Path("/elsewhere")) == checkout / ".data"


def test_installed_without_a_checkout_the_working_directory_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "__file__", str(tmp_path / "site-packages" / "runtime" / "__init__.py"))
    assert default_data_dir({}, tmp_path / "work") == tmp_path / "work" / ".data"


def test_two_runs_do_not_share_a_directory(tmp_path: Path) -> None:
    with DataDirectory(tmp_path / "data") as data:
        assert data.logs.is_dir()
        assert data.log_path("api") == tmp_path / "data" / "logs" / "api.log"
        with pytest.raises(InUseError, match="the data directory"):
            DataDirectory(tmp_path / "data").acquire()
    with DataDirectory(tmp_path / "data"):
        pass


def test_an_unwritable_place_names_the_setting(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with as_ordinary_user(), pytest.raises(RuntimeFaultError, match="PANEL_DATA_DIR"):
        DataDirectory(tmp_path / "data").acquire()
    tmp_path.chmod(0o700)


@contextlib.contextmanager
def as_ordinary_user() -> Iterator[None]:
    """Root may write everywhere, so that it is nobody while the block lasts."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(pwd.getpwnam("nobody").pw_uid)
    try:
        yield
    finally:
        os.seteuid(before)
