"""The user that an embedded PostgreSQL runs as, and the places that this user can reach.

PostgreSQL refuses to run as root. If this process is root, the server runs as an unprivileged user, which cannot enter
root's directories. Its files then go under a shared temporary directory. The rights of existing directories never
change.
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

# The first one keeps its content over a restart of the machine.
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
    raise RuntimeFaultError(
        "PostgreSQL can't run as root, and this machine has no user postgres or nobody to run it as; start this "
        "program as an ordinary user"
    )


def can_enter(directory: Path, account: Account) -> bool:
    """Return whether `account` may pass through `directory` and every directory above it.

    A directory that does not exist yet counts as passable, because this process will make it.
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
        status = directory.stat()
    except FileNotFoundError:
        return True
    if status.st_uid == account.uid:
        return bool(status.st_mode & stat.S_IXUSR)
    if status.st_gid == account.gid:
        return bool(status.st_mode & stat.S_IXGRP)
    return bool(status.st_mode & stat.S_IXOTH)
