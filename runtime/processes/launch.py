"""Become another program that is signalled when its parent dies.

Run by path, by a bare interpreter, between fork and the real program:

    python -I -S launch.py PARENT_PID DEATH_SIGNAL UID:GID|- PROGRAM [ARGUMENT ...]

A separate program rather than a pre-exec hook, which is unsafe in a parent with threads. Linux only.
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
    """Drop privileges if asked, tie this process to its parent, exec; return only on failure."""
    parent, death_signal, account, *argv = arguments
    # As given: by now this interpreter may have added a locale to it. Read first, since afterwards the
    # file belongs to a user this process no longer is.
    given = Path("/proc/self/environ").read_bytes().split(b"\0")
    environment = dict(entry.split(b"=", 1) for entry in given if b"=" in entry)
    if account != "-":
        uid, gid = (int(part) for part in account.split(":"))
        os.setgroups([gid])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    # After the change of user, which clears the setting.
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0) != 0:
        sys.stderr.write(f"cannot be tied to the parent process: {os.strerror(ctypes.get_errno())}\n")
        return _EXIT_NOT_STARTED
    # A parent that died before the call above sends nothing any more.
    if os.getppid() != int(parent):
        return _EXIT_ORPHANED
    # Ignored signals and the mask survive exec; this interpreter ignores some by itself.
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
