"""The states of ``/readyz``: each possible state, what it means, and what to do. Pure.

The OpenAPI document and docs/operations.md say the same. A test compares them with each other and with the code.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

OK = "ok"
READ_ONLY = "read-only"
AWAY = "away"
NO_SESSION = "away (gives no session)"
NOT_CONFIGURED = "not configured"


@dataclass(frozen=True, slots=True)
class ReadinessState:
    """One state of a check. ``word``: as ``/readyz`` answers it; the parts in braces vary. ``answered``: the HTTP
    status that it leads to. ``means`` and ``do``: for operators."""

    check: str
    word: str
    answered: int
    means: str
    do: str


READINESS = (
    ReadinessState("database", OK, 200, "it is there, with this version's tables, and takes writes", "nothing"),
    ReadinessState(
        "database", READ_ONLY, 200,
        "it takes no writes: a standby, or a full disk. Clients can read; each call is answered 503",
        "point `DATABASE_URL` to the server that takes writes, or make room; nothing needs a restart",
    ),
    ReadinessState(
        "database", AWAY, 503, "it cannot be reached, or does not answer in time",
        "bring it back; `panel-sync doctor` names the fault",
    ),
    ReadinessState(
        "database", NO_SESSION, 503,
        "something answers at its address and lets nobody in: a wrong password, no such database, too many "
        "connections, or it is just starting",
        "`panel-sync doctor` shows what the server says",
    ),
    ReadinessState(
        "database", "away (SQLSTATE {code})", 503,
        "it answers and refuses with this code (42501: a right is missing)",
        "`panel-sync doctor` explains the code",
    ),
    ReadinessState(
        "database", "at migration {revision}, this version needs {needed}", 503,
        "its tables are those of another version",
        "`panel-sync migrate`; if {revision} is the newer one, start the newer version's parts",
    ),
    ReadinessState("redis", OK, 200, "it takes a message and gives it back", "nothing"),
    ReadinessState(
        "redis", AWAY, 200, "it cannot be reached, or its certificate is not trusted. Calls wait in the journal",
        "bring it back; `panel-sync doctor` says which of the two it is",
    ),
    ReadinessState(
        "redis", "refuses: {code}", 200, "it answers and takes no work (`READONLY`, `OOM`, `NOPERM`). Calls wait",
        "`panel-sync doctor` says what the code means and what to do",
    ),
    ReadinessState(
        "redis", NOT_CONFIGURED, 200, "`REDIS_URL` is empty. Calls are accepted and wait", "set `REDIS_URL`"
    ),
    ReadinessState("relay", OK, 200, "it publishes what was accepted", "nothing"),
    ReadinessState(
        "relay", "ok, by polling: no session of its own (set DATABASE_SESSION_URL)", 200,
        "it publishes up to a second later, because a pooler keeps it from hearing of calls at once",
        "set `DATABASE_SESSION_URL`",
    ),
    ReadinessState(
        "relay", "publishing fails: {code}", 200,
        "Redis did not take the last messages: its code, or the error's class",
        "repair Redis; the relay tries again by itself",
    ),
    ReadinessState(
        "relay", "publishing to {queues} fails: {code}", 200,
        "Redis takes sync calls, and refuses the messages of these queues",
        "`panel-sync doctor` names the right that is missing",
    ),
    ReadinessState(
        "relay", "database away", 200, "it cannot read the journal", "as for `database`; it tries again by itself"
    ),
    ReadinessState(
        "relay", "failing for {parts}: {code}", 200,
        "calls are published; power actions or events for the main site are not: PostgreSQL refuses what they need, "
        "with this code",
        "look for `relay_part_failed` in the API's log; `panel-sync migrate` gives missing rights again",
    ),
    ReadinessState(
        "relay", "failing: {class}", 200, "an unexpected error; it keeps trying",
        "look for `relay_failed` in the API's log, and report it",
    ),
    ReadinessState(
        "relay", "stalled", 200, "it has done nothing for 30 s. Calls are accepted and wait",
        "restart the API if that lasts; `panel-sync relay` starts a second relay",
    ),
    ReadinessState(
        "relay", "stopped", 200, "the API is ending, or the relay's thread is gone", "restart the API if it lasts"
    ),
    ReadinessState("relay", NOT_CONFIGURED, 200, "`REDIS_URL` is empty", "set `REDIS_URL`"),
)  # fmt: skip


def pattern_of(check: str) -> str:
    """A regular expression, for Python and JSON Schema, that matches every word of the check."""
    return f"^({'|'.join(_pattern(state.word) for state in READINESS if state.check == check)})$"


def _pattern(word: str) -> str:
    return re.sub(r"\{\w+\}", ".+", re.sub(r"[()]", r"\\\g<0>", word))


def description_of(check: str) -> str:
    """The words of the check with their meaning and remedy, for the OpenAPI document."""
    return "\n".join(
        f"* `{state.word}`: {state.means}. To do: {state.do}." for state in READINESS if state.check == check
    )
