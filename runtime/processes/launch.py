"""Become another program that gets a signal when its parent dies.

A bare interpreter runs this file by path, between fork and the real program:

    python -I -S launch.py PARENT_PID DEATH_SIGNAL UID:GID|- PROGRAM [ARGUMENT ...]

This is a program of its own, because a pre-exec hook is unsafe in a parent with threads. It runs on Linux only.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_EXIT_ORPHANED = 125
_EXIT_NOT_STARTED = 127


def main(arguments: list[str]) -> int:
    """Drop privileges if asked, tie this process to its parent, exec. Returns only on failure."""
    parent, death_signal, account, *argv = arguments
    # From /proc, because this interpreter may have added a locale to os.environ. Before the change of user, because
    # after it this process may not read the file.
    given = Path("/proc/self/environ").read_bytes().split(b"\0")
    environment = dict(entry.split(b"=", 1) for entry in given if b"=" in entry)
    if account != "-":
        uid, gid = (int(part) for part in account.split(":"))
        os.setgroups([gid])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    # After the change of user, which would clear this setting.
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0) != 0:
        sys.stderr.write(f"cannot be tied to the parent process: {os.strerror(ctypes.get_errno())}\n")
        return _EXIT_NOT_STARTED
    # If the parent died before the call above, its death sends no signal any more.
    if os.getppid() != int(parent):
        return _EXIT_ORPHANED
    # Ignored signals and the mask survive exec, and this interpreter ignores some signals by itself.
    for number in signal.valid_signals():
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    try:
        os.execvpe(argv[0], argv, environment)  # noqa: S606 - the caller chose the program, no shell takes part
    except OSError as error:
        sys.stderr.write(f"cannot run {argv[0]}: {error.strerror}\n")
        return _EXIT_NOT_STARTED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
