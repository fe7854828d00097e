"""The user that an embedded PostgreSQL runs as, and the places that this user can reach.

PostgreSQL refuses to run as root. Started by root, it gets an unprivileged user, which cannot enter root's directories.
Its files then go under a shared temporary directory. The rights of an existing directory never change.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import stat
from collections.abc import Iterator
from pathlib import Path

from runtime.errors import RuntimeFaultError
from runtime.private_directory import private_directory
from runtime.processes.children import Account

# First those that keep their content over a restart of the machine.
SHARED_DIRECTORIES = (Path("/var/tmp"), Path("/tmp"))  # noqa: S108 - guarded by private_directory

_UNPRIVILEGED = ("postgres", "nobody")


def unprivileged_account() -> Account | None:
    """Return the account to switch to, or None if this process is an ordinary user."""
    if os.geteuid() != 0:
        return None
    for name in _UNPRIVILEGED:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(uid=entry.pw_uid, gid=entry.pw_gid)
    raise RuntimeFaultError("PostgreSQL can't run as root and there is neither a user postgres nor nobody")


def can_enter(directory: Path, account: Account) -> bool:
    """Return whether `account` may pass through `directory` and everything above it.

    Directories that do not exist yet count as ours to make.
    """
    resolved = directory.resolve()
    return all(_may_pass(path, account) for path in (resolved, *resolved.parents))


def shared_places(purpose: str) -> Iterator[Path]:
    """Yield directories, named after `purpose`, that every user can enter and only this user can write to.

    The name is the same each time, so that files in it are found again.
    """
    digest = hashlib.sha256(purpose.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    refused: list[str] = []
    for shared in SHARED_DIRECTORIES:
        try:
            yield private_directory(shared / f"panel-sync-{os.geteuid()}-{digest}", mode=0o711)
        except (OSError, RuntimeFaultError) as error:
            refused.append(str(error))
    if len(refused) == len(SHARED_DIRECTORIES):
        raise RuntimeFaultError("no directory that an unprivileged PostgreSQL can enter: " + "; ".join(refused))


def _may_pass(directory: Path, account: Account) -> bool:
    try:
        found = directory.stat()
    except FileNotFoundError:
        return True
    if found.st_uid == account.uid:
        return bool(found.st_mode & stat.S_IXUSR)
    if found.st_gid == account.gid:
        return bool(found.st_mode & stat.S_IXGRP)
    return bool(found.st_mode & stat.S_IXOTH)
