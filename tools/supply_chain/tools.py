"""The audit tools in an environment of their own: their dependencies are nobody else's.

Nothing of the panel is installed there, so that what looks for tampering does not depend on what it looks at.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / ".venv-audit"
LOCK = ROOT / "requirements" / "audit.lock"

NETWORK_AWAY = re.compile(
    r"NewConnectionError|ConnectTimeout|ReadTimeout|ConnectionError|ProxyError|Failed to establish a new connection"
    r"|Name or service not known|Temporary failure in name resolution|Network is unreachable|Connection refused"
    r"|connection broken by|SSLError|CERTIFICATE_VERIFY_FAILED|\(from versions: none\)",
    re.IGNORECASE,
)
"""How pip and requests say that nobody answered, or somebody else (a proxy that breaks TLS): there is no other way."""

HASHES_DIFFER = "DO NOT MATCH THE HASHES"


class ToolsFailedError(Exception):
    """The tools could not be installed for another reason than the network. One sentence, and pip's own words."""


class ToolsAwayError(Exception):
    """The tools are not here and there is no network to get them from."""


@dataclass(frozen=True, slots=True)
class Ran:
    """What a program did."""

    code: int
    out: str
    err: str


def run(program: str, *arguments: str) -> Ran:
    """Run a program of the tools' environment to its end, in the checkout's directory."""
    command = [str(TOOLS / "bin" / program), *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603 - fixed programs
    return Ran(done.returncode, done.stdout, done.stderr)


def installed() -> bool:
    """Whether the environment is there and made from the lock as it stands."""
    stamp = TOOLS / ".installed"
    return stamp.is_file() and stamp.read_text(encoding="ascii") == _digest()


def install() -> None:
    """Make the environment unless it is there. Raises ToolsAwayError, ToolsFailedError."""
    if installed():
        return
    made = subprocess.run(  # noqa: S603 - this interpreter
        [sys.executable, "-m", "venv", "--clear", str(TOOLS)], capture_output=True, text=True, check=False
    )
    if made.returncode:
        raise ToolsFailedError(f"no virtual environment could be made: {last_line(made.stderr or made.stdout)}")
    ran = run(
        "python", "-m", "pip", "install", "-q", "--disable-pip-version-check", "--require-hashes", "-r", str(LOCK)
    )
    if ran.code:
        raise judge_installation(ran)
    (TOOLS / ".installed").write_text(_digest(), encoding="ascii")


def judge_installation(ran: Ran) -> Exception:
    """Why pip failed. A package that is not the pinned one is never taken for an absent network."""
    said = ran.err + ran.out
    if HASHES_DIFFER in said:
        return ToolsFailedError("a package of requirements/audit.lock is not the pinned one: its hash differs")
    if NETWORK_AWAY.search(said):
        return ToolsAwayError("the audit tools are not installed and could not be fetched")
    return ToolsFailedError(f"the audit tools could not be installed: {last_line(said)}")


def last_line(text: str) -> str:
    """The last line that says something."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"


def _digest() -> str:
    return hashlib.sha256(LOCK.read_bytes() + sys.version.encode()).hexdigest()
