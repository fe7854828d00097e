"""How many files a process may have open. Each connection is one, and the usual limit is 1,024."""

from __future__ import annotations

import resource

import structlog

log = structlog.get_logger(__name__)


def allow_open_files(wanted: int) -> None:
    """Raise this process's limit of open files to ``wanted``, as far as the system allows.

    With too few a caller waits for an accepted connection until another one ends; nothing else is lost.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
        if allowed < wanted:
            log.warning("few_open_files", allowed=allowed, wanted=wanted, remedy="raise `ulimit -Hn` for the API")
